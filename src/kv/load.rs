//! Tells Dynamo's KV routers how much a worker has to do.

use std::sync::{Arc, Mutex, PoisonError};

use ringplane_core::discovery::event::Scope;
use ringplane_core::event::kv::router::{LOAD, Load};
use ringplane_core::event::subject::Subject;
use ringplane_core::id::InstanceId;
use ringplane_core::task::publisher::Config as Patience;
use ringplane_tokio::event::Error;
use ringplane_tokio::task::Due;

use crate::events::entry::Events;
use crate::events::publisher::Speak;
use crate::kv::blocks::endpoint_of;
use crate::kv::error::PublishError;
use crate::kv::line::{Line, LineStats};

/// Tells Dynamo's KV routers how much a worker has to do. Of several that wait the newest alone is published.
#[derive(Debug)]
pub struct LoadPublisher {
    line: Line<()>,
    newest: Arc<Mutex<Load>>,
    worker: InstanceId,
}

impl LoadPublisher {
    /// Tells of `worker`, which serves `endpoint`, an `N.C.E`.
    ///
    /// # Errors
    /// [`Error::Record`] for a malformed name; others as transport and discovery find.
    pub async fn open(events: &Events, endpoint: &str, worker: InstanceId) -> Result<Self, Error> {
        let subject = Subject::new(Scope::Endpoint(endpoint_of(endpoint)?), LOAD)?;
        let publisher = Arc::new(events.publisher_of(subject, Speak::default()).await?);
        let patience = Patience { max_queued: 1, ..Patience::KV_EVENTS };
        let newest = Arc::<Mutex<Load>>::default();
        let seen = Arc::clone(&newest);
        let line = Line::start(events.upkeep(), patience, move |_: Due<()>| {
            let (publisher, load) = (Arc::clone(&publisher), *seen.lock().unwrap_or_else(PoisonError::into_inner));
            async move { publisher.publish_as(&load).await.map(drop) }
        });
        Ok(Self { line, newest, worker })
    }

    /// Tells of a load; its `worker_id` is filled in. It never waits.
    ///
    /// # Errors
    /// [`PublishError::Ended`].
    pub fn publish(&self, load: Load) -> Result<(), PublishError> {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Load { worker_id: self.worker.0, ..load };
        match self.line.put(()) {
            // What waits takes this one along.
            Err(PublishError::Busy) => Ok(()),
            put => put,
        }
    }

    /// What it has done.
    pub fn stats(&self) -> LineStats {
        self.line.stats()
    }

    /// Publishes what still waits, and ends. Its record in discovery goes.
    pub async fn close(self) -> LineStats {
        self.line.close().await
    }
}
