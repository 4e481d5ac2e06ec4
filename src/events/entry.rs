//! The way in: where publishers and subscribers come from.

use std::sync::Arc;

use ringplane_core::discovery::event::Scope;
use ringplane_core::event::observer::EventObserver;
use ringplane_core::event::subject::Subject;
use ringplane_tokio::discovery::Backend;
#[cfg(feature = "nats")]
use ringplane_tokio::event::Nats;
#[cfg(feature = "zmq")]
use ringplane_tokio::event::zmq::Zmq;
use ringplane_tokio::event::{Error, Kind, Listen, Subscription, Transport};
#[cfg(feature = "otel")]
use ringplane_tokio::observe::telemetry::Telemetry;
use ringplane_tokio::task::TaskStats;

use crate::events::mux::Mux;
use crate::events::plane::EventPlane;
use crate::events::publisher::{EventPublisher, Speak};
use crate::events::within::Within;
use crate::runtime::place::Place;
#[cfg(feature = "serde")]
use crate::runtime::upkeep::Upkeep;

/// Publishes and subscribes. Clones share the transport.
#[derive(Clone, Debug)]
pub struct Events {
    transport: Arc<dyn Transport>,
    backend: Arc<dyn Backend>,
    within: Within,
    observer: Option<Arc<dyn EventObserver>>,
}

/// How [`Events`] come to be: discovery and event plane.
#[derive(Clone)]
pub struct EventsBuilder {
    discovery: Place,
    plane: EventPlane,
    observers: Vec<Arc<dyn EventObserver>>,
}

impl std::fmt::Debug for EventsBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventsBuilder").field("plane", &self.plane).finish_non_exhaustive()
    }
}

impl EventsBuilder {
    /// Where publishers are registered, where their transport has it so: as for workers. Default `mem`.
    #[must_use]
    pub fn discovery(mut self, url: impl Into<String>) -> Self {
        self.discovery = Place::Url(url.into());
        self
    }

    /// The same, opened already.
    #[must_use]
    pub fn discovery_backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.discovery = Place::Backend(backend);
        self
    }

    /// How events travel. Default within the process.
    #[must_use]
    pub fn plane(mut self, plane: impl Into<EventPlane>) -> Self {
        self.plane = plane.into();
        self
    }

    /// Has `observer` told of the events that are published and taken here. To be called once for each; default none.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn EventObserver>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Makes spans of events that are published in a trace, and of those that are taken and were; `telemetry` is what
    /// [`export`](crate::observe::export) has begun.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn telemetry(self, telemetry: &Telemetry) -> Self {
        self.observer(Arc::new(telemetry.event_spans()))
    }

    /// Opens the transport, which lives as long as what was made by it.
    ///
    /// # Errors
    /// [`Error::Broken`] if it cannot be reached, [`Error::Discovery`].
    pub async fn open(self) -> Result<Events, Error> {
        let kind = self.plane.kind();
        let within = Within::start().map_err(|error| Error::broken(kind, error))?;
        let backend = match self.discovery {
            Place::Url(url) => ringplane_tokio::discovery::open(&url)?,
            Place::Backend(backend) => backend,
        };
        let transport: Arc<dyn Transport> = match self.plane {
            EventPlane::InProc(place) => Arc::new(place),
            EventPlane::Transport(transport) => transport,
            EventPlane::Mux(config) => Arc::new(Mux::open(backend.clone(), *config, within.subscriptions().clone())?),
            #[cfg(feature = "zmq")]
            EventPlane::Zmq(config) => Arc::new(Zmq::new(backend.clone(), *config)),
            #[cfg(feature = "nats")]
            EventPlane::Nats(config) => {
                let connect = within.handle().spawn(async move { Nats::connect(&config).await });
                Arc::new(connect.await.map_err(|error| Error::broken(kind, error))??)
            }
        };
        let observers = Some(self.observers).filter(|all| !all.is_empty());
        let observer = observers.map(|all| -> Arc<dyn EventObserver> { Arc::new(all) });
        Ok(Events { transport, backend, within, observer })
    }
}

impl EventPlane {
    /// Which transport it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::InProc(_) => Kind::InProc,
            #[cfg(feature = "nats")]
            Self::Nats(_) => Kind::Nats,
            #[cfg(feature = "zmq")]
            Self::Zmq(_) => Kind::Zmq,
            Self::Mux(_) => Kind::Mux,
            Self::Transport(transport) => transport.kind(),
        }
    }
}

impl Events {
    /// Describes them.
    pub fn builder() -> EventsBuilder {
        EventsBuilder { discovery: Place::Url("mem".to_owned()), plane: EventPlane::default(), observers: Vec::new() }
    }

    /// A publisher of `topic` in `scope`, which is `namespace`, `namespace.component` or `namespace.component.endpoint`.
    ///
    /// # Errors
    /// [`Error::Record`] for a malformed name; others as transport and discovery find.
    pub async fn publisher(&self, scope: &str, topic: &str) -> Result<EventPublisher, Error> {
        self.publisher_of(Subject::new(Scope::parse(scope)?, topic)?, Speak::default()).await
    }

    /// A publisher that says more of itself.
    ///
    /// # Errors
    /// As transport and discovery find.
    pub async fn publisher_of(&self, subject: Subject, speak: Speak) -> Result<EventPublisher, Error> {
        let said = (speak, self.observer.clone());
        let made = EventPublisher::open(self.transport.clone(), &*self.backend, self.within.clone(), subject, said);
        self.within.run(made).await
    }

    /// A subscriber of `topic` in `scope`, and in none within it, with the default bounds.
    ///
    /// # Errors
    /// [`Error::Record`] for a malformed name; others as the transport finds.
    pub async fn subscriber(&self, scope: &str, topic: &str) -> Result<Subscription, Error> {
        self.subscriber_of(&Subject::new(Scope::parse(scope)?, topic)?, Listen::default()).await
    }

    /// A subscriber that listens in a way of its own: its bounds, what becomes of events that do not fit, and its group.
    ///
    /// # Errors
    /// As the transport finds.
    pub async fn subscriber_of(&self, subject: &Subject, listen: Listen) -> Result<Subscription, Error> {
        let subscription = self.within.run(self.transport.subscribe(subject, listen)).await?;
        Ok(match &self.observer {
            Some(observer) => subscription.telling(observer.clone(), subject.clone()),
            None => subscription,
        })
    }

    /// Ends in order: what was published reaches those that listen, for a bounded time. Nothing is published afterwards, and
    /// publishers in the background, as of [`kv`](crate::kv), have ended. Subscriptions go on until they are dropped.
    pub async fn shutdown(self) {
        self.within.run(self.transport.shutdown()).await;
        self.within.plane().end().await;
    }

    /// What has become of the tasks in the background: publishers for KV routers, and what hears publishers over mux for
    /// subscriptions. One that panicked is a defect; the log has its text.
    pub fn background(&self) -> TaskStats {
        let mut all = self.within.plane().stats();
        all.merge(&self.within.subscriptions().stats());
        all
    }

    /// Its background tasks.
    #[cfg(feature = "serde")]
    pub(crate) const fn upkeep(&self) -> &Upkeep {
        self.within.plane()
    }

    /// How events travel.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }
}
