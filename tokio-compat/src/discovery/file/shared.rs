//! What the thread of a directory and its handles share: wishes, and the files of this process.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringplane_core::chain::Chain;
use ringplane_core::discovery::kind::Kind;
use rustix::event::{EventfdFlags, eventfd};

use crate::discovery::backend::Edit;
use crate::discovery::counters::Tally;
use crate::discovery::error::Error;
use crate::discovery::file::store::{Held, Store};
use crate::discovery::hub::Hub;

/// What the thread is asked for.
pub(super) enum Command<R: Kind> {
    /// Publish a record and keep it alive. The claim comes back with what is there, so that an answer nobody takes undoes
    /// the work.
    Publish { name: String, record: R, content: Vec<u8>, reply: async_channel::Sender<Result<(R, Claimed<R>), Error>> },
    /// Change a record of this process.
    Edit { name: String, edit: Edit<R>, reply: async_channel::Sender<Result<R, Error>> },
    /// Bring what is known up to date.
    Refresh { reply: async_channel::Sender<Result<(), Error>> },
}

/// What the thread and the handles share.
#[derive(Debug)]
pub(super) struct Shared<R: Kind> {
    pub(super) store: Store,
    pub(super) hub: Arc<Hub<R>>,
    /// Files of this process by name: to be touched, and to be made again if somebody removes them.
    owned: Mutex<BTreeMap<String, Owned<R>>>,
    stop: AtomicBool,
    pub(super) tally: Tally,
    pub(super) bell: OwnedFd,
}

/// A file of this process.
#[derive(Debug)]
pub(super) struct Owned<R> {
    pub(super) record: R,
    pub(super) content: Vec<u8>,
    /// The file itself: whatever has its name by now, this one is ours.
    pub(super) held: Held,
    /// How many want it to be there.
    pub(super) claims: usize,
}

impl<R: Kind> Shared<R> {
    pub(super) fn new(store: Store, tally: Tally) -> Result<Arc<Self>, Error> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let bell = bell.map_err(|errno| {
            let path = store.directory().to_owned();
            Error::Io { doing: "wake the keeper of", path, source: errno.into() }
        })?;
        let (hub, owned, stop) = (Arc::default(), Mutex::default(), AtomicBool::new(false));
        Ok(Arc::new(Self { store, hub, owned, stop, tally, bell }))
    }

    /// Makes the thread look up.
    pub(super) fn ring(&self) {
        // Fails only when the bell is ringing already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn owned(&self) -> MutexGuard<'_, BTreeMap<String, Owned<R>>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A published file of this process. The drop of the last one removes it, on the dropping thread: the process may be about
/// to end.
pub(super) struct Claimed<R: Kind> {
    shared: Arc<Shared<R>>,
    name: String,
    removed: bool,
}

impl<R: Kind> Claimed<R> {
    pub(super) fn new(shared: &Arc<Shared<R>>, name: String) -> Self {
        Self { shared: Arc::clone(shared), name, removed: false }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn remove(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        // Under the lock, so that the keeper does not make it again.
        let mut owned = self.shared.owned();
        match owned.get_mut(&self.name) {
            Some(file) if file.claims > 1 => {
                file.claims -= 1;
                Ok(())
            }
            _ => match owned.remove(&self.name) {
                Some(file) => self.shared.store.remove(&self.name, &file.held, &file.content),
                None => Ok(()),
            },
        }
    }
}

impl<R: Kind> Drop for Claimed<R> {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(error = %Chain(&error), "a registration stays until its time runs out");
        }
    }
}
