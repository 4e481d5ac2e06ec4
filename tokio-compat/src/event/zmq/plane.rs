//! Events over ZeroMQ, as Dynamo has them: from each publisher directly, or through brokers.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ringplane_core::discovery::channel::{EventChannel, EventTransport};
use ringplane_core::discovery::event::{EventQuery, PublisherId, Scope};
use ringplane_core::discovery::set::{Change, Set};
use ringplane_core::event::frame::Frame;
use ringplane_core::event::inbox::Slow;
use ringplane_core::event::message::Message;
use ringplane_core::event::subject::Subject;
use ringplane_core::wire::zmtp::SocketType;
use ringplane_core::wire::{Error as WireError, ErrorKind, Format as _, Limits, Parse};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::discovery::backend::{Backend, BoxFuture};
use crate::discovery::hub::Watch;
use crate::event::error::Error;
use crate::event::kind::Kind;
use crate::event::listen::Listen;
use crate::event::subscription::{Feeder, Subscription, subscription};
use crate::event::transport::Transport;
use crate::event::zmq::brokers::Way;
use crate::event::zmq::config::Config;
use crate::event::zmq::endpoint::Endpoint;
use crate::event::zmq::lane;
use crate::event::zmq::shared::{Incoming, What};
use crate::event::zmq::socket::Socket;
use crate::vars;

/// The component under which brokers stand in discovery.
pub const BROKER_COMPONENT: &str = "zmq_broker";

/// How events go over ZeroMQ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZmqConfig {
    /// Which way. Default directly.
    pub way: Way,
    /// The address that publishers name in discovery. Default the loopback.
    pub host: IpAddr,
    /// Whether they listen at all addresses of the machine, as Dynamo's do, and not at that one alone. Default no.
    pub all_addresses: bool,
    /// Sockets.
    pub socket: Config,
}

impl Default for ZmqConfig {
    fn default() -> Self {
        Self { way: Way::Direct, host: IpAddr::from([127, 0, 0, 1]), all_addresses: false, socket: Config::default() }
    }
}

impl ZmqConfig {
    /// Reads Dynamo's variables through `get`: `DYN_ZMQ_BROKER_URL` and `DYN_ZMQ_BROKER_ENABLED` choose the [way](Way),
    /// `DYN_EVENT_PLANE_HOST` is the address that publishers name. An empty one counts as unset.
    ///
    /// # Errors
    /// [`vars::Error::Malformed`] for brokers that are none, and for a host that is no IP address, or is one that nobody can
    /// connect to.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self, vars::Error> {
        let (name, wanted) = ("DYN_EVENT_PLANE_HOST", "an IP address that others can connect to");
        let mut config = Self { way: Way::from_env(&get)?, ..Self::default() };
        if let Some(value) = get(name).filter(|value| !value.trim().is_empty()) {
            let bare = value.trim().trim_start_matches('[').trim_end_matches(']');
            let host = bare.parse().ok().filter(|host: &IpAddr| !host.is_unspecified());
            config.host = host.ok_or(vars::Error::Malformed { name, value, wanted })?;
        }
        Ok(config)
    }
}

/// Events over ZeroMQ. Publishers never wait: what a subscriber has no room for is a gap that it is told of.
pub struct Zmq {
    backend: Arc<dyn Backend>,
    config: ZmqConfig,
    /// Sockets of publishers, with what each publishes.
    open: Mutex<HashMap<PublisherId, Arc<Voice>>>,
}

impl fmt::Debug for Zmq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zmq").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a publisher has.
struct Voice {
    subject: String,
    topic: Bytes,
    socket: Socket,
    /// Where it was made, for its end.
    runtime: Handle,
    _stop: DropGuard,
}

impl Zmq {
    /// Events by these sockets, whose addresses are in this discovery.
    pub fn new(backend: Arc<dyn Backend>, config: ZmqConfig) -> Self {
        Self { backend, config, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<PublisherId, Arc<Voice>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn voice(&self, publisher: PublisherId) -> Option<Arc<Voice>> {
        self.open().get(&publisher).cloned()
    }

    async fn begin(&self, subject: &Subject, publisher: PublisherId) -> Result<Option<EventTransport>, Error> {
        let (socket, _) = Socket::new(SocketType::Pub, self.config.socket.clone());
        let stop = CancellationToken::new();
        let (topic, way) = match &self.config.way {
            Way::Direct => (subject.topic(), Some(self.bind(&socket).await?)),
            Way::Brokers(brokers) => {
                brokers.xsub.iter().for_each(|broker| socket.connect(broker.clone(), 0, stop.clone()));
                (subject.as_str(), None)
            }
            Way::Discovered => {
                let watch = self.watch_brokers(subject.scope()).await?;
                tokio::spawn(follow(Links::new(Side::Publisher), watch, socket.clone(), stop.clone()));
                (subject.as_str(), None)
            }
        };
        if way.is_none() && timeout(self.config.socket.connect_timeout, socket.connected()).await.is_err() {
            return Err(Error::Unreachable { transport: Kind::Zmq, what: "no broker" });
        }
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        let (subject, runtime) = (subject.as_str().to_owned(), Handle::current());
        let voice = Voice { subject, topic, socket, runtime, _stop: stop.drop_guard() };
        self.open().insert(publisher, Arc::new(voice));
        Ok(way)
    }

    async fn bind(&self, socket: &Socket) -> Result<EventTransport, Error> {
        let host = self.config.host;
        let at = match host {
            _ if !self.config.all_addresses => host,
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let bound = socket.bind(&Endpoint { host: at.to_string(), port: 0 }).await;
        let port = bound.map_err(|error| Error::broken(Kind::Zmq, error))?.port();
        Ok(EventTransport::Zmq { endpoint: Endpoint { host: host.to_string(), port }.to_string() })
    }

    async fn listen(&self, subject: &Subject, listen: Listen) -> Result<Subscription, Error> {
        if listen.group.is_some() {
            return Err(Error::Unsupported { transport: Kind::Zmq, what: "groups" });
        }
        if listen.inbox.slow == Slow::Wait {
            return Err(Error::Unsupported { transport: Kind::Zmq, what: "subscribers that publishers wait for" });
        }
        let (socket, incoming) = Socket::new(SocketType::Sub, self.config.socket.clone());
        let stop = CancellationToken::new();
        let direct = self.config.way == Way::Direct;
        let topic = Bytes::copy_from_slice(if direct { subject.topic() } else { subject.as_str() }.as_bytes());
        socket.subscribe(&topic);
        let watched = match &self.config.way {
            Way::Direct => {
                let (scope, topic) = (Some(subject.scope().clone()), Some(subject.topic().to_owned()));
                Some((Side::Direct, self.backend.channels().watch(EventQuery { scope, topic }).await?))
            }
            Way::Discovered => Some((Side::Subscriber, self.watch_brokers(subject.scope()).await?)),
            Way::Brokers(brokers) => {
                brokers.xpub.iter().for_each(|broker| socket.connect(broker.clone(), 0, stop.clone()));
                None
            }
        };
        let (mut links, known) = Links::new_known();
        if let Some((side, watch)) = watched {
            links.side = side;
            tokio::spawn(follow(links, watch, socket.clone(), stop.clone()));
        } else {
            drop(links);
        }
        let (feeder, subscription) = subscription(subject.topic(), &listen);
        let name = subject.topic().to_owned();
        let reader = Reader { topic, name, direct, max_message: self.config.socket.max_message };
        let (stopped, reading) = (stop.clone(), socket.clone());
        tokio::spawn(async move {
            let _socket = reading;
            tokio::select! {
                () = stopped.cancelled() => {}
                () = feeder.gone() => {}
                () = reader.run(incoming, &feeder) => {}
            }
        });
        // Those that are there already are to be heard from the next event on.
        let settled = async {
            let _ = known.await;
            socket.settled().await;
        };
        let _ = timeout(self.config.socket.connect_timeout, settled).await;
        Ok(subscription.keeping(stop.drop_guard()))
    }

    async fn watch_brokers(&self, scope: &Scope) -> Result<Watch<EventChannel>, Error> {
        let namespace = scope.namespace().to_owned();
        let scope = Scope::Component { namespace, component: BROKER_COMPONENT.to_owned() };
        Ok(self.backend.channels().watch(EventQuery { scope: Some(scope), topic: None }).await?)
    }
}

impl Transport for Zmq {
    fn kind(&self) -> Kind {
        Kind::Zmq
    }

    fn open<'a>(
        &'a self,
        subject: &'a Subject,
        publisher: PublisherId,
    ) -> BoxFuture<'a, Result<Option<EventTransport>, Error>> {
        Box::pin(self.begin(subject, publisher))
    }

    fn close(&self, _: &Subject, publisher: PublisherId) {
        let Some(voice) = self.open().remove(&publisher) else { return };
        let runtime = voice.runtime.clone();
        // What it has said still goes out.
        runtime.spawn(async move {
            voice.socket.drained().await;
        });
    }

    fn publish<'a>(&'a self, _: &'a Subject, message: Message) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let voice = self.voice(message.publisher);
            let voice = voice.ok_or_else(|| Error::broken(Kind::Zmq, "the publisher is not open"))?;
            if self.config.way != Way::Direct && voice.socket.peers() == 0 {
                return Err(Error::broken(Kind::Zmq, "no broker is connected"));
            }
            let frame = Frame { envelope: &message.envelope };
            let mut framed = vec![0; frame.emitted_len()];
            frame.emit(&mut framed)?;
            let number = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
            let parts = [voice.topic.clone(), number(message.publisher.0), number(message.sequence), framed.into()];
            voice.socket.publish(&(Arc::new(parts) as lane::Message));
            Ok(())
        })
    }

    fn flush<'a>(&'a self, subject: Option<&'a Subject>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let asked = |voice: &&Arc<Voice>| subject.is_none_or(|subject| voice.subject == subject.as_str());
            let voices: Vec<_> = self.open().values().filter(asked).cloned().collect();
            for voice in voices {
                if !voice.socket.drained().await {
                    return Err(Error::Stalled(self.config.socket.linger));
                }
            }
            Ok(())
        })
    }

    fn listeners(&self, subject: &Subject) -> Option<usize> {
        let open = self.open();
        let voices = open.values().filter(|voice| voice.subject == subject.as_str());
        // Those that every publisher here reaches.
        Some(voices.map(|voice| voice.socket.listeners(&voice.topic)).min().unwrap_or(0))
    }

    fn subscribe<'a>(&'a self, subject: &'a Subject, listen: Listen) -> BoxFuture<'a, Result<Subscription, Error>> {
        Box::pin(self.listen(subject, listen))
    }
}

/// What of a record somebody connects to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Side {
    /// A subscriber to the publisher.
    Direct,
    /// A publisher to the broker.
    Publisher,
    /// A subscriber to the broker.
    Subscriber,
}

/// The connections that discovery asks for.
struct Links {
    side: Side,
    open: HashMap<(u64, Endpoint), CancellationToken>,
    /// To be told when all records of the beginning are known.
    known: Option<oneshot::Sender<()>>,
}

impl Links {
    fn new(side: Side) -> Self {
        Self { side, open: HashMap::new(), known: None }
    }

    fn new_known() -> (Self, oneshot::Receiver<()>) {
        let (known, told) = oneshot::channel();
        (Self { side: Side::Direct, open: HashMap::new(), known: Some(known) }, told)
    }

    /// Where to connect to for a record, and what the connection is called: by its publisher, or by nothing.
    fn wanted(&self, channel: &EventChannel) -> Vec<(u64, Endpoint)> {
        let (tag, texts) = match (self.side, &channel.transport) {
            (Side::Direct, EventTransport::Zmq { endpoint }) => (channel.publisher.0, std::slice::from_ref(endpoint)),
            (Side::Publisher, EventTransport::ZmqBroker { xsub_endpoints, .. }) => (0, xsub_endpoints.as_slice()),
            (Side::Subscriber, EventTransport::ZmqBroker { xpub_endpoints, .. }) => (0, xpub_endpoints.as_slice()),
            _ => return Vec::new(),
        };
        let read = |text: &String| match text.parse() {
            Ok(endpoint) => Some((tag, endpoint)),
            Err(error) => {
                tracing::debug!(publisher = ?channel.publisher, %error, "an event channel that cannot be used");
                None
            }
        };
        texts.iter().filter_map(read).collect()
    }

    /// Makes the connections that are missing, and lets go of those nobody asks for any more.
    fn reconcile(&mut self, set: &Set<EventChannel>, socket: &Socket, stop: &CancellationToken) {
        let wanted: Vec<_> = set.iter().flat_map(|channel| self.wanted(channel)).collect();
        self.open.retain(|link, token| {
            let stays = wanted.contains(link);
            if !stays {
                token.cancel();
            }
            stays
        });
        for link in wanted {
            self.open.entry(link).or_insert_with_key(|(tag, endpoint)| {
                let token = stop.child_token();
                socket.connect(endpoint.clone(), *tag, token.clone());
                token
            });
        }
    }
}

/// Follows discovery until `stop`.
async fn follow(mut links: Links, mut watch: Watch<EventChannel>, socket: Socket, stop: CancellationToken) {
    let mut set = Set::default();
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = watch.next() => change,
        };
        let Some(change) = change else { return };
        let whole = matches!(change, Change::Resync(_));
        set.apply(change);
        links.reconcile(&set, &socket, &stop);
        if let Some(known) = links.known.take_if(|_| whole) {
            let _ = known.send(());
        }
    }
}

/// What makes events of what comes.
struct Reader {
    topic: Bytes,
    name: String,
    /// Each connection is one publisher's, by whose id it is called.
    direct: bool,
    max_message: usize,
}

impl Reader {
    async fn run(&self, mut incoming: mpsc::Receiver<Incoming>, feeder: &Feeder) {
        while let Some(Incoming { tag, what, .. }) = incoming.recv().await {
            let What::Messages(messages) = what else { continue };
            for frames in messages {
                match self.read(tag, &frames) {
                    Ok(Some(message)) => feeder.push(message).await,
                    Ok(None) => {}
                    Err(error) => feeder.push_malformed(error),
                }
            }
        }
    }

    /// The event of a message; `None` if it is of another topic.
    fn read(&self, tag: u64, frames: &[Bytes]) -> Result<Option<Message>, WireError> {
        let [topic, publisher, sequence, framed] = frames else { return Err(invalid(ErrorKind::Invalid)) };
        if *topic != self.topic {
            return Ok(None);
        }
        if publisher.len() != 8 || sequence.len() != 8 {
            return Err(invalid(ErrorKind::Invalid));
        }
        let limits = Limits { max_message: self.max_message, ..Limits::DEFAULT };
        let envelope = match Frame::parse(framed, &limits)? {
            Parse::Complete { value, .. } => framed.slice_ref(value.envelope),
            Parse::Incomplete { .. } => return Err(invalid(ErrorKind::Truncated)),
        };
        let message = Message::read(envelope, &self.name)?;
        // Whoever has come to the address of another publisher is not that one.
        match &message {
            Some(message) if self.direct && message.publisher.0 != tag => Err(invalid(ErrorKind::Unexpected)),
            _ => Ok(message),
        }
    }
}

fn invalid(kind: ErrorKind) -> WireError {
    WireError::new(kind, 0)
}
