//! Tells Dynamo's planners of an engine's forward passes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ringplane_core::discovery::event::Scope;
use ringplane_core::event::kv::router::{FORWARD, ForwardPass, Queued, Scheduled};
use ringplane_core::event::subject::Subject;
use ringplane_core::task::publisher::Config as Patience;
use ringplane_tokio::event::Error;
use ringplane_tokio::task::Due;
use tokio::time::{MissedTickBehavior, interval};

use crate::events::entry::Events;
use crate::events::publisher::Speak;
use crate::kv::blocks::endpoint_of;
use crate::kv::error::PublishError;
use crate::kv::line::{Line, LineStats};
use crate::runtime::upkeep::Upkeep;

/// How long an engine may be without a pass before an empty one is told, as of Dynamo's publisher.
const IDLE: Duration = Duration::from_secs(1);

/// Tells Dynamo's planners of the forward passes of one engine and rank, and of an empty one for each second without.
#[derive(Debug)]
pub struct ForwardPublisher(Arc<Passes>);

#[derive(Debug)]
struct Passes {
    line: Line<Arc<ForwardPass>>,
    worker: String,
    rank: u32,
    /// Passes told.
    count: AtomicU64,
}

impl ForwardPublisher {
    /// Tells of rank `rank` of the engine called `worker`, whose worker serves `endpoint`, an `N.C.E`.
    ///
    /// # Errors
    /// [`Error::Record`] for a malformed name; others as transport and discovery find.
    pub async fn open(events: &Events, endpoint: &str, worker: impl Into<String>, rank: u32) -> Result<Self, Error> {
        let subject = Subject::new(Scope::Endpoint(endpoint_of(endpoint)?), FORWARD)?;
        let publisher = Arc::new(events.publisher_of(subject, Speak::default()).await?);
        let line = Line::start(events.upkeep(), Patience::KV_EVENTS, move |due: Due<Arc<ForwardPass>>| {
            let publisher = Arc::clone(&publisher);
            async move { publisher.publish_as(&*due.item).await.map(drop) }
        });
        let passes = Arc::new(Passes { line, worker: worker.into(), rank, count: AtomicU64::new(0) });
        tell_of_idleness(events.upkeep(), Arc::downgrade(&passes));
        Ok(Self(passes))
    }

    /// Tells of a pass that took so long. It never waits.
    ///
    /// # Errors
    /// [`PublishError::Busy`] and [`PublishError::Ended`].
    pub fn publish(&self, took: Duration, scheduled: Scheduled, queued: Queued) -> Result<(), PublishError> {
        self.0.tell(took, scheduled, queued)
    }

    /// What it has done.
    pub fn stats(&self) -> LineStats {
        self.0.line.stats()
    }
}

impl Passes {
    fn tell(&self, took: Duration, scheduled_requests: Scheduled, queued_requests: Queued) -> Result<(), PublishError> {
        let counter_id = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.line.put(Arc::new(ForwardPass {
            version: 1,
            worker_id: self.worker.clone(),
            dp_rank: self.rank,
            counter_id,
            wall_time: took.as_secs_f64(),
            scheduled_requests,
            queued_requests,
        }))
    }
}

/// Once a second, an empty pass if there was no other, until the publisher is gone.
fn tell_of_idleness(upkeep: &Upkeep, passes: Weak<Passes>) {
    drop(upkeep.spawn(async move {
        let mut ticks = interval(IDLE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut before = 0;
        loop {
            ticks.tick().await;
            let Some(passes) = passes.upgrade() else { return };
            let count = passes.count.load(Ordering::Relaxed);
            if count == before
                && matches!(
                    passes.tell(Duration::ZERO, Scheduled::default(), Queued::default()),
                    Err(PublishError::Ended(_))
                )
            {
                return;
            }
            before = passes.count.load(Ordering::Relaxed);
        }
    }));
}
