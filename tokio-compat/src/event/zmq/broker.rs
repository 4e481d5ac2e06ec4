//! A broker: publishers connect to one side, subscribers to the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use ringplane_core::wire::zmtp::SocketType;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::event::zmq::config::Config;
use crate::event::zmq::endpoint::Endpoint;
use crate::event::zmq::shared::{Incoming, What, ZmqStats};
use crate::event::zmq::socket::Socket;
use crate::event::zmq::start::{self, StartError};

/// Where a broker listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerConfig {
    /// Where publishers connect to (XSUB).
    pub xsub: Endpoint,
    /// Where subscribers connect to (XPUB).
    pub xpub: Endpoint,
    /// Its sockets. What a slow subscriber has no room for is dropped for it alone.
    pub socket: Config,
}

/// A broker of ZeroMQ messages. It hands on whatever comes, of any form, to those that subscribed to how it begins, and asks publishers
/// for no more than that. Its tasks end when it is dropped.
#[derive(Debug)]
pub struct Broker {
    xsub: SocketAddr,
    xpub: SocketAddr,
    sockets: Arc<(Socket, Socket)>,
    _stop: DropGuard,
}

impl Broker {
    /// Starts to listen, on the tokio runtime it is called from.
    ///
    /// # Errors
    /// [`StartError`] if it cannot listen at an address.
    pub async fn start(config: BrokerConfig) -> Result<Self, StartError> {
        let (from, incoming) = Socket::new(SocketType::XSub, config.socket.clone());
        let (to, wishes) = Socket::new(SocketType::XPub, config.socket);
        let (xsub, xpub) = (start::listen(&from, &config.xsub).await?, start::listen(&to, &config.xpub).await?);
        let (sockets, stop) = (Arc::new((from, to)), CancellationToken::new());
        let (running, stopped) = (Arc::clone(&sockets), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = hand_on(&running.0, &running.1, incoming, wishes) => {}
            }
        });
        Ok(Self { xsub, xpub, sockets, _stop: stop.drop_guard() })
    }

    /// Where publishers connect to.
    pub const fn xsub_addr(&self) -> SocketAddr {
        self.xsub
    }

    /// Where subscribers connect to.
    pub const fn xpub_addr(&self) -> SocketAddr {
        self.xpub
    }

    /// How many subscribers want what begins with `topic`.
    pub fn listeners(&self, topic: &[u8]) -> usize {
        self.sockets.1.listeners(topic)
    }

    /// What the sides of publishers and of subscribers have done.
    pub fn stats(&self) -> (ZmqStats, ZmqStats) {
        (self.sockets.0.stats(), self.sockets.1.stats())
    }
}

async fn hand_on(
    from: &Socket,
    to: &Socket,
    mut incoming: mpsc::Receiver<Incoming>,
    mut wishes: mpsc::Receiver<Incoming>,
) {
    let mut wanted = Wanted::default();
    loop {
        tokio::select! {
            Some(Incoming { what, .. }) = incoming.recv() => {
                if let What::Messages(messages) = what {
                    for message in messages {
                        to.publish(&Arc::from(message));
                    }
                }
            }
            Some(Incoming { peer, what, .. }) = wishes.recv() => match what {
                What::Subscribe(prefix) => wanted.add(peer, prefix, from),
                What::Cancel(prefix) => wanted.take(peer, &prefix, from),
                What::Down(_) => wanted.leave(peer, from),
                What::Up | What::Messages(_) => {}
            },
            else => return,
        }
    }
}

/// What each subscriber wants, and how many want it.
#[derive(Default)]
struct Wanted {
    of: HashMap<u64, Vec<Bytes>>,
    counts: HashMap<Bytes, usize>,
}

impl Wanted {
    fn add(&mut self, peer: u64, prefix: Bytes, from: &Socket) {
        self.of.entry(peer).or_default().push(prefix.clone());
        let count = self.counts.entry(prefix.clone()).or_default();
        *count += 1;
        if *count == 1 {
            from.subscribe(&prefix);
        }
    }

    fn take(&mut self, peer: u64, prefix: &Bytes, from: &Socket) {
        let Some(all) = self.of.get_mut(&peer) else { return };
        let Some(at) = all.iter().position(|other| other == prefix) else { return };
        all.swap_remove(at);
        self.release(prefix, from);
    }

    fn leave(&mut self, peer: u64, from: &Socket) {
        for prefix in self.of.remove(&peer).unwrap_or_default() {
            self.release(&prefix, from);
        }
    }

    fn release(&mut self, prefix: &Bytes, from: &Socket) {
        if let Some(count) = self.counts.get_mut(prefix) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(prefix);
                from.cancel(prefix);
            }
        }
    }
}
