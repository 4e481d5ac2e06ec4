//! One connection: bytes between its machine, its lane and the owner of its socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ringplane_core::chain::Chain;
use ringplane_core::event::zmtp::{Connection, Event};
use ringplane_core::time::Instant as Time;
use ringplane_core::wire::zmtp::SocketType;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::event::zmq::shared::{Down, First, Incoming, Peer, Shared, What};

/// Bytes that are read, and gathered for writing, at a time.
const CHUNK: usize = 64 << 10;
/// A moment that does not come.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A connection from its first byte to its end. It leaves when it is dropped, too.
struct Talk<'a> {
    shared: &'a Arc<Shared>,
    tag: u64,
    machine: Connection,
    epoch: Instant,
    peer: Option<Arc<Peer>>,
    /// Until the peer knows what we want.
    first: Option<First>,
    /// What we want, to be said before anything else.
    ahead: BytesMut,
    /// The peer has been asked whether it knows.
    asked: bool,
    /// What the owner of the socket has not taken yet.
    pending: VecDeque<Incoming>,
}

impl Drop for Talk<'_> {
    fn drop(&mut self) {
        match &self.peer {
            Some(peer) => self.shared.leave(peer),
            None => self.shared.count(|stats| stats.refused += 1),
        }
    }
}

/// Runs a connection until it ends, and tells the owner of the socket.
pub(super) async fn run(shared: &Arc<Shared>, stream: TcpStream, tag: u64, first: Option<First>) {
    if let Err(error) = prepare(shared, &stream) {
        tracing::debug!(%error, "a connection has no options");
    }
    let machine = Connection::new(shared.config.connection(shared.kind), Time::ZERO);
    let (ahead, pending) = (BytesMut::new(), VecDeque::new());
    let mut talk =
        Talk { shared, tag, first, machine, epoch: Instant::now(), peer: None, ahead, asked: false, pending };
    let down = talk.run(stream).await;
    tracing::debug!(kind = shared.kind.name(), why = %Chain(&down), "a connection has ended");
    talk.tell(What::Down(down));
    let left = std::mem::take(&mut talk.pending);
    drop(talk);
    for incoming in left {
        if shared.inbound.send(incoming).await.is_err() {
            return;
        }
    }
}

/// What finds a peer that has vanished where pings do not: with one that does not know them, or while bytes are on their way.
fn prepare(shared: &Shared, stream: &TcpStream) -> std::io::Result<()> {
    let socket = SockRef::from(stream);
    let config = &shared.config;
    let probes =
        TcpKeepalive::new().with_time(config.ping_interval).with_interval(config.ping_timeout / 2).with_retries(2);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(config.stall_timeout))
}

impl Talk<'_> {
    fn now(&self) -> Time {
        Time::ZERO + self.epoch.elapsed()
    }

    async fn run(&mut self, mut stream: TcpStream) -> Down {
        let (mut read, mut write) = stream.split();
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        let stop = self.shared.stop.clone();
        let mut moved = Instant::now();
        loop {
            self.gather(&mut output);
            input.reserve(CHUNK);
            let far = self.epoch + NEVER;
            let deadline =
                self.machine.next_deadline().map(|next| self.epoch + next.at.since(Time::ZERO)).unwrap_or(far);
            let (idle, blocked) = (output.is_empty(), !self.pending.is_empty());
            let peer = self.peer.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Down::Closed,
                permit = self.shared.inbound.reserve(), if blocked => {
                    let (Ok(permit), Some(next)) = (permit, self.pending.pop_front()) else { return Down::Closed };
                    permit.send(next);
                }
                came = read.read_buf(&mut input), if !blocked => {
                    match came {
                        Ok(0) => return Down::Closed,
                        Ok(_) => {}
                        Err(error) => return Down::Io(error),
                    }
                    let read = self.machine.handle_recv(&mut input, self.now());
                    // What was said before a fault was said.
                    self.collect();
                    if let Err(fault) = read {
                        return Down::Fault(fault);
                    }
                }
                went = write.write_buf(&mut output), if !idle => {
                    match went {
                        Ok(_) => moved = Instant::now(),
                        Err(error) => return Down::Io(error),
                    }
                }
                () = rung(peer.as_deref()), if idle => moved = Instant::now(),
                // A peer whose bytes we do not read, or that reads none of ours, cannot give a sign of life.
                () = sleep_until(deadline), if idle && !blocked => {
                    if let Err(fault) = self.machine.handle_timeout(self.now()) {
                        return Down::Fault(fault);
                    }
                    moved = Instant::now();
                }
                () = sleep_until(moved + self.shared.config.stall_timeout), if !idle => {
                    return Down::Stalled(self.shared.config.stall_timeout);
                }
            }
        }
    }

    /// Gathers what is to be written: our own words first, then messages.
    fn gather(&mut self, output: &mut BytesMut) {
        output.unsplit(self.ahead.split());
        while let Some(bytes) = self.machine.poll_transmit() {
            output.extend_from_slice(&bytes);
        }
        if let Some(peer) = self.peer.as_ref().filter(|_| output.len() < CHUNK) {
            peer.lane.take(output, CHUNK);
        }
    }

    /// Takes what the machine has read.
    fn collect(&mut self) {
        let mut messages = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            match (event, &self.peer) {
                (Event::Ready { .. }, None) => {
                    let peer = self.shared.enter();
                    peer.lane.take(&mut self.ahead, usize::MAX);
                    self.peer = Some(peer);
                    // What we want is in effect once a ping behind it is answered.
                    self.asked = !self.ahead.is_empty() && self.machine.ping();
                    if !self.asked {
                        self.up();
                    }
                }
                (Event::Pong, Some(_)) if std::mem::take(&mut self.asked) => self.up(),
                (Event::Message(message), Some(_)) => messages.push(message),
                (Event::Subscribe(prefix), Some(peer)) => {
                    let peer = Arc::clone(peer);
                    if self.shared.publishes() && self.shared.on_subscription(&peer, &prefix, true) {
                        self.tell(What::Subscribe(prefix));
                    }
                }
                (Event::Cancel(prefix), Some(peer)) => {
                    let peer = Arc::clone(peer);
                    if self.shared.publishes() {
                        self.shared.on_subscription(&peer, &prefix, false);
                        self.tell(What::Cancel(prefix));
                    }
                }
                _ => {}
            }
        }
        if !messages.is_empty() {
            let count = messages.len() as u64;
            self.shared.count(|stats| stats.received += count);
            self.tell(What::Messages(messages));
        }
    }

    fn up(&mut self) {
        self.first = None;
        self.tell(What::Up);
    }

    fn tell(&mut self, what: What) {
        let Some(peer) = &self.peer else { return };
        if self.shared.kind != SocketType::Pub {
            self.pending.push_back(Incoming { peer: peer.id, tag: self.tag, what });
        }
    }
}

/// Completes when something waits for the peer.
async fn rung(peer: Option<&Peer>) {
    match peer {
        Some(peer) => peer.lane.bell.notified().await,
        None => std::future::pending().await,
    }
}
