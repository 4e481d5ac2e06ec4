//! The handle of a discovery directory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::id::InstanceId;

use crate::discovery::backend::{Backend, BoxFuture, Claim, Edit, Place, Registration, random_instance_id};
use crate::discovery::counters::{Counters, Tally};
use crate::discovery::error::Error;
use crate::discovery::file::keeper::Keeper;
use crate::discovery::file::name;
use crate::discovery::file::shared::{Claimed, Command, Shared};
use crate::discovery::file::store::Store;
use crate::discovery::file::timing::Timing;
use crate::discovery::hub::Watch;
use crate::discovery::rooms::{Rooms, Shape, Stored};

/// Requests that may wait for the thread; one more waits for room.
const REQUESTS: usize = 256;

/// A directory of records, shared with other processes. Clones share one thread for each kind of record in use, which lives
/// as long as any clone, registration or watch. A record of a process that dies without a word disappears within
/// [`Timing::ttl`].
#[derive(Clone, Debug)]
pub struct File {
    place: Arc<Directory>,
    id: InstanceId,
}

#[derive(Debug)]
struct Directory {
    root: PathBuf,
    timing: Timing,
    rooms: Rooms<OnDisk>,
    tally: Tally,
}

/// What a directory keeps of a kind.
#[derive(Debug)]
enum OnDisk {}

/// A directory of its own, opened when first needed.
impl Shape for OnDisk {
    type Room<R: Kind> = Mutex<Option<Arc<Owner<R>>>>;
}

impl Directory {
    /// The thread that keeps the records of this kind.
    fn owner<R: Stored>(&self) -> Result<Arc<Owner<R>>, Error> {
        let mut room = R::room(&self.rooms).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = &*room {
            return Ok(Arc::clone(owner));
        }
        Ok(Arc::clone(room.insert(Arc::new(Owner::start(&self.root, self.timing, &self.tally)?))))
    }
}

impl File {
    /// Opens the directory `root`, as in `DYN_FILE_KV`; it is made if need be. Returns once what is there is known.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be made, read or watched.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, Error> {
        Self::with_timing(root, Timing::default())
    }

    /// Opens with another timing.
    ///
    /// # Errors
    /// [`Error::Timing`] unless two touches fit into the time to live.
    pub fn with_timing(root: impl AsRef<Path>, timing: Timing) -> Result<Self, Error> {
        if timing.touch.is_zero() || timing.touch * 2 > timing.ttl {
            return Err(Error::Timing { touch: timing.touch, ttl: timing.ttl });
        }
        let place =
            Directory { root: root.as_ref().to_owned(), timing, rooms: Rooms::default(), tally: Tally::default() };
        place.owner::<Instance>()?;
        Ok(Self { place: Arc::new(place), id: random_instance_id() })
    }
}

impl Backend for File {
    fn instance_id(&self) -> InstanceId {
        self.id
    }

    fn counters(&self) -> Counters {
        self.place.tally.read()
    }
}

impl<R: Stored> Place<R> for File {
    fn claim(&self, record: R) -> BoxFuture<'_, Result<Registration<R>, Error>> {
        Box::pin(async move {
            let content = record.write().map_err(Error::Record)?.into_bytes();
            let name = name::encode(&R::path(&record.key()));
            if name.len() > name::MAX {
                return Err(Error::NameTooLong { bytes: name.len() });
            }
            let owner = self.place.owner::<R>()?;
            let (record, claimed) = owner.ask(|reply| Command::Publish { name, record, content, reply }).await?;
            Ok(Registration::new(record, FileClaim { claimed, owner }))
        })
    }

    fn list(&self, query: R::Query) -> BoxFuture<'_, Result<Vec<R>, Error>> {
        Box::pin(async move {
            let owner = self.place.owner::<R>()?;
            owner.ask(|reply| Command::Refresh { reply }).await?;
            Ok(owner.shared.hub.list(&query))
        })
    }

    fn watch(&self, query: R::Query) -> BoxFuture<'_, Result<Watch<R>, Error>> {
        Box::pin(async move {
            let owner = self.place.owner::<R>()?;
            owner.ask(|reply| Command::Refresh { reply }).await?;
            let hub = Arc::clone(&owner.shared.hub);
            Ok(hub.watch(query, Some(owner)))
        })
    }
}

/// Ends the thread with the last handle.
struct Owner<R: Kind> {
    shared: Arc<Shared<R>>,
    commands: async_channel::Sender<Command<R>>,
    thread: Option<JoinHandle<()>>,
}

impl<R: Kind> Owner<R> {
    fn start(root: &Path, timing: Timing, tally: &Tally) -> Result<Self, Error> {
        let shared = Shared::new(Store::open(root, R::BUCKET)?, tally.clone())?;
        let (commands, requests) = async_channel::bounded(REQUESTS);
        let keeper = Keeper::new(Arc::clone(&shared), requests, timing)?;
        let spawned = thread::Builder::new().name("discovery".into()).spawn(move || keeper.run());
        let thread = spawned.map_err(|source| {
            let path = shared.store.directory().to_owned();
            Error::Io { doing: "start a thread for", path, source }
        })?;
        Ok(Self { shared, commands, thread: Some(thread) })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(async_channel::Sender<Result<T, Error>>) -> Command<R>,
    ) -> Result<T, Error> {
        let (reply, answer) = async_channel::bounded(1);
        self.commands.send(command(reply)).await.map_err(|_| Error::Stopped)?;
        self.shared.ring();
        answer.recv().await.map_err(|_| Error::Stopped)?
    }
}

impl<R: Kind> fmt::Debug for Owner<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("directory", &self.shared.store.directory()).finish_non_exhaustive()
    }
}

impl<R: Kind> Drop for Owner<R> {
    fn drop(&mut self) {
        self.shared.stop();
        // A waker called by the thread may drop the last watch there; the thread ends by itself then.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// A file of ours. The claim goes first, so that the thread is still there to see it go.
struct FileClaim<R: Kind> {
    claimed: Claimed<R>,
    owner: Arc<Owner<R>>,
}

impl<R: Kind> Claim<R> for FileClaim<R> {
    fn release(mut self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            self.claimed.remove()?;
            self.owner.ask(|reply| Command::Refresh { reply }).await
        })
    }

    fn edit(&self, edit: Edit<R>) -> BoxFuture<'_, Result<R, Error>> {
        let name = self.claimed.name().to_owned();
        Box::pin(self.owner.ask(|reply| Command::Edit { name, edit, reply }))
    }
}
