//! A socket: connections that are accepted and made, what comes by them, and what waits for each.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::retry::backoff::Backoff;
use ringplane_core::rng::Rng;
use ringplane_core::wire::zmtp::SocketType;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::event::zmq::config::Config;
use crate::event::zmq::connection;
use crate::event::zmq::endpoint::Endpoint;
use crate::event::zmq::lane::{Message, Pushed};
use crate::event::zmq::shared::{BUNCHES, First, Incoming, Shared, ZmqStats, subscription};
use crate::random::random_u64;

/// A ZeroMQ socket. Clones are the same one; its tasks end when the last is dropped.
#[derive(Clone)]
pub struct Socket {
    shared: Arc<Shared>,
    _stop: Arc<DropGuard>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("kind", &self.shared.kind).finish_non_exhaustive()
    }
}

impl Socket {
    /// A socket without a connection, and what will come by it. Of a PUB nothing comes.
    pub fn new(kind: SocketType, config: Config) -> (Self, mpsc::Receiver<Incoming>) {
        let (inbound, incoming) = mpsc::channel(BUNCHES);
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared::new(kind, config, stop.clone(), inbound));
        (Self { shared, _stop: Arc::new(stop.drop_guard()) }, incoming)
    }

    /// Accepts connections at `endpoint`. Answers where, with the port that the system chose.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(&self, endpoint: &Endpoint) -> io::Result<SocketAddr> {
        let listener = match endpoint.ip() {
            Some(ip) => TcpListener::bind((ip, endpoint.port)).await?,
            None => TcpListener::bind((endpoint.host.as_str(), endpoint.port)).await?,
        };
        let addr = listener.local_addr()?;
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            tokio::select! {
                () = shared.stop.cancelled() => {}
                () = accept(&shared, &listener) => {}
            }
        });
        Ok(addr)
    }

    /// Keeps a connection to `endpoint` until the socket is dropped or some time after the token was cancelled, in which what is on its
    /// way still comes. What comes by it carries `tag`.
    pub fn connect(&self, endpoint: Endpoint, tag: u64, until: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let first = First::new(&shared);
        tokio::spawn(async move {
            tokio::select! {
                () = shared.stop.cancelled() => {}
                () = dial(&shared, &endpoint, tag, first, &until) => {}
            }
        });
    }

    /// Asks all peers, and those to come, for what begins with `prefix`.
    pub fn subscribe(&self, prefix: &Bytes) {
        let mut peers = self.shared.peers();
        peers.wants.push(prefix.clone());
        let message = subscription(1, prefix);
        for peer in &peers.open {
            peer.lane.push(Arc::clone(&message));
        }
    }

    /// Takes back one [`Socket::subscribe`].
    pub fn cancel(&self, prefix: &Bytes) {
        let mut peers = self.shared.peers();
        let Some(at) = peers.wants.iter().position(|other| other == prefix) else { return };
        peers.wants.swap_remove(at);
        let message = subscription(0, prefix);
        for peer in &peers.open {
            peer.lane.push(Arc::clone(&message));
        }
    }

    /// Hands a message to each peer that wants what its first frame begins with. Never waits: a peer for which too much waits
    /// already does not get it. Answers how many did not.
    pub fn publish(&self, message: &Message) -> usize {
        let topic: &[u8] = message.first().map_or(&[], |topic| topic);
        let (mut sent, mut dropped) = (0u64, 0u64);
        for peer in &self.shared.peers().open {
            if peer.wants().iter().any(|prefix| topic.starts_with(prefix)) {
                match peer.lane.push(Arc::clone(message)) {
                    Pushed::Taken => sent += 1,
                    Pushed::Full | Pushed::Gone => dropped += 1,
                }
            }
        }
        self.shared.count(|stats| (stats.sent, stats.dropped) = (stats.sent + sent, stats.dropped + dropped));
        dropped as usize
    }

    /// Hands a message to one peer.
    pub fn send(&self, peer: u64, message: Message) -> Pushed {
        let open = self.shared.peers().open.iter().find(|other| other.id == peer).cloned();
        let pushed = open.map_or(Pushed::Gone, |peer| peer.lane.push(message));
        self.shared.count(|stats| stats.sent += u64::from(pushed == Pushed::Taken));
        pushed
    }

    /// How many peers want what begins with `topic`.
    pub fn listeners(&self, topic: &[u8]) -> usize {
        let peers = self.shared.peers();
        peers.open.iter().filter(|peer| peer.wants().iter().any(|prefix| topic.starts_with(prefix))).count()
    }

    /// Completes when a peer wants `topic`.
    pub async fn listened(&self, topic: &[u8]) {
        self.until(|| self.listeners(topic) > 0).await;
    }

    /// Completes when a connection is open.
    pub async fn connected(&self) {
        self.until(|| self.peers() > 0).await;
    }

    /// Completes when every connection that was to be made is, or has failed once: peers know by then what we want.
    pub async fn settled(&self) {
        self.until(|| self.shared.settling.load(Ordering::Acquire) == 0).await;
    }

    /// Connections that are open.
    pub fn peers(&self) -> usize {
        self.shared.peers().open.len()
    }

    /// Waits until nothing waits for any peer, for at most the configured time. Answers whether that is so.
    pub async fn drained(&self) -> bool {
        let all = async {
            let open = self.shared.peers().open.clone();
            for peer in open {
                loop {
                    let empty = peer.lane.empty.notified();
                    tokio::pin!(empty);
                    empty.as_mut().enable();
                    if peer.lane.is_empty() {
                        break;
                    }
                    empty.await;
                }
            }
        };
        timeout(self.shared.config.linger, all).await.is_ok()
    }

    /// Completes when something holds that changes as peers come, go and want something else.
    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }

    /// What it has done.
    pub fn stats(&self) -> ZmqStats {
        self.shared.stats()
    }
}

async fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if shared.accepted.load(Ordering::Relaxed) < shared.config.max_peers as u64 => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(shared);
                tokio::spawn(async move {
                    connection::run(&shared, stream, 0, None).await;
                    shared.accepted.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Ok(_) => shared.count(|stats| stats.refused += 1),
            // No descriptor is free, or the peer has gone already.
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn dial(shared: &Arc<Shared>, endpoint: &Endpoint, tag: u64, first: First, until: &CancellationToken) {
    let (mut rng, mut first) = (Rng::new(random_u64()), Some(first));
    let mut pauses = Backoff::new(shared.config.retry);
    while !until.is_cancelled() {
        let began = Instant::now();
        let target = (endpoint.host.as_str(), endpoint.port);
        match timeout(shared.config.connect_timeout, TcpStream::connect(target)).await {
            Ok(Ok(stream)) => {
                let unneeded = async {
                    until.cancelled().await;
                    sleep(shared.config.farewell).await;
                };
                tokio::select! {
                    () = connection::run(shared, stream, tag, first.take()) => {}
                    () = unneeded => return,
                }
                // One that stood for a while was a good one.
                if began.elapsed() > shared.config.retry.cap {
                    pauses = Backoff::new(shared.config.retry);
                }
            }
            Ok(Err(error)) => tracing::debug!(%endpoint, %error, "no connection"),
            Err(_) => tracing::debug!(%endpoint, "no connection in time"),
        }
        first = None;
        let Some(pause) = pauses.pause(&mut rng) else { return };
        tokio::select! {
            () = sleep(pause) => {}
            () = until.cancelled() => return,
        }
    }
}
