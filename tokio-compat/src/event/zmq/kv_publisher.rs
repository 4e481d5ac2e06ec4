//! KV-cache events to whom it concerns: a socket that publishes them, and one that sends recent ones again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ringplane_core::event::kv::frames::Live;
use ringplane_core::event::kv::publisher::{self, KvPublisherStats, Outcome, PublishError};
use ringplane_core::event::kv::{Event, Publisher};
use ringplane_core::time::Instant as Time;
use ringplane_core::wire::zmtp::SocketType;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::event::zmq::config::Config;
use crate::event::zmq::endpoint::Endpoint;
use crate::event::zmq::lane::{Message, Pushed};
use crate::event::zmq::shared::{Incoming, What, ZmqStats};
use crate::event::zmq::socket::Socket;
use crate::event::zmq::start::{self, StartError};

/// Messages of an answer that wait for one client, beside what its connection holds: the rest waits in the ring.
const AHEAD: usize = 64;
/// Bytes of them.
const AHEAD_BYTES: usize = 1 << 20;
/// Messages of answers between two looks at who asks.
const TURN: usize = 256;

/// Where a publisher of KV events is, and what it keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvPublisherConfig {
    /// Where rank 0 publishes; the port of another rank is higher by the rank. Default `tcp://*:5557`, as vLLM's.
    pub endpoint: Endpoint,
    /// Where rank 0 answers requests for batches of the past. Default none. The convention is port 5558; with several ranks the two
    /// ports have to be as many apart.
    pub replay_endpoint: Option<Endpoint>,
    /// Whether it listens at `endpoint`; else it connects to a subscriber or broker that does. Default yes.
    pub bind: bool,
    /// What subscribers filter by. Default empty.
    pub topic: String,
    /// What it keeps, and how it writes; among it the rank.
    pub publisher: publisher::Config,
    /// Its sockets.
    pub socket: Config,
}

impl Default for KvPublisherConfig {
    fn default() -> Self {
        Self {
            endpoint: Endpoint { host: "*".into(), port: 5557 },
            replay_endpoint: None,
            bind: true,
            topic: String::new(),
            publisher: publisher::Config::default(),
            socket: Config::default(),
        }
    }
}

/// A publisher of KV events over ZeroMQ, for every reader of this stream. Its tasks end when it is dropped.
#[derive(Debug)]
pub struct KvPublisher {
    machine: Arc<Mutex<Publisher>>,
    socket: Socket,
    topic: Bytes,
    live: Option<SocketAddr>,
    replay: Option<SocketAddr>,
    _stop: DropGuard,
}

impl KvPublisher {
    /// Starts to publish, on the tokio runtime it is called from. The first batch says that nothing is held.
    ///
    /// # Errors
    /// [`StartError`]: an address cannot be used.
    pub async fn start(config: KvPublisherConfig) -> Result<Self, StartError> {
        let KvPublisherConfig { endpoint, replay_endpoint, bind, topic, publisher: ring, socket: options } = config;
        let endpoint = endpoint.of_rank(ring.rank)?;
        let replay_endpoint = replay_endpoint.map(|endpoint| endpoint.of_rank(ring.rank)).transpose()?;
        let stop = CancellationToken::new();
        let (socket, _) = Socket::new(SocketType::Pub, options.clone());
        let live = if bind {
            Some(start::listen(&socket, &endpoint).await?)
        } else {
            socket.connect(endpoint, 0, stop.clone());
            None
        };
        let machine = Arc::new(Mutex::new(Publisher::new(ring, unix_time())));
        let topic = Bytes::from(topic);
        let mut replay = None;
        if let Some(endpoint) = replay_endpoint {
            let options = Config { max_waiting: AHEAD, max_waiting_bytes: AHEAD_BYTES, ..options };
            let (router, asks) = Socket::new(SocketType::Router, options);
            replay = Some(start::listen(&router, &endpoint).await?);
            let answering =
                Answering { machine: Arc::clone(&machine), router, topic: topic.clone(), began: Instant::now() };
            let stopped = stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = answering.run(asks) => {}
                }
            });
        }
        let publisher = Self { machine, socket, topic, live, replay, _stop: stop.drop_guard() };
        publisher.send(&mut publisher.lock());
        Ok(publisher)
    }

    /// Publishes events as one batch and answers its number. It never waits, and may be called from any thread: a subscriber for which
    /// too much waits does not get it, sees so by the next number, and may ask for it.
    ///
    /// # Errors
    /// [`PublishError`] for events that readers could not make sense of.
    pub fn publish(&self, events: &[Event]) -> Result<u64, PublishError> {
        let mut machine = self.lock();
        let seq = machine.publish(unix_time(), events)?;
        self.send(&mut machine);
        Ok(seq)
    }

    /// Where it publishes, if it listens.
    pub const fn live_addr(&self) -> Option<SocketAddr> {
        self.live
    }

    /// Where it answers requests for batches of the past, if it does.
    pub const fn replay_addr(&self) -> Option<SocketAddr> {
        self.replay
    }

    /// Completes when somebody listens. What is published before is only to be had by asking.
    pub async fn listened(&self) {
        self.socket.listened(&self.topic).await;
    }

    /// Lets what was published leave, for at most the socket's `linger`, and ends.
    pub async fn close(self) {
        self.socket.drained().await;
    }

    /// What it has published and answered.
    pub fn stats(&self) -> KvPublisherStats {
        self.lock().stats()
    }

    /// What its live socket has done.
    pub fn socket_stats(&self) -> ZmqStats {
        self.socket.stats()
    }

    fn lock(&self) -> MutexGuard<'_, Publisher> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under the lock, so that batches leave in order, and an answer holds every batch that was sent before.
    fn send(&self, machine: &mut Publisher) {
        while let Some((seq, payload)) = machine.poll_live() {
            let message: Message = Arc::new(Live { topic: self.topic.clone(), seq, payload }.frames());
            self.socket.publish(&message);
        }
    }
}

/// Unix time in seconds.
fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The side of a publisher that answers.
struct Answering {
    machine: Arc<Mutex<Publisher>>,
    router: Socket,
    topic: Bytes,
    began: Instant,
}

impl Answering {
    async fn run(self, mut asks: mpsc::Receiver<Incoming>) {
        loop {
            let next = self.answer();
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.handle(ask),
                    None => return,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.lock().handle_timeout(self.now());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Publisher> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    fn handle(&self, Incoming { peer, what, .. }: Incoming) {
        let (client, now) = (Bytes::copy_from_slice(&peer.to_be_bytes()), self.now());
        match what {
            What::Messages(messages) => {
                for frames in messages {
                    if let Err(refused) = self.lock().handle_request(client.clone(), &frames, now) {
                        tracing::debug!(peer, ?refused, "a request for KV events is not answered");
                    }
                }
            }
            What::Down(_) => self.lock().handle_answered(&client, Outcome::Gone, now),
            What::Up | What::Subscribe(_) | What::Cancel(_) => {}
        }
    }

    /// Sends what there is room for, up to a turn's worth. Answers when to go on.
    fn answer(&self) -> Option<Instant> {
        for _ in 0..TURN {
            let now = self.now();
            // The lock is held for one message at a time: live batches go first.
            let mut machine = self.lock();
            let Some((client, answer)) = machine.poll_answer(now) else {
                return machine.next_deadline().map(|next| self.began + next.at.since(Time::ZERO));
            };
            let peer = client.as_ref().try_into().map_or(0, u64::from_be_bytes);
            let outcome = match self.router.send(peer, Arc::new(answer.frames(&self.topic))) {
                Pushed::Taken => Outcome::Sent,
                Pushed::Full => Outcome::Full,
                Pushed::Gone => Outcome::Gone,
            };
            machine.handle_answered(&client, outcome, now);
        }
        Some(Instant::now())
    }
}
