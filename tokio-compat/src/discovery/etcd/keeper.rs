//! The lease of a process and the records under it: the core's machine with calls to etcd below it.

use std::time::{Duration, Instant as Steady};

use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::lease::Lease;
use ringplane_core::discovery::lease_event::{Claimed, Event, LeaseId, Serves};
use ringplane_core::id::InstanceId;
use ringplane_core::rng::Rng;
use ringplane_core::time::Instant;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::discovery::counters::Tally;
use crate::discovery::error::Error;
use crate::discovery::etcd::registry::{Answer, Registry};
use crate::random::random_u64;

/// How long the end of a process waits for etcd to take its records back; the lease runs out anyway.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) type Reply<T> = async_channel::Sender<Result<T, Error>>;

pub(super) enum Command {
    /// Answered with what is there, once it is.
    Register { key: String, value: Vec<u8>, serves: Serves, reply: Reply<Vec<u8>> },
    /// Our record holds another value from now on.
    Replace { key: String, value: Vec<u8> },
    /// Answered, if anybody asks, once the record is gone or others of this process keep it.
    Unregister { key: String, reply: Option<Reply<()>> },
}

struct Waiting<T> {
    key: String,
    reply: Reply<T>,
    until: Steady,
}

pub(super) struct Keeper {
    registry: Registry,
    config: Config,
    id: InstanceId,
    epoch: Steady,
    /// Made by the first registration: who only reads needs none.
    lease: Option<Lease>,
    registering: Vec<Waiting<Vec<u8>>>,
    leaving: Vec<Waiting<()>>,
    calls: JoinSet<Answer>,
}

impl Keeper {
    /// Runs until the last handle is gone, then takes every record back.
    pub(super) async fn run(
        registry: Registry,
        config: Config,
        id: InstanceId,
        commands: async_channel::Receiver<Command>,
        tally: Tally,
    ) {
        let (registering, leaving) = (Vec::new(), Vec::new());
        let (epoch, calls) = (Steady::now(), JoinSet::new());
        let mut this = Self { registry, config, id, epoch, lease: None, registering, leaving, calls };
        loop {
            this.drain();
            if let Some(lease) = &this.lease {
                tally.lock().registered = lease.stats();
            }
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
            && let Ok(Err(cause)) = timeout(FAREWELL, this.registry.revoke(lease)).await
        {
            tracing::debug!(%cause, "the lease runs out by itself");
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.epoch.elapsed()
    }

    fn wakes(&self) -> Steady {
        let lease = self.lease.as_ref().and_then(Lease::poll_timeout).map(|at| self.epoch + at.at.since(Instant::ZERO));
        let registering = self.registering.iter().map(|waiting| waiting.until);
        let waiting = registering.chain(self.leaving.iter().map(|waiting| waiting.until));
        lease.into_iter().chain(waiting).min().unwrap_or_else(|| Steady::now() + self.config.lease.ttl)
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Register { key, value, serves, reply } => {
                let wish = i64::try_from(self.id.0).ok().filter(|id| *id > 0).map(LeaseId);
                let lease = self.config.lease;
                let lease = self.lease.get_or_insert_with(|| Lease::new(lease, wish, Rng::new(random_u64()), now));
                let claimed = lease.register(key.clone(), value, serves, now);
                let stored = lease.value(&key).filter(|_| lease.is_registered(&key));
                match (claimed, stored.map(<[u8]>::to_vec)) {
                    (Claimed::Taken, _) => _ = reply.try_send(Err(Error::Exists { key })),
                    (Claimed::Shared, Some(stored)) => {
                        if reply.try_send(Ok(stored)).is_err() {
                            lease.unregister(&key, now);
                        }
                    }
                    _ => {
                        let until = Steady::now() + self.config.etcd.startup;
                        self.registering.push(Waiting { key, reply, until });
                    }
                }
            }
            Command::Replace { key, value } => {
                if let Some(lease) = &mut self.lease {
                    lease.replace(&key, value);
                }
            }
            Command::Unregister { key, reply } => {
                let last = self.lease.as_mut().is_none_or(|lease| lease.unregister(&key, now));
                match reply {
                    Some(reply) if last => {
                        self.leaving.push(Waiting { key, reply, until: Steady::now() + FAREWELL });
                    }
                    Some(reply) => _ = reply.try_send(Ok(())),
                    None => {}
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
            Answer::Failed { attempt, cause } => {
                tracing::debug!(%cause, "a call to etcd failed");
                lease.handle_failed(attempt, cause, now);
            }
        }
    }

    fn tick(&mut self) {
        let (now, steady) = (self.now(), Steady::now());
        // Before they are taken back, and what is failing with them.
        let cause = self.lease.as_ref().and_then(Lease::cause).cloned();
        if let Some(lease) = &mut self.lease {
            lease.handle_timeout(now);
        }
        for waiting in self.registering.extract_if(.., |waiting| waiting.until <= steady) {
            let _ = waiting.reply.try_send(Err(Error::late("write to", cause.as_ref())));
            if let Some(lease) = &mut self.lease {
                lease.unregister(&waiting.key, now);
            }
        }
        for waiting in self.leaving.extract_if(.., |waiting| waiting.until <= steady) {
            let _ = waiting.reply.try_send(Err(Error::late("write to", cause.as_ref())));
        }
    }

    fn drain(&mut self) {
        let now = self.now();
        let Some(lease) = &mut self.lease else { return };
        let mut refused = false;
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
                    let stored = lease.value(&key).unwrap_or_default().to_vec();
                    for waiting in self.registering.extract_if(.., |waiting| waiting.key == key) {
                        // Nobody waits for it any more: it is taken back.
                        if waiting.reply.try_send(Ok(stored.clone())).is_err() {
                            lease.unregister(&key, now);
                        }
                    }
                }
                Event::Foreign { key } => {
                    let mut asked = false;
                    for waiting in self.registering.extract_if(.., |waiting| waiting.key == key) {
                        asked = true;
                        lease.unregister(&key, now);
                        let _ = waiting.reply.try_send(Err(Error::Exists { key: key.clone() }));
                    }
                    if !asked {
                        tracing::warn!(key, "somebody else has written to our key in etcd");
                    }
                }
                Event::Refused { key, cause } => {
                    for waiting in self.registering.extract_if(.., |waiting| waiting.key == key) {
                        refused = true;
                        lease.unregister(&key, now);
                        let _ = waiting.reply.try_send(Err(Error::failed("write to", &cause)));
                    }
                }
                // Whoever wanted to register has been told.
                Event::Failing(cause) if refused => tracing::debug!(%cause, "etcd refuses a registration"),
                Event::Failing(cause) => tracing::warn!(%cause, "etcd does not take our records; trying again"),
                Event::Recovered => tracing::info!("etcd takes our records again"),
                Event::Removed { key } => {
                    for waiting in self.leaving.extract_if(.., |waiting| waiting.key == key) {
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
