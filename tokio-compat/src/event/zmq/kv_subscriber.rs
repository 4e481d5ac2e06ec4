//! The KV-cache events of one engine and rank: listened to, and asked for where they were missed.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use ringplane_core::event::kv::frames::{self, Answer, Live};
use ringplane_core::event::kv::source::KvSourceStats;
use ringplane_core::event::kv::subscriber::{self, Ask};
use ringplane_core::event::kv::{Output, Subscriber};
use ringplane_core::time::Instant as Time;
use ringplane_core::wire::zmtp::SocketType;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::event::zmq::config::Config;
use crate::event::zmq::endpoint::{BadEndpoint, Endpoint};
use crate::event::zmq::shared::{Incoming, What};
use crate::event::zmq::socket::Socket;

/// Questions of all subscribers of the process that are answered at a time.
pub const MAX_SEARCHES: usize = 8;
/// Outputs that wait for the consumer. Beyond, the engine's batches are not read.
const OUTPUTS: usize = 1024;

/// Where an engine publishes, and what is expected of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvSubscriberConfig {
    /// Where rank 0 publishes; the port of another rank is higher by the rank.
    pub endpoint: Endpoint,
    /// Where rank 0 answers requests for batches of the past. Default none: gaps are told at once.
    pub replay_endpoint: Option<Endpoint>,
    /// What topics have to begin with. Default empty: all.
    pub topic: String,
    /// Rank, bounds and patience. Whether there is somebody to ask follows from `replay_endpoint`.
    pub subscriber: subscriber::Config,
    /// Its sockets.
    pub socket: Config,
}

impl KvSubscriberConfig {
    /// A subscriber of the engine that publishes there, without anybody to ask.
    pub fn new(endpoint: Endpoint) -> Self {
        let (subscriber, socket) = Default::default();
        Self { endpoint, replay_endpoint: None, topic: String::new(), subscriber, socket }
    }
}

#[derive(Copy, Clone, Default, Debug)]
struct Seen {
    stats: KvSourceStats,
    exact: bool,
    held: usize,
}

/// A subscriber of the KV events of one engine and rank. It connects by itself, again and again, and ends when it is dropped.
#[derive(Debug)]
pub struct KvSubscriber {
    outputs: mpsc::Receiver<Output>,
    seen: Arc<Mutex<Seen>>,
    _stop: DropGuard,
}

impl KvSubscriber {
    /// Starts to listen, on the tokio runtime it is called from.
    ///
    /// # Errors
    /// [`BadEndpoint`] if there is no port for the rank.
    pub fn start(config: KvSubscriberConfig) -> Result<Self, BadEndpoint> {
        let KvSubscriberConfig { endpoint, replay_endpoint, topic, mut subscriber, socket: options } = config;
        let endpoint = endpoint.of_rank(subscriber.rank)?;
        let replay = replay_endpoint.map(|endpoint| endpoint.of_rank(subscriber.rank)).transpose()?;
        subscriber.replay = replay.is_some();
        let stop = CancellationToken::new();
        let (socket, live) = Socket::new(SocketType::Sub, options.clone());
        socket.subscribe(&Bytes::from(topic));
        socket.connect(endpoint, 0, stop.clone());
        let (outbound, outputs) = mpsc::channel(OUTPUTS);
        let seen = Arc::new(Mutex::default());
        let machine = Subscriber::new(subscriber);
        let following = Following {
            machine,
            replay,
            options,
            outbound,
            seen: Arc::clone(&seen),
            began: Instant::now(),
            search: None,
        };
        let stopped = stop.clone();
        tokio::spawn(async move {
            let _socket = socket;
            tokio::select! {
                () = stopped.cancelled() => {}
                () = following.run(live) => {}
            }
        });
        Ok(Self { outputs, seen, _stop: stop.drop_guard() })
    }

    /// What is to be told next. Cancel safe. A consumer that does not take them holds up the engine's batches, which may then be missed,
    /// told and asked for.
    pub async fn next(&mut self) -> Option<Output> {
        self.outputs.recv().await
    }

    /// What was seen of the source.
    pub fn stats(&self) -> KvSourceStats {
        self.seen().stats
    }

    /// Whether what was read is all the engine holds; see [`Subscriber::is_exact`].
    pub fn is_exact(&self) -> bool {
        self.seen().exact
    }

    /// Hashes that are remembered, each once per place it lies in.
    pub fn held(&self) -> usize {
        self.seen().held
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question under way: a socket of its own, dropped with it.
struct Search {
    id: u64,
    start: u64,
    socket: Socket,
    answers: mpsc::Receiver<Incoming>,
    _permit: OwnedSemaphorePermit,
}

struct Following {
    machine: Subscriber,
    replay: Option<Endpoint>,
    options: Config,
    outbound: mpsc::Sender<Output>,
    seen: Arc<Mutex<Seen>>,
    began: Instant,
    search: Option<Search>,
}

impl Following {
    async fn run(mut self, mut live: mpsc::Receiver<Incoming>) {
        let turns = searches();
        loop {
            self.tell().await;
            if self.search.as_ref().is_some_and(|search| self.machine.awaited() != Some(search.id)) {
                self.search = None;
            }
            let deadline = self.machine.next_deadline().map(|next| self.began + next.at.since(Time::ZERO));
            let asks = self.search.is_none() && self.machine.wants_to_ask();
            tokio::select! {
                incoming = live.recv() => match incoming {
                    Some(incoming) => self.on_live(incoming.what),
                    None => return,
                },
                Some(incoming) = answer(&mut self.search) => self.on_answer(incoming),
                permit = Arc::clone(turns).acquire_owned(), if asks => {
                    let Ok(permit) = permit else { return };
                    self.ask(permit);
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.machine.handle_timeout(self.now());
                }
                () = self.outbound.closed() => return,
            }
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    /// Hands on all there is to tell, and waits for room.
    async fn tell(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            self.note();
            if self.outbound.send(output).await.is_err() {
                return;
            }
        }
        self.note();
    }

    fn note(&self) {
        let (stats, exact, held) = (self.machine.stats(), self.machine.is_exact(), self.machine.held());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen { stats, exact, held };
    }

    fn on_live(&mut self, what: What) {
        let now = self.now();
        match what {
            What::Up => self.machine.handle_connected(now),
            What::Down(_) => self.machine.handle_disconnected(),
            What::Messages(messages) => {
                for message in messages {
                    match Live::read(&message) {
                        Ok(Live { seq, payload, .. }) => self.machine.handle_live(seq, payload, now),
                        Err(error) => {
                            tracing::debug!(%error, "a message that is no batch of KV events");
                            self.machine.handle_malformed();
                        }
                    }
                }
            }
            What::Subscribe(_) | What::Cancel(_) => {}
        }
    }

    fn ask(&mut self, permit: OwnedSemaphorePermit) {
        let (Some(Ask { id, start }), Some(endpoint)) = (self.machine.poll_ask(self.now()), &self.replay) else {
            return;
        };
        let (socket, answers) = Socket::new(SocketType::Dealer, self.options.clone());
        socket.connect(endpoint.clone(), 0, CancellationToken::new());
        self.search = Some(Search { id, start, socket, answers, _permit: permit });
    }

    fn on_answer(&mut self, Incoming { peer, what, .. }: Incoming) {
        let Some(Search { id, start, ref socket, .. }) = self.search else { return };
        let now = self.now();
        match what {
            What::Up => drop(socket.send(peer, Arc::new(frames::request(start)))),
            What::Messages(messages) => {
                for message in messages {
                    match Answer::read(&message) {
                        Ok(answer) => self.machine.handle_answer(id, answer, now),
                        Err(error) => {
                            tracing::debug!(%error, "a message that is no answer about KV events");
                            self.machine.handle_malformed();
                        }
                    }
                }
            }
            // It is asked again when the answer is overdue.
            What::Down(_) | What::Subscribe(_) | What::Cancel(_) => {}
        }
    }
}

/// The next message of the answer that is awaited.
async fn answer(search: &mut Option<Search>) -> Option<Incoming> {
    match search {
        Some(search) => search.answers.recv().await,
        None => std::future::pending().await,
    }
}

/// Turns for questions, for all subscribers of the process.
fn searches() -> &'static Arc<Semaphore> {
    static SEARCHES: OnceLock<Arc<Semaphore>> = OnceLock::new();
    SEARCHES.get_or_init(|| Arc::new(Semaphore::new(MAX_SEARCHES)))
}
