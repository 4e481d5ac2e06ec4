//! What the tasks of a socket share: its peers, what they want, and what comes by them.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::event::zmtp::Fault;
use ringplane_core::stats::counters;
use ringplane_core::wire::zmtp::SocketType;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::event::zmq::config::Config;
use crate::event::zmq::lane::{Lane, Message};

/// Bunches of messages that wait for the owner of a socket. A peer's bytes are not read while they are full.
pub(super) const BUNCHES: usize = 8;

counters! {
    /// What a socket has done.
    pub struct ZmqStats {
        /// Connections that were opened, made and accepted.
        pub opened,
        /// Connections that have ended.
        pub ended,
        /// Connections that were refused: too many, or no introduction that could be used.
        pub refused,
        /// Messages handed to peers, once per peer.
        pub sent,
        /// Messages dropped for a peer: too much waited for it, or it went.
        pub dropped,
        /// Messages that came.
        pub received,
    }
}

/// Something that came.
#[derive(Debug)]
pub struct Incoming {
    /// By which connection. Numbers are not used again.
    pub peer: u64,
    /// What its owner called it when it was made; 0 if it was accepted.
    pub tag: u64,
    /// What.
    pub what: What,
}

/// What can come by a connection.
#[derive(Debug)]
pub enum What {
    /// It is open, and what we want is in effect there as far as the peer can tell.
    Up,
    /// Messages, in their order.
    Messages(Vec<Vec<Bytes>>),
    /// The peer wants what begins with this. XPUB only.
    Subscribe(Bytes),
    /// The peer does not want it any more. XPUB only.
    Cancel(Bytes),
    /// It is over. One that we made is made again, under another number.
    Down(Down),
}

/// Why a connection is over.
#[derive(Debug)]
#[non_exhaustive]
pub enum Down {
    /// The peer closed it.
    Closed,
    /// The system ended it.
    Io(io::Error),
    /// The peer broke the rules or gave no sign of life.
    Fault(Fault),
    /// The peer took nothing for so long.
    Stalled(Duration),
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::Io(_) => f.write_str("the connection was lost"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Stalled(time) => write!(f, "the peer took nothing for {time:?}"),
        }
    }
}

impl std::error::Error for Down {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Fault(fault) => std::error::Error::source(fault),
            Self::Closed | Self::Stalled(_) => None,
        }
    }
}

/// A connection that is open.
pub(super) struct Peer {
    pub(super) id: u64,
    pub(super) lane: Lane,
    /// What it wants, of publishing sockets.
    pub(super) wants: Mutex<Vec<Bytes>>,
}

impl Peer {
    pub(super) fn wants(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(super) struct Peers {
    pub(super) open: Vec<Arc<Peer>>,
    /// What we want, of subscribing sockets.
    pub(super) wants: Vec<Bytes>,
}

/// What the tasks of a socket share.
pub(super) struct Shared {
    pub(super) kind: SocketType,
    pub(super) config: Config,
    pub(super) stop: CancellationToken,
    pub(super) inbound: mpsc::Sender<Incoming>,
    peers: Mutex<Peers>,
    ids: AtomicU64,
    pub(super) accepted: AtomicU64,
    stats: Mutex<ZmqStats>,
    /// Connections that are being made for the first time.
    pub(super) settling: AtomicU64,
    /// Told when a peer comes, goes, or wants something else.
    pub(super) changed: Notify,
}

impl Shared {
    pub(super) fn new(
        kind: SocketType,
        config: Config,
        stop: CancellationToken,
        inbound: mpsc::Sender<Incoming>,
    ) -> Self {
        Self {
            kind,
            config,
            stop,
            inbound,
            peers: Mutex::default(),
            ids: AtomicU64::new(1),
            accepted: AtomicU64::new(0),
            stats: Mutex::default(),
            settling: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }

    pub(super) fn stats(&self) -> ZmqStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut ZmqStats)) {
        add(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn publishes(&self) -> bool {
        matches!(self.kind, SocketType::Pub | SocketType::XPub)
    }

    /// A connection is open: answers it, with our subscriptions waiting for it.
    pub(super) fn enter(&self) -> Arc<Peer> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let lane = Lane::new(self.config.max_waiting, self.config.max_waiting_bytes);
        let peer = Arc::new(Peer { id, lane, wants: Mutex::default() });
        let mut peers = self.peers();
        for prefix in &peers.wants {
            peer.lane.push(subscription(1, prefix));
        }
        peers.open.push(Arc::clone(&peer));
        drop(peers);
        self.count(|stats| stats.opened += 1);
        self.changed.notify_waiters();
        peer
    }

    /// A connection is over.
    pub(super) fn leave(&self, peer: &Arc<Peer>) {
        self.peers().open.retain(|other| !Arc::ptr_eq(other, peer));
        let dropped = peer.lane.close() as u64;
        self.count(|stats| {
            stats.ended += 1;
            stats.dropped += dropped;
            stats.sent -= dropped.min(stats.sent);
        });
        self.changed.notify_waiters();
    }

    /// The peer wants, or does not want any more, what begins with `prefix`. Answers whether there was room.
    pub(super) fn on_subscription(&self, peer: &Peer, prefix: &Bytes, wanted: bool) -> bool {
        let mut wants = peer.wants();
        let found = wants.iter().position(|other| other == prefix);
        if wanted && wants.len() >= self.config.max_subscriptions {
            return false;
        }
        match (wanted, found) {
            (true, _) => wants.push(prefix.clone()),
            (false, Some(at)) => drop(wants.swap_remove(at)),
            (false, None) => {}
        }
        drop(wants);
        self.changed.notify_waiters();
        true
    }
}

/// A subscription as every version of ZMTP 3 reads it.
pub(super) fn subscription(first: u8, prefix: &[u8]) -> Message {
    Arc::new([[&[first], prefix].concat().into()])
}

/// A connection that is being made for the first time.
pub(super) struct First(Arc<Shared>);

impl First {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.settling.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.0.settling.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}
