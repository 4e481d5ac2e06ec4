//! Tells Dynamo's KV routers which blocks a worker holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringplane_core::discovery::event::Scope;
use ringplane_core::discovery::json::Json;
use ringplane_core::event::kv::announcer::{self, Announcer, KvAnnouncerStats};
use ringplane_core::event::kv::router::{BLOCKS, Change, MAX_BLOCKS, MAX_EVENTS, RouterEvent};
use ringplane_core::event::kv::source::Output;
use ringplane_core::event::kv::{Event, Removed, Stored, Tokens, copies};
use ringplane_core::event::subject::Subject;
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_core::task::publisher::Config as Patience;
use ringplane_tokio::discovery::random_publisher_id;
use ringplane_tokio::event::Error;
use ringplane_tokio::task::Due;

use crate::events::entry::Events;
use crate::events::publisher::{EventPublisher, Speak};
use crate::kv::error::PublishError;
use crate::kv::line::{Line, LineStats};

/// Whose blocks a [`BlockPublisher`] tells of, and how patiently.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BlockConfig {
    /// The instance that routers send requests to.
    pub worker: InstanceId,
    /// The data-parallel rank; each has a publisher of its own. Default 0.
    pub rank: u32,
    /// Tokens of a block, as in the worker's model card.
    pub block_size: u32,
    /// How many blocks are remembered. Default 4,194,304.
    pub copies: copies::Config,
    /// Pauses after errors, the error in a row that ends it, and how many batches may wait. Default
    /// [`Patience::KV_EVENTS`](ringplane_core::task::publisher::Config::KV_EVENTS).
    pub patience: Patience,
}

impl BlockConfig {
    /// Those of this worker's rank 0.
    pub fn new(worker: InstanceId, block_size: u32) -> Self {
        let (copies, patience) = (copies::Config::default(), Patience::KV_EVENTS);
        Self { worker, rank: 0, block_size, copies, patience }
    }
}

ringplane_core::stats::groups! {
    /// What a [`BlockPublisher`] has done.
    pub struct BlockStats {
        /// What became of the engine's events.
        pub events: KvAnnouncerStats,
        /// What became of their payloads.
        pub payloads: LineStats,
    }
}

/// Tells Dynamo's KV routers which blocks a worker holds. It begins by telling that there is none, and tells so again where
/// something was lost on the way out: routers rather forget blocks than look for those that are gone.
///
/// Routers that come later do not hear what was told before: no history is kept for them.
#[derive(Debug)]
pub struct BlockPublisher {
    told: Mutex<Told>,
    publisher: Arc<EventPublisher>,
    rank: u32,
    block_size: u32,
}

#[derive(Debug)]
struct Told {
    announcer: Announcer,
    line: Line<Arc<[RouterEvent]>>,
    /// A payload was refused: the next one begins with a clear.
    lost: bool,
}

impl BlockPublisher {
    /// Tells of the blocks of `config.worker`, which serves `endpoint`, an `N.C.E`.
    ///
    /// # Errors
    /// [`Error::Record`] for a malformed name; others as transport and discovery find.
    pub async fn open(events: &Events, endpoint: &str, config: BlockConfig) -> Result<Self, Error> {
        let endpoint = endpoint_of(endpoint)?;
        let BlockConfig { worker, rank, block_size, copies, patience } = config;
        let id = random_publisher_id();
        let source = source(&endpoint, worker, rank, id.0)?;
        let subject = Subject::new(Scope::Endpoint(endpoint), BLOCKS)?;
        let publisher =
            events.publisher_of(subject, Speak { id: Some(id), source: Some(source), ..Speak::default() }).await?;
        let publisher = Arc::new(publisher);
        let announcer = Announcer::new(announcer::Config { worker_id: worker.0, rank, block_size, copies });
        let (sender, ids, cleared) = (Arc::clone(&publisher), Arc::new(AtomicU64::new(1)), announcer.cleared());
        let line = Line::start(events.upkeep(), patience, move |due| {
            send(Arc::clone(&sender), Arc::clone(&ids), cleared.clone(), due)
        });
        let told = Mutex::new(Told { announcer, line, lost: true });
        let publisher = Self { told, publisher, rank, block_size };
        publisher.lock().put(Vec::new()).map_err(|error| Error::broken(events.transport().kind(), error))?;
        Ok(publisher)
    }

    /// Tells of what happened in the engine's cache, in this order. It never waits, and may be called from any thread.
    ///
    /// # Errors
    /// [`PublishError::Untold`] if one of them is a store that routers could make nothing of; the others are told. With other errors
    /// none is.
    pub fn publish(&self, events: &[Event]) -> Result<(), PublishError> {
        let mut told = self.lock();
        let (mut out, mut untold) = (Vec::new(), Ok(()));
        for (event, happened) in events.iter().enumerate() {
            match told.announcer.announce(happened) {
                Ok(events) => out.extend(events),
                Err(why) => untold = untold.and(Err(PublishError::Untold { event, why })),
            }
        }
        told.put(out)?;
        untold
    }

    /// Blocks of these tokens are held, by these hashes of the engine; `parent` is the hash of the block before the first one.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn stored(&self, tokens: &[u32], hashes: &[u64], parent: Option<u64>) -> Result<(), PublishError> {
        self.publish(&[Event::Stored(Stored {
            block_hashes: hashes.to_vec(),
            parent_block_hash: parent,
            token_ids: Tokens::Plain(tokens.to_vec()),
            block_size: self.block_size,
            ..Stored::default()
        })])
    }

    /// A copy of each of these blocks is gone.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn removed(&self, hashes: &[u64]) -> Result<(), PublishError> {
        self.publish(&[Event::Removed(Removed { block_hashes: hashes.to_vec(), ..Removed::default() })])
    }

    /// No block is held any more.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn cleared(&self) -> Result<(), PublishError> {
        self.publish(&[Event::Cleared])
    }

    /// Passes on what was heard of an engine, as `KvSubscriber` of `ringplane::zmq` hears it. What is of another rank, and what routers
    /// could make nothing of, is left out and counted.
    ///
    /// # Errors
    /// [`PublishError::Busy`] and [`PublishError::Ended`].
    pub fn pass_on(&self, heard: Output) -> Result<(), PublishError> {
        let event = match heard {
            Output::Stored { rank, event, .. } if rank == self.rank => Event::Stored(event),
            Output::Removed { rank, event, .. } if rank == self.rank => Event::Removed(event),
            Output::Cleared { rank, .. } if rank.is_none_or(|rank| rank == self.rank) => Event::Cleared,
            _ => return Ok(()),
        };
        match self.publish(&[event]) {
            Err(PublishError::Untold { .. }) => Ok(()),
            published => published,
        }
    }

    /// How many routers listen by now, as far as this process knows; `None` if the transport cannot tell.
    pub fn listeners(&self) -> Option<usize> {
        self.publisher.listeners()
    }

    /// What it has done.
    pub fn stats(&self) -> BlockStats {
        let told = self.lock();
        BlockStats { events: told.announcer.stats(), payloads: told.line.stats() }
    }

    /// Publishes what still waits, and ends. Its records in discovery go.
    pub async fn close(self) -> BlockStats {
        let Told { announcer, line, .. } = self.told.into_inner().unwrap_or_else(PoisonError::into_inner);
        let payloads = line.close().await;
        let _ = self.publisher.flush().await;
        BlockStats { events: announcer.stats(), payloads }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// Hands events on in payloads of a bounded size. Under the lock, so that they leave in order.
    fn put(&mut self, events: Vec<RouterEvent>) -> Result<(), PublishError> {
        let cleared = self.lost.then(|| self.announcer.cleared());
        for payload in payloads(cleared.into_iter().chain(events)) {
            self.lost = true;
            self.line.put(payload.into())?;
            self.lost = false;
        }
        Ok(())
    }
}

/// Events in lists of which each is one payload.
fn payloads(events: impl Iterator<Item = RouterEvent>) -> Vec<Vec<RouterEvent>> {
    let (mut all, mut blocks): (Vec<Vec<RouterEvent>>, usize) = (Vec::new(), 0);
    for event in events {
        let more = match &event.event.data {
            Change::Stored(stored) => stored.blocks.len(),
            Change::Removed(removed) => removed.block_hashes.len(),
            Change::Cleared => 0,
        };
        blocks += more;
        match all.last_mut() {
            Some(last) if last.len() < MAX_EVENTS && blocks <= MAX_BLOCKS => last.push(event),
            _ => {
                all.push(vec![event]);
                blocks = more;
            }
        }
    }
    all
}

/// Numbers events and publishes them. The numbers are used once it has succeeded.
async fn send(
    publisher: Arc<EventPublisher>,
    ids: Arc<AtomicU64>,
    cleared: RouterEvent,
    due: Due<Arc<[RouterEvent]>>,
) -> Result<(), Error> {
    let cleared = (due.dropped > 0).then_some(cleared);
    let mut events: Vec<RouterEvent> = cleared.into_iter().chain(due.item.iter().cloned()).collect();
    let first = ids.load(Ordering::Relaxed);
    for (id, event) in (first..).zip(&mut events) {
        event.event.event_id = id;
    }
    publisher.publish_as(&events).await?;
    ids.fetch_add(events.len() as u64, Ordering::Relaxed);
    Ok(())
}

/// The names of an endpoint.
pub(super) fn endpoint_of(name: &str) -> Result<EndpointId, Error> {
    let malformed = ringplane_core::discovery::error::Error::Name;
    EndpointId::parse(name).map_err(|error| Error::Record(malformed(error)))
}

/// What the source's record says: routers look there for who publishes of whom.
fn source(endpoint: &EndpointId, worker: InstanceId, rank: u32, publisher: u64) -> Result<Json, Error> {
    let EndpointId { namespace, component, name } = endpoint;
    let record = serde_json::json!({
        "kv_state_endpoint": { "namespace": namespace, "component": component, "name": name },
        "worker": { "worker_id": worker.0, "dp_rank": rank },
        "publisher_id": publisher,
    });
    Ok(Json::new(&record.to_string())?)
}

#[cfg(test)]
mod tests {
    use ringplane_core::event::inbox::Delivery;
    use ringplane_core::event::kv::source::Clear;

    use super::*;
    use crate::kv::payload::router_events;

    #[test]
    fn payloads_are_bounded_in_events_and_blocks() {
        let announcer = Announcer::new(announcer::Config::new(1, 1));
        let sizes = |events: usize| -> Vec<usize> {
            payloads(std::iter::repeat_with(|| announcer.cleared()).take(events)).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(300), [128, 128, 44]);
        assert!(sizes(0).is_empty());
        let mut announcer = announcer;
        let hashes: Vec<u64> = (0..5000).collect();
        let token_ids = Tokens::Plain(vec![1; hashes.len()]);
        let store = Stored { block_hashes: hashes, token_ids, block_size: 1, ..Stored::default() };
        let mut stored = || announcer.announce(&Event::Stored(store.clone())).unwrap();
        assert_eq!(payloads(stored().into_iter().chain(stored())).len(), 2);
    }

    #[tokio::test]
    async fn what_routers_hear_begins_with_a_clear_and_is_numbered_without_a_hole() {
        let events = Events::builder().open().await.unwrap();
        let mut heard = events.subscriber("kv_blocks.heard.e", BLOCKS).await.unwrap();
        let config = BlockConfig::new(InstanceId(7), 2);
        let publisher = BlockPublisher::open(&events, "kv_blocks.heard.e", config).await.unwrap();
        publisher.stored(&[1, 2, 3, 4], &[10, 11], None).unwrap();
        let untold = publisher.stored(&[1, 2, 3], &[12], None).unwrap_err();
        assert!(matches!(untold, PublishError::Untold { event: 0, .. }), "{untold:?}");
        publisher.removed(&[11, 99]).unwrap();
        // What is heard of an engine goes on to the routers, but what is of another rank or lost there.
        for (rank, why) in [(Some(1), Clear::Announced), (None, Clear::Restarted)] {
            publisher.pass_on(Output::Cleared { rank, why }).unwrap();
        }
        publisher.pass_on(Output::Missed { first: 1, last: 2, confirmed: true }).unwrap();
        let stats = publisher.close().await;
        assert_eq!((stats.events.told, stats.events.untold, stats.payloads.errors), (3, 1, 0));
        let mut said = Vec::new();
        while said.len() < 4 {
            let Some(Ok(Delivery::Event(message))) = heard.next().await else { panic!("it goes on") };
            said.extend(router_events(&message).unwrap());
        }
        assert!(said.iter().map(|event| event.event.event_id).eq(1..=4), "{said:?}");
        let changes: Vec<&Change> = said.iter().map(|event| &event.event.data).collect();
        let [Change::Cleared, Change::Stored(stored), Change::Removed(removed), Change::Cleared] = changes[..] else {
            panic!("{said:?}")
        };
        assert_eq!((stored.blocks.len(), &removed.block_hashes[..]), (2, &[11][..]));
    }
}
