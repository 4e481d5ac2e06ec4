//! The lease of a process and the records under it: the core's machine with calls to etcd below it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant as Steady};

use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::lease::{Event, Lease, LeaseId};
use ringplane_core::id::InstanceId;
use ringplane_core::rng::Rng;
use ringplane_core::time::Instant;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::discovery::backend::{Error, random_u64};
use crate::discovery::etcd::registry::{Answer, Registry};

/// How long the end of a process waits for etcd to take its records back; the lease runs out anyway.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) type Reply = async_channel::Sender<Result<(), Error>>;

pub(super) enum Command {
    /// Answered once the record is there.
    Register { key: String, value: Vec<u8>, reply: Reply },
    /// Answered, if anybody asks, once the record is gone.
    Unregister { key: String, reply: Option<Reply> },
}

struct Waiting {
    reply: Reply,
    until: Steady,
}

pub(super) struct Keeper {
    registry: Registry,
    config: Config,
    id: InstanceId,
    epoch: Steady,
    /// Made by the first registration: who only reads needs none.
    lease: Option<Lease>,
    registering: BTreeMap<String, Waiting>,
    leaving: BTreeMap<String, Waiting>,
    calls: JoinSet<Answer>,
}

impl Keeper {
    /// Runs until the last handle is gone, then takes every record back.
    pub(super) async fn run(
        registry: Registry,
        config: Config,
        id: InstanceId,
        commands: async_channel::Receiver<Command>,
    ) {
        let (registering, leaving) = (BTreeMap::new(), BTreeMap::new());
        let (epoch, calls) = (Steady::now(), JoinSet::new());
        let mut this = Self { registry, config, id, epoch, lease: None, registering, leaving, calls };
        loop {
            this.drain();
            let wake = sleep_until(this.wakes().into());
            tokio::select! {
                command = commands.recv() => match command {
                    Ok(command) => this.obey(command),
                    Err(_) => break,
                },
                Some(answer) = this.calls.join_next() => {
                    if let Ok(answer) = answer {
                        this.hear(answer);
                    }
                }
                () = wake => this.tick(),
            }
        }
        if let Some(lease) = this.lease.as_ref().and_then(Lease::lease)
            && let Ok(Err(why)) = timeout(FAREWELL, this.registry.revoke(lease)).await
        {
            tracing::debug!(why, "the lease runs out by itself");
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.epoch.elapsed()
    }

    fn wakes(&self) -> Steady {
        let lease = self.lease.as_ref().and_then(Lease::poll_timeout).map(|at| self.epoch + at.at.since(Instant::ZERO));
        let waiting = self.registering.values().chain(self.leaving.values()).map(|waiting| waiting.until);
        lease.into_iter().chain(waiting).min().unwrap_or_else(|| Steady::now() + self.config.lease.ttl)
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Register { key, value, reply } => {
                let wish = i64::try_from(self.id.0).ok().filter(|id| *id > 0).map(LeaseId);
                let lease = self.config.lease;
                let lease = self.lease.get_or_insert_with(|| Lease::new(lease, wish, Rng::new(random_u64()), now));
                if lease.register(key.clone(), value, now) {
                    let until = Steady::now() + self.config.etcd.startup;
                    self.registering.insert(key, Waiting { reply, until });
                } else {
                    let _ = reply.try_send(Err(Error::Exists { key }));
                }
            }
            Command::Unregister { key, reply } => {
                if let Some(lease) = &mut self.lease {
                    lease.unregister(&key, now);
                }
                if let Some(reply) = reply {
                    self.leaving.insert(key, Waiting { reply, until: Steady::now() + FAREWELL });
                }
            }
        }
    }

    fn hear(&mut self, answer: Answer) {
        let now = self.now();
        let Some(lease) = &mut self.lease else { return };
        match answer {
            Answer::Granted { attempt, lease: id, ttl } => lease.handle_granted(attempt, id, ttl, now),
            Answer::Refused { attempt } => lease.handle_refused(attempt, now),
            Answer::Renewed { attempt, ttl } => lease.handle_renewed(attempt, ttl, now),
            Answer::Written { attempt, written } => lease.handle_written(attempt, written, now),
            Answer::Removed { attempt } => lease.handle_removed(attempt),
            Answer::Failed { attempt, why } => {
                tracing::debug!(why, "a call to etcd failed");
                lease.handle_failed(attempt, now);
            }
        }
    }

    fn tick(&mut self) {
        let (now, steady) = (self.now(), Steady::now());
        if let Some(lease) = &mut self.lease {
            lease.handle_timeout(now);
        }
        for waiting in [&mut self.registering, &mut self.leaving] {
            let late: Vec<_> = waiting.iter().filter(|(_, w)| w.until <= steady).map(|(key, _)| key.clone()).collect();
            for key in late {
                if let Some(waiting) = waiting.remove(&key) {
                    let what = "no answer in time".to_owned();
                    let _ = waiting.reply.try_send(Err(Error::Registry { doing: "write to etcd", what }));
                }
                if let Some(lease) = &mut self.lease {
                    lease.unregister(&key, now);
                }
            }
        }
    }

    fn drain(&mut self) {
        let now = self.now();
        let Some(lease) = &mut self.lease else { return };
        while let Some(event) = lease.poll_event() {
            match event {
                Event::Granted(id) => tracing::debug!(lease = id.0, "etcd granted a lease"),
                Event::Lost(id) => {
                    tracing::warn!(lease = id.0, "etcd has forgotten our lease; registering again");
                }
                Event::Registered { key, again } => {
                    if again {
                        tracing::info!(key, "registered again");
                    }
                    // Nobody waits for it any more: it is taken back.
                    if let Some(waiting) = self.registering.remove(&key)
                        && waiting.reply.try_send(Ok(())).is_err()
                    {
                        lease.unregister(&key, now);
                    }
                }
                Event::Foreign { key } => match self.registering.remove(&key) {
                    Some(waiting) => {
                        lease.unregister(&key, now);
                        let _ = waiting.reply.try_send(Err(Error::Exists { key }));
                    }
                    None => tracing::warn!(key, "somebody else has written to our key in etcd"),
                },
                Event::Removed { key } => {
                    if let Some(waiting) = self.leaving.remove(&key) {
                        let _ = waiting.reply.try_send(Ok(()));
                    }
                }
            }
        }
        while let Some(action) = lease.poll_action() {
            self.calls.spawn(self.registry.clone().act(action));
        }
    }
}
