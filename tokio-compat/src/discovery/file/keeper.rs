//! The thread that keeps a directory: it publishes, touches, watches and sweeps.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ringplane_core::discovery::kind::Kind;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::discovery::backend::{Edit, Error};
use crate::discovery::file::backend::Timing;
use crate::discovery::file::name;
use crate::discovery::file::seen::{Moment, Seen};
use crate::discovery::file::store::Store;
use crate::discovery::hub::Hub;

/// Bytes of change notices read at once.
const NOTICES: usize = 64 * 1024;

/// Notices after which no more come of the directory at our path.
const ENDS: ReadFlags =
    ReadFlags::IGNORED.union(ReadFlags::UNMOUNT).union(ReadFlags::DELETE_SELF).union(ReadFlags::MOVE_SELF);

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
    bell: OwnedFd,
}

/// A file of this process.
#[derive(Debug)]
struct Owned<R> {
    record: R,
    content: Vec<u8>,
    /// How many want it to be there.
    claims: usize,
}

impl<R: Kind> Shared<R> {
    pub(super) fn new(store: Store) -> Result<Arc<Self>, Error> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let bell = bell.map_err(|errno| os("wake the keeper of", &store, errno.into()))?;
        let (hub, owned, stop) = (Arc::default(), Mutex::default(), AtomicBool::new(false));
        Ok(Arc::new(Self { store, hub, owned, stop, bell }))
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

    fn owned(&self) -> MutexGuard<'_, BTreeMap<String, Owned<R>>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A published file of this process. The drop of the last one removes it, with one system call on the dropping thread: the
/// process may be about to end.
pub(super) struct Claimed<R: Kind> {
    shared: Arc<Shared<R>>,
    name: String,
    removed: bool,
}

impl<R: Kind> Claimed<R> {
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
            Some(_) => {
                owned.remove(&self.name);
                self.shared.store.remove(&self.name)
            }
            None => Ok(()),
        }
    }
}

impl<R: Kind> Drop for Claimed<R> {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "a registration stays until its time runs out");
        }
    }
}

/// The state of the thread.
pub(super) struct Keeper<R: Kind> {
    shared: Arc<Shared<R>>,
    commands: async_channel::Receiver<Command<R>>,
    timing: Timing,
    notices: OwnedFd,
    /// Whether the kernel tells about the directory that is there now.
    watching: bool,
    seen: BTreeMap<String, Seen<R>>,
    next_touch: Instant,
}

impl<R: Kind> Keeper<R> {
    /// Watches first and reads then, so that nothing falls between.
    pub(super) fn new(
        shared: Arc<Shared<R>>,
        commands: async_channel::Receiver<Command<R>>,
        timing: Timing,
    ) -> Result<Self, Error> {
        let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let notices = notices.map_err(|errno| os("watch", &shared.store, errno.into()))?;
        let next_touch = Instant::now() + timing.touch;
        let mut keeper = Self { shared, commands, timing, notices, watching: false, seen: BTreeMap::new(), next_touch };
        keeper.watch()?;
        keeper.scan()?;
        Ok(keeper)
    }

    /// Runs until stopped. Takes the files of this process along.
    pub(super) fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            if let Err(error) = self.wait() {
                tracing::error!(%error, "waiting for changes of the discovery directory failed");
                break;
            }
            self.read_notices();
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            let now = Instant::now();
            if now >= self.next_touch {
                self.next_touch = now + self.timing.touch;
                self.tick();
            } else {
                self.expire(now);
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let expiry = self.seen.values().filter_map(Seen::<R>::expires).min();
        let next = expiry.map_or(self.next_touch, |at| at.min(self.next_touch));
        let timeout = Timespec::try_from(next.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
        let mut sources = [&self.notices, &self.shared.bell].map(|fd| PollFd::new(fd, PollFlags::IN));
        match poll(&mut sources, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Empty more often than not, which is an error of no interest.
        let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
        Ok(())
    }

    fn watch(&mut self) -> Result<(), Error> {
        // Not `ATTRIB` or `CLOSE_WRITE`: every touch of every owner would wake us.
        let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        let end = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let flags = changes | end | WatchFlags::ONLYDIR;
        let added = inotify::add_watch(&self.notices, self.shared.store.directory(), flags);
        added.map_err(|errno| os("watch", &self.shared.store, errno.into()))?;
        self.watching = true;
        Ok(())
    }

    fn read_notices(&mut self) {
        let mut changed = BTreeSet::new();
        let mut lost = false;
        {
            let mut memory = [MaybeUninit::uninit(); NOTICES];
            let mut reader = inotify::Reader::new(&self.notices, &mut memory);
            while let Ok(notice) = reader.next() {
                let what = notice.events();
                lost |= what.contains(ReadFlags::QUEUE_OVERFLOW);
                if what.intersects(ENDS) {
                    self.watching = false;
                }
                changed.extend(notice.file_name().and_then(|name| name.to_str().ok()).map(str::to_owned));
            }
        }
        if lost || !self.watching {
            tracing::debug!(lost, "reading the whole discovery directory");
            self.rescan();
        } else {
            let now = Moment::now();
            for name in changed {
                self.look(&name, now);
            }
        }
    }

    fn obey(&mut self, command: Command<R>) {
        match command {
            Command::Publish { name, record, content, reply } => {
                let result = self.publish(name, record, content);
                // If nobody waits any more the claim is dropped here, and the file with it.
                let _ = reply.try_send(result);
            }
            Command::Edit { name, edit, reply } => _ = reply.try_send(self.edit(&name, &edit)),
            Command::Refresh { reply } => _ = reply.try_send(self.scan()),
        }
    }

    fn publish(&mut self, name: String, record: R, content: Vec<u8>) -> Result<(R, Claimed<R>), Error> {
        let taken = || Error::Exists { key: R::full(&record.key()) };
        let claim = |name| Claimed { shared: Arc::clone(&self.shared), name, removed: false };
        if let Some(owned) = self.shared.owned().get_mut(&name) {
            if !record.is_served_by(&owned.record) {
                return Err(taken());
            }
            owned.claims += 1;
            return Ok((owned.record.clone(), claim(name)));
        }
        let (mut record, mut content) = (record, content);
        if !self.shared.store.publish(&name, &content)? {
            self.look(&name, Moment::now());
            let leftover = self.seen.get(&name).filter(|seen| !seen.is_alive(Instant::now()));
            if let Some(stamp) = leftover.map(|seen| seen.stamp) {
                self.shared.store.sweep(&name, stamp)?;
                if !self.shared.store.publish(&name, &content)? {
                    return Err(Error::Exists { key: R::full(&record.key()) });
                }
            } else {
                let found = self.shared.store.read(&name)?;
                let stored = R::read(&record.key(), &found).ok().filter(|stored| record.is_served_by(stored));
                record = stored.ok_or_else(|| Error::Exists { key: R::full(&record.key()) })?;
                content = found;
            }
        }
        self.shared.owned().insert(name.clone(), Owned { record: record.clone(), content, claims: 1 });
        self.look(&name, Moment::now());
        let claimed = Claimed { shared: Arc::clone(&self.shared), name, removed: false };
        Ok((record, claimed))
    }

    /// Changes a file of ours. Other writers take the same lock, so nobody is in between.
    fn edit(&mut self, name: &str, edit: &Edit<R>) -> Result<R, Error> {
        // It may have been removed: then it is there again.
        self.keep_alive(name)?;
        let mut owned = self.shared.owned();
        let Some(file) = owned.get_mut(name) else { return Err(Error::Stopped) };
        let key = file.record.key();
        let mut outcome = None;
        self.shared.store.replace(name, |found| {
            let stored = R::read(&key, found).map_err(Error::Record)?;
            let Some(edited) = edit(&stored).map_err(Error::Record)? else {
                outcome = Some((stored, found.to_vec()));
                return Ok(None);
            };
            let content = edited.write().map_err(Error::Record)?.into_bytes();
            outcome = Some((edited, content.clone()));
            Ok(Some(content))
        })?;
        if let Some(outcome) = outcome {
            (file.record, file.content) = outcome;
        }
        let record = file.record.clone();
        drop(owned);
        self.look(name, Moment::now());
        Ok(record)
    }

    /// Every touch interval: sign of life, a look at everything, and a sweep.
    fn tick(&mut self) {
        let names: Vec<_> = self.shared.owned().keys().cloned().collect();
        for name in names {
            if let Err(error) = self.keep_alive(&name) {
                tracing::warn!(%error, "cannot keep a registration alive");
            }
        }
        self.rescan();
        let now = Instant::now();
        let abandoned = self.seen.iter().filter(|(_, seen)| seen.is_abandoned(now, self.timing.ttl));
        let abandoned: Vec<_> = abandoned.map(|(name, seen)| (name.clone(), seen.stamp)).collect();
        for (name, stamp) in abandoned {
            if self.shared.owned().contains_key(&name) {
                continue;
            }
            match self.shared.store.sweep(&name, stamp) {
                Ok(()) => tracing::debug!(name, "removed a dead record"),
                Err(error) => tracing::warn!(%error, "cannot remove a dead record"),
            }
        }
    }

    /// Touches a file of ours, or makes it again: others delete it when this process was stopped for too long.
    fn keep_alive(&self, name: &str) -> Result<(), Error> {
        let owned = self.shared.owned();
        let Some(file) = owned.get(name) else { return Ok(()) };
        if self.shared.store.touch(name)? {
            return Ok(());
        }
        self.shared.store.restore()?;
        self.shared.store.publish(name, &file.content)?;
        tracing::info!(name, "registered again what somebody had removed");
        Ok(())
    }

    /// Watches whatever directory is at our path now and reads all of it. Watching the same one again changes nothing.
    fn rescan(&mut self) {
        self.watching = false;
        let again = self.watch().or_else(|_| self.shared.store.restore().and_then(|()| self.watch()));
        if let Err(error) = again {
            tracing::warn!(%error, "the discovery directory is gone");
        }
        if let Err(error) = self.scan() {
            tracing::warn!(%error, "cannot read the discovery directory");
        }
    }

    fn scan(&mut self) -> Result<(), Error> {
        let now = Moment::now();
        let names: BTreeSet<_> = self.shared.store.names()?.into_iter().collect();
        let gone: Vec<_> = self.seen.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone.iter().chain(&names) {
            self.look(name, now);
        }
        Ok(())
    }

    fn expire(&mut self, now: Instant) {
        let due = self.seen.iter().filter(|(_, seen)| seen.expires().is_some_and(|at| at <= now));
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            // The touch may simply not have been noticed yet.
            self.look(&name, Moment::now());
        }
    }

    /// Brings what is known of one file up to date, and the hub with it.
    fn look(&mut self, name: &str, now: Moment) {
        let ttl = self.timing.ttl;
        let key = name::decode(name).as_deref().and_then(R::parse);
        if key.is_none() && !name.starts_with(name::TEMPORARY) {
            return;
        }
        let stamp = match self.shared.store.stamp(name) {
            Ok(Some(stamp)) => stamp,
            Ok(None) => return self.forget(name),
            Err(error) => return tracing::warn!(%error, "cannot look at a registration"),
        };
        let (seen, new) = match self.seen.entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(entry) => (entry.into_mut(), false),
            std::collections::btree_map::Entry::Vacant(entry) => (entry.insert(Seen::new(key, stamp, now, ttl)), true),
        };
        let replaced = seen.look(stamp, now, ttl);
        if new || replaced {
            read_record(&self.shared.store, name, seen);
        }
        seen.ours = self.shared.owned().contains_key(name);
        let alive = seen.ours || seen.is_alive(now.steady);
        match &seen.record {
            Some(record) if alive => {
                seen.listed = true;
                self.shared.hub.put(record);
            }
            Some(record) if seen.listed => {
                seen.listed = false;
                self.shared.hub.remove(&record.key());
            }
            _ => {}
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(Seen { record: Some(record), listed: true, .. }) = self.seen.remove(name) {
            self.shared.hub.remove(&record.key());
        }
    }
}

impl<R: Kind> Drop for Keeper<R> {
    fn drop(&mut self) {
        let owned = std::mem::take(&mut *self.shared.owned());
        for name in owned.keys() {
            if let Err(error) = self.shared.store.remove(name) {
                tracing::warn!(%error, "a registration stays until its time runs out");
            }
        }
        self.commands.close();
        self.shared.hub.close();
    }
}

/// Reads the file into `seen`. One that cannot be used leaves the last good record in place.
fn read_record<R: Kind>(store: &Store, name: &str, seen: &mut Seen<R>) {
    let Some(key) = &seen.key else { return };
    let content = match store.read(name) {
        Ok(content) => content,
        // Most likely gone since: the notice is on the way.
        Err(error) => return tracing::debug!(%error, "cannot read a registration"),
    };
    match R::read(key, &content) {
        Ok(record) => seen.record = Some(record),
        Err(error) => tracing::warn!(name, %error, "ignored a record"),
    }
}

fn os(doing: &'static str, store: &Store, source: io::Error) -> Error {
    Error::Io { doing, path: store.directory().to_owned(), source }
}
