//! The handle of a discovery directory.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::record;
use ringplane_core::id::InstanceId;

use crate::discovery::backend::{Backend, BoxFuture, Claim, Error, Registration, random_instance_id};
use crate::discovery::file::keeper::{Claimed, Command, Keeper, Shared};
use crate::discovery::file::name;
use crate::discovery::file::store::Store;
use crate::discovery::hub::Watch;

/// Requests that may wait for the thread; one more waits for room.
const REQUESTS: usize = 256;

/// How often a live instance says so, and how long it may be silent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Time between two touches of a file. Default: 3 s; Dynamo's is 3.3 s.
    pub touch: Duration,
    /// Time without a touch after which an instance is dead. Default: 10 s, which is Dynamo's, and which its processes
    /// apply to our files whatever is set here.
    pub ttl: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { touch: Duration::from_secs(3), ttl: Duration::from_secs(10) }
    }
}

/// A directory of instances, shared with other processes. Clones share one thread, which lives as long as any clone,
/// registration or watch. An instance of a process that dies without a word disappears within [`Timing::ttl`].
#[derive(Clone, Debug)]
pub struct File {
    owner: Arc<Owner>,
    id: InstanceId,
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
        let shared = Shared::new(Store::open(root.as_ref())?)?;
        let (commands, requests) = async_channel::bounded(REQUESTS);
        let keeper = Keeper::new(Arc::clone(&shared), requests, timing)?;
        let spawned = thread::Builder::new().name("discovery".into()).spawn(move || keeper.run());
        let thread = spawned.map_err(|source| {
            let path = shared.store.directory().to_owned();
            Error::Io { doing: "start a thread for", path, source }
        })?;
        let owner = Arc::new(Owner { shared, commands, thread: Some(thread) });
        Ok(Self { owner, id: random_instance_id() })
    }
}

impl Backend for File {
    fn instance_id(&self) -> InstanceId {
        self.id
    }

    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, Error>> {
        Box::pin(async move {
            let content = record::write(&instance).map_err(Error::Record)?.into_bytes();
            let name = name::encode(&instance.key());
            if name.len() > name::MAX {
                return Err(Error::NameTooLong { bytes: name.len() });
            }
            let claimed = self.owner.ask(|reply| Command::Publish { name, content, reply }).await?;
            Ok(Registration::new(instance, FileClaim { claimed, owner: Arc::clone(&self.owner) }))
        })
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Vec<Instance>, Error>> {
        Box::pin(async move {
            self.owner.ask(|reply| Command::Refresh { reply }).await?;
            Ok(self.owner.shared.hub.list(&query))
        })
    }

    fn watch(&self, query: Query) -> BoxFuture<'_, Result<Watch, Error>> {
        Box::pin(async move {
            self.owner.ask(|reply| Command::Refresh { reply }).await?;
            let keep: Arc<Owner> = Arc::clone(&self.owner);
            Ok(self.owner.shared.hub.watch(query, Some(keep)))
        })
    }
}

/// Ends the thread with the last handle.
struct Owner {
    shared: Arc<Shared>,
    commands: async_channel::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Owner {
    async fn ask<T>(
        &self,
        command: impl FnOnce(async_channel::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = async_channel::bounded(1);
        self.commands.send(command(reply)).await.map_err(|_| Error::Stopped)?;
        self.shared.ring();
        answer.recv().await.map_err(|_| Error::Stopped)?
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("directory", &self.shared.store.directory()).finish_non_exhaustive()
    }
}

impl Drop for Owner {
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
struct FileClaim {
    claimed: Claimed,
    owner: Arc<Owner>,
}

impl Claim for FileClaim {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            self.claimed.remove()?;
            self.owner.ask(|reply| Command::Refresh { reply }).await
        })
    }
}
