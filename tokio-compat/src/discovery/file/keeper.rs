//! The thread that keeps a directory: it publishes, touches, watches and sweeps.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringplane_core::chain::Chain;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::trouble::{Cause, Troubles};
use ringplane_core::time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::discovery::backend::Edit;
use crate::discovery::error::Error;
use crate::discovery::file::name;
use crate::discovery::file::notices::{Changed, Notices, Watching};
use crate::discovery::file::seen::{Moment, Seen};
use crate::discovery::file::shared::{Claimed, Command, Owned, Shared};
use crate::discovery::file::store::{Content, Found, Held, MAX, Stamp, Touched};
use crate::discovery::file::timing::Timing;

/// Time between two looks at a directory of whose changes the kernel does not tell.
const LOOK: Duration = Duration::from_millis(500);

/// The state of the thread.
pub(super) struct Keeper<R: Kind> {
    shared: Arc<Shared<R>>,
    commands: async_channel::Receiver<Command<R>>,
    timing: Timing,
    notices: Notices,
    /// When to look, if the kernel does not tell.
    next_look: Option<Instant>,
    seen: BTreeMap<String, Seen<R>>,
    next_touch: Instant,
    /// What is told once and not at every look: of a record by its name, of other things by what is done.
    troubles: Troubles,
    epoch: Instant,
    /// Tells contents apart. The key is this thread's own, so that nobody can make two that look alike.
    digest: RandomState,
}

impl<R: Kind> Keeper<R> {
    /// Watches first and reads then, so that nothing falls between.
    pub(super) fn new(
        shared: Arc<Shared<R>>,
        commands: async_channel::Receiver<Command<R>>,
        timing: Timing,
    ) -> Result<Self, Error> {
        let (epoch, seen) = (Instant::now(), BTreeMap::new());
        let (notices, troubles, digest) = (Notices::default(), Troubles::default(), RandomState::new());
        let (next_touch, next_look) = (epoch + timing.touch, None);
        let mut keeper =
            Self { shared, commands, timing, notices, next_look, seen, next_touch, troubles, epoch, digest };
        keeper.watch()?;
        keeper.scan()?;
        Ok(keeper)
    }

    /// Runs until stopped. Takes the files of this process along.
    pub(super) fn run(mut self) {
        while !self.shared.has_ended() {
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
            } else if self.next_look.is_some_and(|at| at <= now) {
                self.next_look = Some(now + LOOK);
                let scanned = self.scan();
                self.tell("read", scanned, "cannot read the discovery directory");
            } else {
                self.expire(now);
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let expiry = self.seen.values().filter_map(Seen::<R>::expires).min();
        let next = expiry.into_iter().chain(self.next_look).fold(self.next_touch, Instant::min);
        let timeout = Timespec::try_from(next.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
        let sources = [Some(&self.shared.bell), self.notices.descriptor()];
        let mut sources: Vec<_> = sources.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut sources, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Empty more often than not, which is an error of no interest.
        let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
        Ok(())
    }

    /// Has the kernel tell of changes, or looks for them.
    fn watch(&mut self) -> Result<(), Error> {
        let directory = self.shared.store.directory();
        let watching = self.notices.watch(directory);
        match watching.map_err(|source| Error::Io { doing: "watch", path: directory.to_owned(), source })? {
            Watching::Yes => {
                if self.next_look.take().is_some() {
                    tracing::info!(?directory, "the kernel tells of changes again");
                }
            }
            Watching::NoRoom { error, limit } => {
                if self.next_look.is_none() {
                    let every = LOOK;
                    tracing::warn!(?directory, %error, ?every, "looking for changes, since the kernel tells of no more; raise {limit}");
                    self.next_look = Some(Instant::now() + LOOK);
                }
            }
        }
        Ok(())
    }

    fn read_notices(&mut self) {
        match self.notices.read() {
            Changed::All => {
                tracing::debug!("reading the whole discovery directory");
                self.rescan();
            }
            Changed::Names(names) => {
                let now = Moment::now();
                for name in names {
                    self.look(&name, now, Reading::Always);
                }
            }
        }
    }

    fn obey(&mut self, command: Command<R>) {
        match command {
            Command::Publish { name, record, content, reply } => {
                let result = self.publish(name, record, content);
                self.count_failure(&result);
                // If nobody waits any more the claim is dropped here, and the file with it.
                let _ = reply.try_send(result);
            }
            Command::Edit { name, edit, reply } => {
                let result = self.edit(&name, &edit);
                self.count_failure(&result);
                let _ = reply.try_send(result);
            }
            Command::Refresh { reply } => _ = reply.try_send(self.scan()),
        }
    }

    fn publish(&mut self, name: String, record: R, content: Vec<u8>) -> Result<(R, Claimed<R>), Error> {
        if let Some(owned) = self.shared.owned().get_mut(&name) {
            if !record.is_served_by(&owned.record) {
                return Err(Error::Exists { key: R::full(&record.key()) });
            }
            owned.claims += 1;
            return Ok((owned.record.clone(), Claimed::new(&self.shared, name)));
        }
        let owned = match self.shared.store.publish(&name, &content)? {
            Some(held) => Owned { record, content, held, claims: 1 },
            None => self.take_over(&name, record, content)?,
        };
        let record = owned.record.clone();
        self.shared.owned().insert(name.clone(), owned);
        self.shared.tally.lock().registered.writes += 1;
        self.look(&name, Moment::now(), Reading::Always);
        Ok((record, Claimed::new(&self.shared, name)))
    }

    /// What becomes of a name that is taken: a leftover of a dead process makes way, a twin of ours is kept.
    fn take_over(&mut self, name: &str, record: R, content: Vec<u8>) -> Result<Owned<R>, Error> {
        let taken = || Error::Exists { key: R::full(&record.key()) };
        self.look(name, Moment::now(), Reading::Always);
        let leftover = self.seen.get(name).filter(|seen| !seen.is_alive(Instant::now()));
        let store = &self.shared.store;
        if let Some(stamp) = leftover.map(|seen| seen.stamp) {
            store.sweep(name, stamp, &store.lock()?)?;
            let held = store.publish(name, &content)?.ok_or_else(taken)?;
            return Ok(Owned { record, content, held, claims: 1 });
        }
        let Content::Bytes(held, content) = store.read(name)? else { return Err(taken()) };
        let stored = R::read(&record.key(), &content).ok().filter(|stored| record.is_served_by(stored));
        Ok(Owned { record: stored.ok_or_else(taken)?, content, held, claims: 1 })
    }

    /// Changes a file of ours. Other writers take the same lock, so nobody is in between.
    fn edit(&mut self, name: &str, edit: &Edit<R>) -> Result<R, Error> {
        // It may have been removed: then it is there again.
        self.keep_alive(name)?;
        let mut owned = self.shared.owned();
        let Some(file) = owned.get_mut(name) else { return Err(Error::Stopped) };
        let key = file.record.key();
        let mut outcome = None;
        let replaced = self.shared.store.replace(name, |found| {
            let stored = R::read(&key, found).map_err(Error::Record)?;
            if !file.record.is_served_by(&stored) {
                return Err(Error::Exists { key: R::full(&key) });
            }
            let Some(edited) = edit(&stored).map_err(Error::Record)? else {
                outcome = Some((stored, found.to_vec()));
                return Ok(None);
            };
            let content = edited.write().map_err(Error::Record)?.into_bytes();
            outcome = Some((edited, content.clone()));
            Ok(Some(content))
        })?;
        if let Some(held) = replaced {
            file.held = held;
            self.shared.tally.lock().registered.writes += 1;
        }
        if let Some(outcome) = outcome {
            (file.record, file.content) = outcome;
        }
        let record = file.record.clone();
        drop(owned);
        self.look(name, Moment::now(), Reading::Always);
        Ok(record)
    }

    /// Every touch interval: sign of life, a look at everything, and a sweep.
    fn tick(&mut self) {
        let names: Vec<_> = self.shared.owned().keys().cloned().collect();
        for name in names {
            let kept = self.keep_alive(&name);
            self.count_failure(&kept);
            // Whoever holds the lock keeps it for the next one, too.
            let locked = matches!(kept, Err(Error::Locked { .. }));
            self.tell(&format!("keep {name}"), kept, "cannot keep a registration alive");
            if locked {
                break;
            }
        }
        self.rescan();
        let swept = self.sweep();
        self.tell("sweep", swept, "cannot remove a dead record");
    }

    /// Removes what nobody has touched for long, under one lock. The first error is told, the rest goes on.
    fn sweep(&mut self) -> Result<(), Error> {
        let (now, ttl) = (Instant::now(), self.timing.ttl);
        let owned = self.shared.owned();
        let dead = self.seen.iter().filter(|(name, seen)| seen.is_abandoned(now, ttl) && !owned.contains_key(*name));
        let dead: Vec<_> = dead.map(|(name, seen)| (name.clone(), seen.stamp)).collect();
        drop(owned);
        if dead.is_empty() {
            return Ok(());
        }
        let (store, mut failed) = (&self.shared.store, Ok(()));
        let lock = store.lock()?;
        for (name, stamp) in dead {
            match store.sweep(&name, stamp, &lock) {
                Ok(()) => tracing::debug!(name, "removed a dead record"),
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        failed
    }

    /// Touches a file of ours, or makes it again: others delete it when this process was stopped for too long. What is no
    /// file makes way at once, another's file when it is dead.
    fn keep_alive(&self, name: &str) -> Result<(), Error> {
        let (now, ttl) = (Instant::now(), self.timing.ttl);
        let dead = self.seen.get(name).filter(|seen| seen.is_abandoned(now, ttl)).map(|seen| seen.stamp);
        let mut owned = self.shared.owned();
        let Some(file) = owned.get_mut(name) else { return Ok(()) };
        let store = &self.shared.store;
        match store.touch(name, &file.held)? {
            Touched::Done => {
                self.shared.tally.lock().registered.renewals += 1;
                return Ok(());
            }
            Touched::Other(Found::File(_)) => {
                if let Some((held, record, content)) = self.twin(name, &file.record)? {
                    store.touch(name, &held)?;
                    (file.held, file.record, file.content) = (held, record, content);
                    return Ok(());
                }
                let Some(stamp) = dead else { return Err(Error::Exists { key: R::full(&file.record.key()) }) };
                store.sweep(name, stamp, &store.lock()?)?;
            }
            Touched::Gone | Touched::Other(_) => {}
        }
        store.restore()?;
        if let Some(held) = store.publish(name, &file.content)? {
            file.held = held;
            let mut counters = self.shared.tally.lock();
            counters.registered.losses += 1;
            counters.registered.writes += 1;
            drop(counters);
            tracing::info!(name, "registered again what somebody had removed");
        }
        Ok(())
    }

    /// What is at the name, if it does as well as ours.
    fn twin(&self, name: &str, ours: &R) -> Result<Option<(Held, R, Vec<u8>)>, Error> {
        let Content::Bytes(held, content) = self.shared.store.read(name)? else { return Ok(None) };
        let found = R::read(&ours.key(), &content).ok().filter(|found| ours.is_served_by(found));
        Ok(found.map(|found| (held, found, content)))
    }

    /// Watches whatever directory is at our path now and reads all of it. Watching the same one again changes nothing.
    fn rescan(&mut self) {
        let again = match self.watch() {
            Err(_) => self.shared.store.restore().and_then(|()| self.watch()),
            watching => watching,
        };
        self.tell("watch", again, "the discovery directory is gone");
        let scanned = self.scan();
        self.tell("read", scanned, "cannot read the discovery directory");
    }

    fn scan(&mut self) -> Result<(), Error> {
        let now = Moment::now();
        let names = self.shared.store.names();
        let mut counters = self.shared.tally.lock();
        counters.discovered.snapshots += u64::from(names.is_ok());
        counters.discovered.lost += u64::from(names.is_err());
        drop(counters);
        let names: BTreeSet<_> = names?.into_iter().collect();
        let gone: Vec<_> = self.seen.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone.iter().chain(&names) {
            self.look(name, now, Reading::InDoubt);
        }
        Ok(())
    }

    fn expire(&mut self, now: Instant) {
        let due = self.seen.iter().filter(|(_, seen)| seen.expires().is_some_and(|at| at <= now));
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            // The touch may simply not have been noticed yet.
            self.look(&name, Moment::now(), Reading::InDoubt);
        }
    }

    /// Brings what is known of one file up to date, and the hub with it.
    fn look(&mut self, name: &str, now: Moment, reading: Reading) {
        let key = name::decode(name).as_deref().and_then(R::parse);
        if key.is_none() && !name.starts_with(name::TEMPORARY) {
            return;
        }
        match self.shared.store.look(name) {
            Ok(Found::File(stamp)) => self.see(name, key, stamp, now, reading),
            Ok(Found::Nothing) => return self.forget(name),
            // What was known goes on until it is due to die: its owner is about to write it again.
            Ok(Found::Odd(what)) if key.is_some() => self.ignore(name, what),
            Ok(Found::Odd(_)) => {}
            Err(error) => self.ignore(name, error),
        }
        let Some(seen) = self.seen.get_mut(name) else { return };
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

    /// A file is at the name.
    fn see(&mut self, name: &str, key: Option<R::Key>, stamp: Stamp, now: Moment, reading: Reading) {
        let ttl = self.timing.ttl;
        let seen = self.seen.entry(name.to_owned()).or_insert_with(|| Seen::new(key, stamp, now, ttl));
        seen.look(stamp, now, ttl);
        seen.ours = self.shared.owned().get(name).is_some_and(|owned| owned.held.id == stamp.file);
        if seen.key.is_some() && (reading == Reading::Always || seen.is_doubtful()) {
            self.read(name, now.steady);
        }
    }

    /// Reads a file that has been seen. One that cannot be used leaves the last good record in place.
    fn read(&mut self, name: &str, now: Instant) {
        let content = self.shared.store.read(name);
        let Some(seen) = self.seen.get_mut(name) else { return };
        let Some(key) = seen.key.clone() else { return };
        let unusable = match content {
            Ok(Content::Bytes(held, content)) => {
                let news = seen.read(self.digest.hash_one(&content), now);
                if held.id != seen.stamp.file {
                    // Replaced between the look and the reading.
                    seen.recheck();
                }
                if !news {
                    return if seen.usable {
                        self.troubles.settle(name)
                    };
                }
                let record = R::read(&key, &content);
                seen.usable = record.is_ok();
                match record {
                    Ok(record) => {
                        seen.record = Some(record);
                        return self.troubles.settle(name);
                    }
                    Err(error) => error.to_string(),
                }
            }
            Ok(Content::Large) => {
                seen.pass(now);
                format!("more than {MAX} bytes")
            }
            Ok(Content::Odd(what)) => what.to_owned(),
            // Gone since: the notice is on the way.
            Ok(Content::Nothing) => return,
            Err(error) => error.to_string(),
        };
        self.ignore(name, unusable);
    }

    fn forget(&mut self, name: &str) {
        let Some(seen) = self.seen.remove(name) else { return };
        self.troubles.settle(name);
        if let Seen { record: Some(record), listed: true, .. } = seen {
            self.shared.hub.remove(&record.key());
        }
    }

    /// Says once what is wrong with a record.
    fn ignore(&mut self, name: &str, why: impl std::fmt::Display) {
        let now = self.since_start();
        if self.troubles.fail(name, Cause::Unable(why.to_string()), now) {
            self.shared.tally.lock().discovered.ignored += 1;
            tracing::warn!(name, %why, "ignored a record");
        }
    }

    /// Says once what went wrong with something that is tried again and again.
    fn tell(&mut self, subject: &str, outcome: Result<(), Error>, what: &str) {
        match outcome {
            Ok(()) => self.troubles.settle(subject),
            Err(error) => {
                let now = self.since_start();
                if self.troubles.fail(subject, Cause::Unable(cause(&error)), now) {
                    tracing::warn!(error = %Chain(&error), "{what}");
                }
            }
        }
    }

    /// Counts what could not be done for a record of ours.
    fn count_failure<T>(&self, outcome: &Result<T, Error>) {
        self.shared.tally.lock().registered.failures += u64::from(outcome.is_err());
    }

    fn since_start(&self) -> time::Instant {
        time::Instant::ZERO + self.epoch.elapsed()
    }
}

/// Whether a file is read that looks as it did.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Reading {
    /// Something happened to it.
    Always,
    /// Only if it could say something else.
    InDoubt,
}

/// What went wrong, whichever file it was.
fn cause(error: &Error) -> String {
    match error {
        Error::Io { doing, source, .. } => format!("{doing}: {source}"),
        other => Chain(other).to_string(),
    }
}

impl<R: Kind> Drop for Keeper<R> {
    fn drop(&mut self) {
        let owned = std::mem::take(&mut *self.shared.owned());
        for (name, file) in &owned {
            if let Err(error) = self.shared.store.remove(name, &file.held, &file.content) {
                tracing::warn!(error = %Chain(&error), "a registration stays until its time runs out");
            }
        }
        self.commands.close();
        self.shared.hub.close();
    }
}
