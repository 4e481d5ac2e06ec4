//! A watch of one prefix: the core's machine with etcd's streams below it and a hub above.

use std::sync::Arc;
use std::time::Instant as Steady;

use etcd_client::{EventType, WatchOptions};
use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::watch::{Action, Event, Lost, Raw, State, Watch};
use ringplane_core::rng::Rng;
use ringplane_core::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, AbortHandle};
use tokio::time::{sleep_until, timeout};

use crate::discovery::backend::random_u64;
use crate::discovery::etcd::registry::{Registry, unsigned};
use crate::discovery::hub::Hub;

/// Messages of a stream that may wait; one more holds the stream back.
const HEARD: usize = 64;

enum Heard {
    Snapshot(u64, Vec<(String, Vec<u8>)>),
    Opened(u64),
    Changes(u64, Vec<Raw>),
    Lost(Lost, String),
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
    synced: watch::Sender<bool>,
    epoch: Steady,
    out: mpsc::Sender<(u64, Heard)>,
    open: Option<Task>,
    ask: Option<mpsc::Sender<()>>,
    away: bool,
}

impl<R: Kind> Follower<R> {
    /// Follows `prefix` until aborted, and tells `hub`. `synced` becomes true with the first snapshot.
    pub(super) async fn run(
        registry: Registry,
        prefix: String,
        config: Config,
        hub: Arc<Hub<R>>,
        synced: watch::Sender<bool>,
    ) {
        let (out, mut heard) = mpsc::channel(HEARD);
        let epoch = Steady::now();
        let mut watch = Watch::new(config.watch, Rng::new(random_u64()), Instant::ZERO);
        let mut this = Self { registry, prefix, config, hub, synced, epoch, out, open: None, ask: None, away: false };
        loop {
            this.drain(&mut watch);
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
                Event::Resync => _ = self.synced.send_replace(true),
            }
        }
        let away = watch.state() == State::WaitingToRead;
        if away && !self.away {
            tracing::warn!(prefix = self.prefix, "etcd does not answer; the records known so far stay");
        } else if self.away && watch.state() == State::Following {
            tracing::info!(prefix = self.prefix, "etcd is followed again");
        }
        self.away = away || self.away && watch.state() != State::Following;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Snapshot { attempt } => {
                let (registry, prefix, out) = (self.registry.clone(), self.prefix.clone(), self.out.clone());
                let read = task::spawn(async move {
                    let message = match registry.snapshot(&prefix).await {
                        Ok((revision, entries)) => Heard::Snapshot(revision, entries),
                        Err(why) => Heard::Lost(Lost::Registry, why),
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
                    let from = i64::try_from(from).unwrap_or(i64::MAX);
                    let options = WatchOptions::new().with_prefix().with_start_revision(from);
                    let mut client = registry.client.watch_client();
                    let opened = timeout(answer, client.watch(prefix.as_str(), Some(options))).await;
                    let (what, why) = match opened {
                        Ok(Ok(stream)) => listen(&registry, &prefix, attempt, stream, asked, &out).await,
                        Ok(Err(error)) => (Lost::Registry, error.to_string()),
                        Err(_) => (Lost::Registry, "no answer in time".to_owned()),
                    };
                    let _ = out.send((attempt, Heard::Lost(what, why))).await;
                });
                (self.open, self.ask) = (Some(Task(stream.abort_handle())), Some(ask));
            }
            // A full channel holds an earlier request that nobody has read: the answer to that is awaited.
            Action::Ask { .. } => _ = self.ask.as_ref().map(|ask| ask.try_send(())),
            Action::Drop => (self.open, self.ask) = (None, None),
        }
    }
}

/// Reads a stream to its end and says why it ended.
async fn listen(
    registry: &Registry,
    prefix: &str,
    attempt: u64,
    (mut asker, mut stream): (etcd_client::Watcher, etcd_client::WatchStream),
    mut asked: mpsc::Receiver<()>,
    out: &mpsc::Sender<(u64, Heard)>,
) -> (Lost, String) {
    match registry.revision(prefix).await {
        Ok(revision) => _ = out.send((attempt, Heard::Opened(revision))).await,
        Err(why) => return (Lost::Registry, why),
    }
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            Some(()) = asked.recv() => match asker.request_progress().await {
                Ok(()) => continue,
                Err(error) => return (Lost::Stream, error.to_string()),
            },
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return (Lost::Stream, "the stream has ended".to_owned()),
            Err(error) => return (Lost::Registry, error.to_string()),
        };
        if message.canceled() || message.compact_revision() != 0 {
            return (Lost::History, format!("cancelled: {}", message.cancel_reason()));
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
            return (Lost::Stream, "nobody listens".to_owned());
        }
    }
}

#[cfg(test)]
#[path = "../../../../tests/src/etcd.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of the workspace")]
pub(super) mod server;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_from_before_a_compaction_is_told_as_lost_history() {
        let Some(server) = server::Etcd::start() else { return };
        for _ in 0..3 {
            server.post("/v3/kv/put", r#"{"key":"a2V5","value":"dg=="}"#);
        }
        server.post("/v3/kv/compaction", r#"{"revision":"4"}"#);
        let endpoint = server.url().strip_prefix("etcd:").unwrap().to_owned();
        let registry = Registry::connect(&[endpoint], &Config::default()).await.unwrap();
        let options = WatchOptions::new().with_prefix().with_start_revision(2);
        let stream = registry.client.watch_client().watch("k", Some(options)).await.unwrap();
        let ((out, _heard), (_ask, asked)) = (mpsc::channel(HEARD), mpsc::channel(1));
        let (what, why) = listen(&registry, "k", 1, stream, asked, &out).await;
        assert_eq!(what, Lost::History, "{why}");
    }
}
