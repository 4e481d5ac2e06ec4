//! What every transport of events does.

use std::fmt;
use std::sync::{Arc, Mutex};

use ringplane_core::chain::Chain;
use ringplane_core::discovery::channel::EventTransport;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::event::message::Message;
use ringplane_core::event::replay::Ring;
use ringplane_core::event::subject::Subject;

use crate::discovery::backend::BoxFuture;
use crate::event::error::Error;
use crate::event::kind::Kind;
use crate::event::listen::Listen;
use crate::event::subscription::Subscription;

/// What a publisher keeps of its events, shared with what gives them out again.
pub type Kept = Arc<Mutex<Ring>>;

/// What carries events. At most once: an event that does not arrive is not sent again unless its subscriber
/// [asks](Listen::replay) for it, and the subscriber is told.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Which one it is.
    fn kind(&self) -> Kind;

    /// Makes ready for what `publisher` will publish under `subject`. Says what its record in discovery tells of the way to it;
    /// `None` if nobody needs to know.
    ///
    /// # Errors
    /// As the transport finds.
    fn open<'a>(
        &'a self,
        subject: &'a Subject,
        publisher: PublisherId,
    ) -> BoxFuture<'a, Result<Option<EventTransport>, Error>>;

    /// Lets subscribers have again what `ring` keeps of the events of `publisher`, which was [opened](Self::open) before.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where events cannot be asked for; others as the transport finds.
    fn keep<'a>(
        &'a self,
        _subject: &'a Subject,
        _publisher: PublisherId,
        _ring: Kept,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let transport = self.kind();
        let refused = Error::Unsupported { transport, what: "publishers that keep events for those that missed them" };
        Box::pin(std::future::ready(Err(refused)))
    }

    /// Nothing more comes from this publisher: what [`open`](Self::open) has made ready may go.
    fn close(&self, subject: &Subject, publisher: PublisherId);

    /// Hands an event on. Those of one publisher are handed over one after the other, in their order, and arrive in it. Waits
    /// for room, for a time that is bounded unless a subscriber asked to be waited for.
    ///
    /// # Errors
    /// As the transport finds; the event is lost then.
    fn publish<'a>(&'a self, subject: &'a Subject, message: Message) -> BoxFuture<'a, Result<(), Error>>;

    /// Completes once all that was published before, under this subject or any, has left the process, as far as the transport can
    /// tell.
    ///
    /// # Errors
    /// As the transport finds.
    fn flush<'a>(&'a self, _subject: Option<&'a Subject>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// How many listen to `subject` by now, as far as this process knows; `None` if the transport cannot tell.
    fn listeners(&self, _subject: &Subject) -> Option<usize> {
        None
    }

    /// What comes under `subject` from now on. Once this is done, everything that is published arrives, as far as the transport
    /// can tell.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what [`Listen`] asks and the transport cannot do; others as the transport finds.
    fn subscribe<'a>(&'a self, subject: &'a Subject, listen: Listen) -> BoxFuture<'a, Result<Subscription, Error>>;

    /// Ends in order: lets go of what was published, for a bounded time. Nothing is published afterwards.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Err(error) = self.flush(None).await {
                tracing::debug!(error = %Chain(&error), "events may be left");
            }
        })
    }
}
