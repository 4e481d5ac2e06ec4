//! A publisher of one topic.

use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ringplane_core::discovery::channel::EventChannel;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::discovery::json::Json;
use ringplane_core::discovery::source::EventSource;
use ringplane_core::event::observer::{EventObserver, Publishing};
use ringplane_core::event::publisher::Publisher;
use ringplane_core::event::replay::{Config as ReplayConfig, Ring};
use ringplane_core::event::subject::Subject;
use ringplane_core::wire::context::TraceContext;
use ringplane_tokio::discovery::{Backend, Registration, random_publisher_id};
use ringplane_tokio::event::{Error, Kept, Transport};
use tokio::sync::Mutex;

use crate::events::within::Within;
use crate::trace::current_trace;

/// What a publisher says of itself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Speak {
    /// Its id. Default a random one: a publisher that begins anew is another one then. With the same id again, subscribers
    /// hear of a restart.
    pub id: Option<PublisherId>,
    /// What its `EventSource` record in discovery says. Default: it has none.
    pub source: Option<Json>,
    /// How much it keeps of what it publishes, for subscribers that ask again for what they [did not get](ringplane_tokio::event::Listen::replay).
    /// Default: nothing. Where nobody can ask, as over ZeroMQ, it is refused.
    pub replay: Option<ReplayConfig>,
}

/// A publisher of one topic, which numbers its events. Any number of tasks may share it: events leave in the order of their
/// numbers. When it is dropped, its records in discovery go.
pub struct EventPublisher {
    /// Held while an event is handed over, so that none overtakes another.
    numbers: Mutex<Publisher>,
    voice: Voice,
    _records: (Option<Registration<EventChannel>>, Option<Registration<EventSource>>),
}

/// What events are handed to.
struct Voice {
    transport: Arc<dyn Transport>,
    within: Within,
    subject: Subject,
    id: PublisherId,
    kept: Option<Kept>,
    observer: Option<Arc<dyn EventObserver>>,
}

impl std::fmt::Debug for EventPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Voice { subject, id, .. } = &self.voice;
        f.debug_struct("EventPublisher").field("subject", subject).field("id", id).finish_non_exhaustive()
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.transport.close(&self.subject, self.id);
    }
}

impl EventPublisher {
    /// Makes the transport ready, and registers what it says.
    pub(super) async fn open(
        transport: Arc<dyn Transport>,
        backend: &dyn Backend,
        within: Within,
        subject: Subject,
        (speak, observer): (Speak, Option<Arc<dyn EventObserver>>),
    ) -> Result<Self, Error> {
        let id = speak.id.unwrap_or_else(random_publisher_id);
        let way = transport.open(&subject, id).await?;
        // From here on, what was made ready is let go of.
        let kept = speak.replay.map(|config| Kept::new(std::sync::Mutex::new(Ring::new(config))));
        let voice = Voice { transport, within, subject, id, kept, observer };
        if let Some(kept) = &voice.kept {
            voice.transport.keep(&voice.subject, id, kept.clone()).await?;
        }
        let (scope, topic) = (voice.subject.scope(), voice.subject.topic());
        let channel = match way {
            None => None,
            Some(transport) => {
                let (scope, topic) = (scope.clone(), topic.to_owned());
                Some(backend.channels().register(EventChannel { scope, topic, publisher: id, transport }).await?)
            }
        };
        let source = match speak.source {
            None => None,
            Some(metadata) => {
                let (scope, topic) = (scope.clone(), topic.to_owned());
                Some(backend.sources().register(EventSource { scope, topic, publisher: id, metadata }).await?)
            }
        };
        let numbers = Mutex::new(Publisher::new(id, voice.subject.topic()));
        Ok(Self { numbers, voice, _records: (channel, source) })
    }

    /// Publishes an event and answers its number. It is of the [trace](current_trace) of the code that publishes. Waits for room in the transport, and for subscribers that asked for it: within
    /// the process for as long as [they say](ringplane_tokio::event::Listen::max_wait), over mux for [`MuxConfig::max_wait`](super::MuxConfig) at a time.
    ///
    /// # Errors
    /// As the transport finds. The event is lost then, and subscribers see a gap.
    pub async fn publish(&self, payload: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.publish_with_context(payload, &current_trace().unwrap_or_default()).await
    }

    /// The same in another trace, or with an empty context in none.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_with_context(&self, payload: impl AsRef<[u8]>, trace: &TraceContext) -> Result<u64, Error> {
        let mut numbers = self.numbers.lock().await;
        self.voice.say(&mut numbers, payload.as_ref(), trace).await
    }

    /// Publishes events one after the other, with none of another task between, and answers how many.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); those before it are published.
    pub async fn publish_many<P: AsRef<[u8]>>(&self, payloads: impl IntoIterator<Item = P>) -> Result<u64, Error> {
        let trace = current_trace().unwrap_or_default();
        let mut numbers = self.numbers.lock().await;
        let mut count = 0;
        for payload in payloads {
            self.voice.say(&mut numbers, payload.as_ref(), &trace).await?;
            count += 1;
        }
        Ok(count)
    }

    /// Publishes a value in MessagePack, structs as maps of their fields, as Dynamo's publishers do.
    ///
    /// # Errors
    /// [`Error::Value`] if it cannot be written, which uses no number up; others as [`publish`](Self::publish).
    #[cfg(feature = "serde")]
    pub async fn publish_as<T: serde::Serialize + ?Sized>(&self, value: &T) -> Result<u64, Error> {
        self.publish(crate::events::value::written(value)?).await
    }

    /// Completes once all that was published before has left the process, as far as the transport can tell.
    ///
    /// # Errors
    /// As the transport finds.
    pub async fn flush(&self) -> Result<(), Error> {
        self.voice.within.run(self.voice.transport.flush(Some(&self.voice.subject))).await
    }

    /// How many listen by now, as far as this process knows; `None` if the transport cannot tell.
    pub fn listeners(&self) -> Option<usize> {
        self.voice.transport.listeners(&self.voice.subject)
    }

    /// Its id.
    pub const fn id(&self) -> PublisherId {
        self.voice.id
    }

    /// What it publishes.
    pub const fn subject(&self) -> &Subject {
        &self.voice.subject
    }
}

impl Voice {
    async fn say(&self, numbers: &mut Publisher, payload: &[u8], trace: &TraceContext) -> Result<u64, Error> {
        let Some(observer) = &self.observer else { return self.send(numbers, payload, trace).await };
        let event = Publishing { subject: &self.subject, bytes: payload.len(), trace };
        let Some(underway) = observer.publishing(&event) else { return self.send(numbers, payload, trace).await };
        let sent = match underway.span() {
            Some(span) => self.send(numbers, payload, &trace.clone().under(span)).await,
            None => self.send(numbers, payload, trace).await,
        };
        underway.ended(sent.as_ref().map(|_| ()).map_err(|error| error as _));
        sent
    }

    async fn send(&self, numbers: &mut Publisher, payload: &[u8], trace: &TraceContext) -> Result<u64, Error> {
        let message = numbers.seal_with(now(), payload, trace)?;
        let sequence = message.sequence;
        if let Some(kept) = &self.kept {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(message.clone());
        }
        self.within.run(self.transport.publish(&self.subject, message)).await?;
        Ok(sequence)
    }
}

/// Milliseconds since the epoch of Unix.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
