//! Events over the connections of calls, between ringplane processes: a subscription is a call whose answer does not end.
//!
//! A process that publishes serves the endpoint `NAMESPACE.ringplane_events.listen` for each namespace it publishes in. A
//! subscriber finds its instances by discovery and calls each. Credit, drain and signs of life are those of calls.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex as Locked, MutexGuard, PoisonError};
use std::time::Duration;

use ringplane_core::chain::Chain;
use ringplane_core::discovery::channel::EventTransport;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::set::{Change, Set};
use ringplane_core::event::inbox::{self, Slow};
use ringplane_core::event::message::Message;
use ringplane_core::event::subject::Subject;
use ringplane_core::event::tracker::Gap;
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_core::retry::backoff;
use ringplane_core::rng::Rng;
use ringplane_tokio::discovery::{Backend, BoxFuture, Watch};
use ringplane_tokio::event::{Error, Feeder, Fetch, Kept, Kind, Listen, Subscription, Transport, subscription};
use ringplane_tokio::random::random_u64;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::call::Call;
use crate::client::client::Client;
use crate::client::request::CallRequest;
use crate::events::ask::{Ask, Item, Stage, answer};
use crate::events::homes::Homes;
use crate::runtime::config::Config;
use crate::runtime::upkeep::Upkeep;
use crate::worker::worker::Worker;

/// How events go over mux.
#[derive(Clone, PartialEq, Debug)]
pub struct MuxConfig {
    /// Where a process that publishes listens. Default `127.0.0.1:0`: this host only, any free port.
    pub listen: SocketAddr,
    /// The address that subscribers dial, if it differs. Port 0 means the port listened on.
    pub advertise: Option<SocketAddr>,
    /// How long a new subscription waits to be heard by the publishers that there are. Default 5 s.
    pub patience: Duration,
    /// Events that may wait at a publisher's end for one subscriber. Default 65,536.
    pub waiting: usize,
    /// Bytes of their envelopes. Default 64 MiB.
    pub waiting_bytes: usize,
    /// How long a publisher waits for one subscriber at a time that asked to be waited for: an event that finds no room in this
    /// time is dropped for it, and told, and it is not waited for again before it has taken something. Default 10 s.
    pub max_wait: Duration,
    /// How long a publisher's end waits for its subscribers to have taken what there is, when it is shut down. Default 5 s.
    pub farewell: Duration,
    /// Driver, threads and knobs of worker and client.
    pub config: Config,
}

impl Default for MuxConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: None,
            patience: Duration::from_secs(5),
            waiting: 65_536,
            waiting_bytes: 64 << 20,
            max_wait: Duration::from_secs(10),
            farewell: Duration::from_secs(5),
            config: Config::default(),
        }
    }
}

/// Events over the connections of calls.
pub(super) struct Mux {
    backend: Arc<dyn Backend>,
    config: MuxConfig,
    /// What is published in this process, for those that have called.
    stage: Arc<Stage>,
    /// One for each namespace that is published in.
    workers: Mutex<HashMap<String, Worker>>,
    client: Client,
    /// The tasks of subscriptions.
    upkeep: Upkeep,
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Mux {
    /// Starts the threads of the client. What listens is started with the first publisher.
    pub(super) fn open(backend: Arc<dyn Backend>, config: MuxConfig, upkeep: Upkeep) -> Result<Self, Error> {
        let client = Client::builder().discovery_backend(backend.clone()).config(config.config.clone()).connect();
        let client = client.map_err(broken)?;
        let inbox = inbox::Config {
            max_events: config.waiting.max(1),
            max_bytes: config.waiting_bytes,
            ..inbox::Config::default()
        };
        let listen = Listen { inbox, max_wait: Some(config.max_wait), ..Listen::default() };
        let (stage, workers) = (Arc::new(Stage::new(listen)), Mutex::default());
        Ok(Self { backend, config, stage, workers, client, upkeep })
    }

    async fn serve(&self, namespace: &str) -> Result<(), Error> {
        let mut workers = self.workers.lock().await;
        if workers.contains_key(namespace) {
            return Ok(());
        }
        let stage = Arc::clone(&self.stage);
        let handler = move |request, out| answer(Arc::clone(&stage), request, out);
        let mut builder = Worker::builder()
            .endpoint(endpoint(namespace).to_string(), handler)
            .listen(self.config.listen)
            .discovery_backend(self.backend.clone())
            .config(self.config.config.clone());
        if let Some(advertise) = self.config.advertise {
            builder = builder.advertise(advertise);
        }
        workers.insert(namespace.to_owned(), builder.serve().await.map_err(broken)?);
        Ok(())
    }
}

/// The endpoint that subscribers call.
fn endpoint(namespace: &str) -> EndpointId {
    EndpointId::new(namespace, "ringplane_events", "listen")
}

fn broken(error: crate::error::Error) -> Error {
    Error::broken(Kind::Mux, error)
}

impl Transport for Mux {
    fn kind(&self) -> Kind {
        Kind::Mux
    }

    fn open<'a>(
        &'a self,
        subject: &'a Subject,
        publisher: PublisherId,
    ) -> BoxFuture<'a, Result<Option<EventTransport>, Error>> {
        Box::pin(async move {
            self.serve(subject.scope().namespace()).await?;
            self.stage.open(subject, publisher);
            Ok(None)
        })
    }

    fn keep<'a>(&'a self, _: &'a Subject, publisher: PublisherId, ring: Kept) -> BoxFuture<'a, Result<(), Error>> {
        self.stage.keep(publisher, ring);
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&self, _: &Subject, publisher: PublisherId) {
        self.stage.close(publisher);
    }

    fn publish<'a>(&'a self, subject: &'a Subject, message: Message) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.stage.publish(subject, message).await;
            Ok(())
        })
    }

    fn listeners(&self, subject: &Subject) -> Option<usize> {
        self.stage.listeners(subject)
    }

    fn subscribe<'a>(&'a self, subject: &'a Subject, listen: Listen) -> BoxFuture<'a, Result<Subscription, Error>> {
        Box::pin(async move {
            if listen.group.is_some() {
                return Err(Error::Unsupported { transport: Kind::Mux, what: "groups of subscribers" });
            }
            let query = Query::Endpoint(endpoint(subject.scope().namespace()));
            let watch = self.backend.endpoints().watch(query).await?;
            let (feeder, subscription) = subscription(subject.topic(), &listen);
            let (heard, mut all_heard) = mpsc::channel(1);
            let ear = Ear {
                client: self.client.clone(),
                slow: listen.inbox.slow,
                subject: subject.clone(),
                feeder: Arc::new(feeder),
                there: Arc::default(),
                homes: Arc::new(Locked::new(Homes::new(MOST_HOMES))),
            };
            let subscription = match listen.replay {
                Some(patience) => subscription.fetching(ear.asking(patience, listen.inbox.max_bytes, &self.upkeep)),
                None => subscription,
            };
            drop(self.upkeep.spawn(follow(watch, ear, heard, self.upkeep.clone())));
            // Each publisher that is there drops its end once it has heard of us.
            let _ = timeout(self.config.patience, all_heard.recv()).await;
            Ok(subscription)
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stage.leaving.send_replace(true);
            for (_, worker) in std::mem::take(&mut *self.workers.lock().await) {
                if timeout(self.config.farewell, worker.shutdown()).await.is_err() {
                    tracing::warn!("a subscriber to events did not take what there was in time");
                }
            }
        })
    }
}

/// What listens to the publishers of a subject.
#[derive(Clone)]
struct Ear {
    client: Client,
    slow: Slow,
    subject: Subject,
    feeder: Arc<Feeder>,
    /// The instances that there are.
    there: Arc<Locked<BTreeSet<InstanceId>>>,
    /// At which instance each publisher was heard last.
    homes: Arc<Locked<Homes>>,
}

/// Publishers whose instances are kept in mind.
const MOST_HOMES: usize = 65_536;

/// Listens to each instance that there is, until the subscriber is gone.
async fn follow(mut watch: Watch<Instance>, ear: Ear, heard: mpsc::Sender<()>, upkeep: Upkeep) {
    let (mut set, mut tasks, mut listening) = (Set::default(), JoinSet::new(), HashSet::new());
    let mut heard = Some(heard);
    let feeder = ear.feeder.clone();
    let mut gone = std::pin::pin!(feeder.gone());
    loop {
        let change = tokio::select! {
            () = &mut gone => return,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Ok(Some(id)) = ended {
                    listening.remove(&id);
                    // It has come back while its listener was about to end.
                    if ear.is_there(id) && listening.insert(id) {
                        tasks.spawn(upkeep.track(ear.clone().hear_all(id, None)));
                    } else {
                        ear.homes().forget(id);
                    }
                }
                continue;
            }
            change = watch.next() => change,
        };
        let Some(change) = change else { return };
        let is_all = matches!(change, Change::Resync(_));
        let diff = set.apply(change);
        {
            let mut there = ear.there.lock().unwrap_or_else(PoisonError::into_inner);
            there.retain(|id| !diff.removed.iter().any(|instance| instance.id == *id));
            there.extend(diff.added.iter().map(|instance| instance.id));
        }
        // One listener an instance: it goes on when that is reached in another way.
        for instance in diff.added {
            if listening.insert(instance.id) {
                tasks.spawn(upkeep.track(ear.clone().hear_all(instance.id, heard.clone())));
            }
        }
        if is_all {
            heard = None;
        }
    }
}

/// Pauses before an instance is called again that is there and does not answer.
const PAUSES: backoff::Config =
    backoff::Config { base: Duration::from_millis(50), cap: Duration::from_secs(2), attempts: u32::MAX };

/// Events that are taken from a call at once.
const BATCH: usize = 256;

impl Ear {
    fn is_there(&self, id: InstanceId) -> bool {
        self.there.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Hears what an instance publishes for as long as it is there; which one it was.
    async fn hear_all(self, id: InstanceId, mut heard: Option<mpsc::Sender<()>>) -> InstanceId {
        let mut rng = Rng::new(random_u64());
        let mut tries = 0;
        while self.is_there(id) {
            if self.hear(id, &mut heard).await {
                tries = 0;
            }
            heard = None;
            tokio::time::sleep(PAUSES.pause(tries, &mut rng)).await;
            tries += 1;
        }
        id
    }

    /// One call, to its end. Whether it has been answered.
    async fn hear(&self, id: InstanceId, heard: &mut Option<mpsc::Sender<()>>) -> bool {
        let ask = Ask::Live(self.slow, self.subject.clone());
        let mut call = match self.call(id, &ask) {
            Ok(call) => call,
            Err(error) => {
                tracing::debug!(error = %Chain(&error), "a publisher of events cannot be called");
                return false;
            }
        };
        let (mut items, mut last) = (Vec::new(), None);
        let mut is_answered = false;
        loop {
            match call.next_batch(&mut items, BATCH).await {
                Ok(0) => return is_answered,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = %Chain(&error), "a publisher of events is not heard any more");
                    return is_answered;
                }
            }
            *heard = None;
            is_answered = true;
            for item in items.drain(..) {
                match Item::read(item) {
                    Item::SignOfLife => {}
                    Item::Head(publisher, newest) => {
                        self.homes().heard(publisher, id);
                        self.feeder.push_head(publisher, newest);
                    }
                    Item::Event(envelope) => match Message::read(envelope, self.subject.topic()) {
                        Ok(Some(message)) => {
                            if last.replace(message.publisher) != Some(message.publisher) {
                                self.homes().heard(message.publisher, id);
                            }
                            self.feeder.push(message).await;
                        }
                        Ok(None) => {}
                        Err(error) => self.feeder.push_malformed(error),
                    },
                }
            }
        }
    }

    fn call(&self, id: InstanceId, ask: &Ask) -> Result<Call, crate::error::Error> {
        let endpoint = endpoint(self.subject.scope().namespace()).to_string();
        self.client.call(CallRequest::new(endpoint, ask.written()).with_instance(id))
    }

    fn homes(&self) -> MutexGuard<'_, Homes> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the instance of a publisher for events that did not arrive, of so many bytes.
    fn asking(&self, patience: Duration, max_bytes: usize, upkeep: &Upkeep) -> Fetch {
        let (ear, upkeep) = (self.clone(), upkeep.clone());
        Box::new(move |gap, tell| {
            let ear = ear.clone();
            drop(upkeep.spawn(async move {
                let mut found = Vec::new();
                if timeout(patience, ear.fetch(gap, max_bytes, &mut found)).await.is_err() {
                    tracing::debug!(publisher = %gap.publisher, "a publisher that is asked for events does not answer in time");
                }
                // The subscriber may be gone.
                let _ = tell.send(found);
            }));
        })
    }

    async fn fetch(&self, gap: Gap, max_bytes: usize, found: &mut Vec<Message>) {
        let home = self.homes().of(gap.publisher);
        let Some(id) = home else { return };
        let ask = Ask::Again(gap.publisher, gap.first, gap.last, self.subject.clone());
        let Ok(mut call) = self.call(id, &ask) else { return };
        let mut bytes = 0;
        // What ends the call ends what is found.
        while let Some(Ok(envelope)) = call.next().await {
            bytes += envelope.len();
            if bytes > max_bytes {
                return;
            }
            found.extend(Message::read(envelope, self.subject.topic()).ok().flatten());
        }
    }
}
