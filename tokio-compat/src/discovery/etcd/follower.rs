//! A watch of one prefix: the core's machine with etcd's streams below it and a hub above.

use std::sync::Arc;
use std::time::{Duration, Instant as Steady};

use etcd_client::{EventType, WatchOptions, WatchRequestSender, WatchResponseStream};
use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::trouble::Cause;
use ringplane_core::discovery::watch::{Action, Event, Lost, Raw, Stats, Watch};
use ringplane_core::rng::Rng;
use ringplane_core::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, AbortHandle};
use tokio::time::{sleep_until, timeout};

use crate::discovery::counters::Tally;
use crate::discovery::etcd::registry::{Registry, unsigned};
use crate::discovery::hub::Hub;
use crate::random::random_u64;

/// Messages of a stream that may wait; one more holds the stream back.
const HEARD: usize = 64;

enum Heard {
    Snapshot(u64, Vec<(String, Vec<u8>)>),
    Opened(u64),
    Changes(u64, Vec<Raw>),
    Lost(Lost, String),
    Failed(Cause),
}

/// How far a watch has come before it has read anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Begun {
    /// Not yet, and why if that is known.
    Not(Option<Cause>),
    /// The first snapshot has been read.
    Yes,
}

/// Ends a task with its owner.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) struct Follower<R: Kind> {
    registry: Registry,
    prefix: String,
    config: Config,
    hub: Arc<Hub<R>>,
    begun: watch::Sender<Begun>,
    epoch: Steady,
    out: mpsc::Sender<(u64, Heard)>,
    open: Option<Task>,
    ask: Option<mpsc::Sender<()>>,
}

impl<R: Kind> Follower<R> {
    /// Follows `prefix` until aborted, and tells `hub`. `begun` says when that knows all, or why it does not yet.
    pub(super) async fn run(
        registry: Registry,
        prefix: String,
        config: Config,
        hub: Arc<Hub<R>>,
        begun: watch::Sender<Begun>,
        tally: Tally,
    ) {
        let (out, mut heard) = mpsc::channel(HEARD);
        let epoch = Steady::now();
        let mut watch = Watch::new(config.watch, Rng::new(random_u64()), Instant::ZERO);
        let mut this = Self { registry, prefix, config, hub, begun, epoch, out, open: None, ask: None };
        let mut counted = Stats::default();
        loop {
            this.drain(&mut watch);
            count(&mut tally.lock().discovered, &mut counted, watch.stats());
            let due = watch.poll_timeout().map_or(Instant::FAR, |deadline| deadline.at);
            let wake = sleep_until((epoch + due.since(Instant::ZERO)).into());
            tokio::select! {
                Some((attempt, message)) = heard.recv() => this.hear(&mut watch, attempt, message),
                () = wake => watch.handle_timeout(this.now()),
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.epoch.elapsed()
    }

    fn hear(&mut self, watch: &mut Watch<R>, attempt: u64, message: Heard) {
        let now = self.now();
        match message {
            Heard::Snapshot(revision, entries) => watch.handle_snapshot(attempt, revision, entries, now),
            Heard::Opened(revision) => watch.handle_opened(attempt, revision, now),
            Heard::Changes(revision, changes) => watch.handle_changes(attempt, revision, changes, now),
            Heard::Lost(what, why) => {
                tracing::debug!(prefix = self.prefix, ?what, why, "a watch of etcd was interrupted");
                watch.handle_lost(attempt, what, now);
            }
            Heard::Failed(cause) => watch.handle_failed(attempt, cause, now),
        }
    }

    fn drain(&mut self, watch: &mut Watch<R>) {
        while let Some(action) = watch.poll_action() {
            self.act(action);
        }
        while let Some(event) = watch.poll_event() {
            match event {
                Event::Put { record, .. } => self.hub.put(&record),
                Event::Removed { record, .. } => self.hub.remove(&record.key()),
                Event::Resync => _ = self.begun.send_replace(Begun::Yes),
                // Whoever asked is told so, and may ask again at once.
                Event::Failing(cause) if cause.is_refusal() && *self.begun.borrow() != Begun::Yes => {
                    tracing::debug!(prefix = self.prefix, %cause, "etcd refuses a watch");
                }
                Event::Failing(cause) => {
                    tracing::warn!(
                        prefix = self.prefix,
                        %cause,
                        "etcd cannot be followed; trying again, and what is known so far stays"
                    );
                }
                Event::Recovered => tracing::info!(prefix = self.prefix, "etcd is followed again"),
            }
        }
        let cause = watch.cause().cloned();
        self.begun.send_if_modified(|begun| {
            let news = *begun != Begun::Yes && *begun != Begun::Not(cause.clone());
            if news {
                *begun = Begun::Not(cause);
            }
            news
        });
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Snapshot { attempt } => {
                let (registry, prefix, out) = (self.registry.clone(), self.prefix.clone(), self.out.clone());
                let read = task::spawn(async move {
                    let message = match registry.snapshot(&prefix).await {
                        Ok((revision, entries)) => Heard::Snapshot(revision, entries),
                        Err(cause) => Heard::Failed(cause),
                    };
                    let _ = out.send((attempt, message)).await;
                });
                self.open = Some(Task(read.abort_handle()));
            }
            Action::Follow { attempt, from } => {
                let (ask, asked) = mpsc::channel(1);
                let (registry, prefix, out) = (self.registry.clone(), self.prefix.clone(), self.out.clone());
                let answer = self.config.watch.answer;
                let stream = task::spawn(async move {
                    let heard = match open(&registry, &prefix, from, answer).await {
                        Ok(stream) => listen(&registry, &prefix, attempt, stream, asked, &out).await,
                        Err(cause) => Heard::Failed(cause),
                    };
                    let _ = out.send((attempt, heard)).await;
                });
                (self.open, self.ask) = (Some(Task(stream.abort_handle())), Some(ask));
            }
            // A full channel holds an earlier request that nobody has read: the answer to that is awaited.
            Action::Ask { .. } => _ = self.ask.as_ref().map(|ask| ask.try_send(())),
            Action::Drop => (self.open, self.ask) = (None, None),
        }
    }
}

/// Adds to the counters of all watches what one has counted since it was last asked.
fn count(all: &mut Stats, before: &mut Stats, now: Stats) {
    for ((all, before), (_, now)) in all.each_mut().zip(before.each_mut()).zip(now.named()) {
        *all += now - *before;
        *before = now;
    }
}

/// A stream, and under which login it was opened.
struct Opened {
    asker: WatchRequestSender,
    stream: WatchResponseStream,
    logins: u64,
}

async fn open(registry: &Registry, prefix: &str, from: u64, answer: Duration) -> Result<Opened, Cause> {
    let (session, from) = (&registry.session, i64::try_from(from).unwrap_or(i64::MAX));
    let logins = session.logins();
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let mut client = session.client.watch_client();
    let (asker, stream) = match timeout(answer, client.watch(prefix, Some(options))).await {
        Ok(opened) => opened.map_err(|error| session.cause(&error))?.split(),
        Err(_) => return Err(session.late()),
    };
    Ok(Opened { asker, stream, logins })
}

/// Reads a stream to its end and says why it ended.
async fn listen(
    registry: &Registry,
    prefix: &str,
    attempt: u64,
    Opened { mut asker, mut stream, logins }: Opened,
    mut asked: mpsc::Receiver<()>,
    out: &mpsc::Sender<(u64, Heard)>,
) -> Heard {
    let session = &registry.session;
    match registry.revision(prefix).await {
        // A stream that an expired login opens is refused by etcd, which the client does not tell; the read just now has
        // logged in again.
        Ok(_) if session.logins() != logins => {
            return Heard::Lost(Lost::Stream, "opened before the login was renewed".to_owned());
        }
        Ok(revision) => _ = out.send((attempt, Heard::Opened(revision))).await,
        Err(cause) => return Heard::Failed(cause),
    }
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            Some(()) = asked.recv() => match asker.request_progress().await {
                Ok(()) => continue,
                Err(error) => return Heard::Lost(Lost::Stream, error.to_string()),
            },
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return Heard::Lost(Lost::Stream, "the stream has ended".to_owned()),
            Err(error) => return Heard::Failed(session.cause(&error)),
        };
        if message.canceled() || message.compact_revision() != 0 {
            return Heard::Lost(Lost::History, format!("cancelled: {}", message.cancel_reason()));
        }
        // The revision of the last change and not the header's: that may run ahead of what has been told.
        let last = message.events().iter().filter_map(|event| event.kv()).map(|kv| kv.mod_revision()).max();
        let changes = message.events().iter().filter_map(|event| {
            let kv = event.kv()?;
            let key = kv.key_str().ok()?.to_owned();
            Some(match event.event_type() {
                EventType::Put => Raw::Put { key, value: kv.value().to_vec() },
                EventType::Delete => Raw::Delete { key },
            })
        });
        let heard = Heard::Changes(last.map_or(0, unsigned), changes.collect());
        if out.send((attempt, heard)).await.is_err() {
            return Heard::Lost(Lost::Stream, "nobody listens".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use ringplane_servers::etcd::Etcd;

    use super::*;

    #[test]
    fn two_watches_add_up_and_neither_is_counted_twice() {
        let (mut all, mut one, mut other) = <[Stats; 3]>::default().into();
        count(&mut all, &mut one, Stats { snapshots: 1, lost: 2, ..Stats::default() });
        count(&mut all, &mut other, Stats { lost: 3, ..Stats::default() });
        count(&mut all, &mut one, Stats { snapshots: 1, lost: 4, ..Stats::default() });
        assert_eq!(all, Stats { snapshots: 1, lost: 7, ..Stats::default() });
    }

    #[tokio::test]
    async fn a_stream_from_before_a_compaction_is_told_as_lost_history() {
        let Some(server) = Etcd::start() else { return };
        for _ in 0..3 {
            server.post("/v3/kv/put", r#"{"key":"a2V5","value":"dg=="}"#);
        }
        server.post("/v3/kv/compaction", r#"{"revision":"4"}"#);
        let endpoint = server.url().strip_prefix("etcd:").unwrap().to_owned();
        let registry = Registry::connect(&[endpoint], &Config::default()).await.unwrap();
        let stream = open(&registry, "k", 2, Duration::from_secs(60)).await.unwrap();
        let ((out, _heard), (_ask, asked)) = (mpsc::channel(HEARD), mpsc::channel(1));
        let heard = listen(&registry, "k", 1, stream, asked, &out).await;
        assert!(matches!(heard, Heard::Lost(Lost::History, _)));
    }
}
