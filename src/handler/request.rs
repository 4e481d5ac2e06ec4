//! A request as its handler sees it, and the way back to the caller: one shape wherever the handler runs.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::local::{Failure, LocalNode, SendItemError};
use ringplane_core::wire::mux::Open;
use ringplane_core::worker::job::Cause;

use crate::handler::served::Served;
use crate::handler::side::{Items, Local, Out, Side};

/// Answers requests. Every async closure of the shape `Fn(Request, Responder) -> impl Future<Output = Result<(), Failure>>`
/// is one; it runs on the core that received the request. One of the shape `Fn(Request<Remote>, Responder<Remote>)` whose
/// future is `Send` is a handler for a runtime of the user's own. A closure that takes `Request<_>` and `Responder<_>` is
/// what the builder makes of it.
///
/// It fails with a [`Failure`], which is made from the errors of sending and of calls it makes, or from a class, a reason and a
/// text:
///
#[cfg_attr(feature = "serde", doc = "```")]
#[cfg_attr(feature = "serde", doc = include_str!("../../examples/own_errors.rs"))]
#[cfg_attr(feature = "serde", doc = "```")]
pub trait Handler<S: Side = Local>: Send + Sync + 'static {
    /// Starts to answer one request. The future is dropped (and its task aborted, on a runtime) when the call is killed,
    /// runs out of time or loses its connection.
    fn handle(&self, request: Request<S>, out: Responder<S>) -> S::Future;
}

/// A request: what it was opened with, and its items.
///
/// ```
/// use ringplane::{Failure, Request, Responder};
///
/// async fn answer(mut request: Request, out: Responder) -> Result<(), Failure> {
///     let tenant = request.metadata().find(|(key, _)| *key == "tenant").map(|(_, value)| value.to_owned());
///     let tenant = tenant.ok_or_else(|| Failure::invalid("whose request is it?"))?;
///     while let Some(item) = request.next().await? {
///         out.send([tenant.as_bytes(), &item[..]].concat()).await?;
///     }
///     Ok(())
/// }
/// # let _ = ringplane::Worker::builder().endpoint("a.b.c", answer);
/// ```
pub struct Request<S: Side = Local> {
    header: Bytes,
    items: S::Items,
    #[cfg_attr(not(feature = "serde"), expect(dead_code))]
    pub(super) served: Served,
}

impl<S: Side> fmt::Debug for Request<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("id", &self.id()).field("items", &self.items).finish_non_exhaustive()
    }
}

impl<S: Side> Request<S> {
    pub(super) const fn new(header: Bytes, items: S::Items, served: Served) -> Self {
        Self { header, items, served }
    }

    /// The whole request, of a caller that sends one item. Empty if there is none.
    ///
    /// # Errors
    /// A [`Failure`] if the request broke off.
    pub async fn body(&mut self) -> Result<Bytes, Failure> {
        Ok(self.items.next().await?.unwrap_or_default())
    }

    /// The next item of a streaming request; `None` after the last.
    ///
    /// # Errors
    /// A [`Failure`] if the request broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.items.next().await
    }

    /// Waits for the next item of a streaming request and takes with it those that are there already, `max` at most and in
    /// order; they are added to `items`. Says how many; 0 after the last, or for a `max` of 0. Nothing is lost if it is dropped
    /// while it waits.
    ///
    /// # Errors
    /// A [`Failure`] if the request broke off, once the items before it have been taken.
    pub async fn next_batch(&mut self, items: &mut Vec<Bytes>, max: usize) -> Result<usize, Failure> {
        if max == 0 { Ok(0) } else { self.items.next_batch(items, max).await }
    }

    /// The caller's id of the call.
    pub fn id(&self) -> &str {
        self.open().request_id
    }

    /// Which try of the request this is, from 1, as a ringplane caller says it; those before went elsewhere as a rule, and may
    /// have done some of the work.
    pub fn attempt(&self) -> u32 {
        self.open().attempts.saturating_add(1)
    }

    /// Path, trace context, codec and the rest, as the caller wrote them.
    pub fn open(&self) -> Open<'_> {
        Open::parse(&self.header).unwrap_or_default()
    }

    /// Metadata in the order the caller wrote it.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.open().metadata()
    }

    /// Time left until the caller gives up; `None` without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.items.remaining()
    }
}

/// The way back to the caller; clones share the call.
///
/// ```
/// use std::pin::pin;
/// use std::time::Duration;
///
/// use ringplane::{Failure, Request, Responder};
///
/// /// Beats until it is asked to stop. After a kill, or when time is up, its future is dropped where it waits.
/// async fn beat(_request: Request, out: Responder) -> Result<(), Failure> {
///     while out.cause().is_none() {
///         out.send("beat").await?;
///         tokio::select! {
///             _ = pin!(out.cancelled()) => {}
///             () = out.sleep(Duration::from_secs(1)) => {}
///         }
///     }
///     Ok(())
/// }
/// # let _ = ringplane::Worker::builder().endpoint("a.b.c", beat);
/// ```
pub struct Responder<S: Side = Local> {
    pub(super) out: S::Out,
    header: Bytes,
    pub(super) served: Served,
}

impl<S: Side> Clone for Responder<S> {
    fn clone(&self) -> Self {
        Self { out: self.out.clone(), header: self.header.clone(), served: self.served }
    }
}

impl<S: Side> fmt::Debug for Responder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Responder").field(&self.out).finish()
    }
}

impl<S: Side> Responder<S> {
    pub(super) const fn new(header: Bytes, out: S::Out, served: Served) -> Self {
        Self { out, header, served }
    }

    /// Sends an item of the answer, waiting for room: the caller's pace is the handler's.
    ///
    /// # Errors
    /// [`SendItemError::Gone`] once nobody reads the call any more, [`SendItemError::TooLarge`] for an item that the caller
    /// does not take; on a runtime the latter ends the call instead.
    pub async fn send(&self, item: impl Into<Bytes>) -> Result<(), SendItemError> {
        self.out.send(item.into()).await
    }

    /// Sends items of the answer, in order, waiting for room. Those that have been sent are gone from `items`, also if it is
    /// dropped while it waits.
    ///
    /// # Errors
    /// As [`send`](Self::send); what is left in `items` has not been sent.
    pub async fn send_many(&self, items: &mut Vec<Bytes>) -> Result<(), SendItemError> {
        self.out.send_many(items).await
    }

    /// Completes when the call is cancelled, and says why; with [`Cause::Kill`] once the call has ended. After a
    /// [`Cause::Stop`] the handler may go on for what it deems worth sending; after any other cause its future is dropped.
    pub async fn cancelled(&self) -> Cause {
        self.out.cancelled().await
    }

    /// Why the call is cancelled, if it is.
    pub fn cause(&self) -> Option<Cause> {
        self.out.cause()
    }

    /// Time left until the caller gives up; `None` without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.out.remaining()
    }

    /// Completes `after` from now.
    pub async fn sleep(&self, after: Duration) {
        self.out.sleep(after).await;
    }

    /// What the call was opened with, as [`Request::open`].
    pub fn open(&self) -> Open<'_> {
        Open::parse(&self.header).unwrap_or_default()
    }
}

impl Responder {
    /// Waits for room for an item of `len` bytes, which need not be made before: one that waits in [`send`](Self::send) takes
    /// memory that nothing but the number of running calls bounds. The room is kept for what is sent here next.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn ready(&self, len: usize) -> Result<(), SendItemError> {
        self.out.ready(len).await
    }

    /// The node that serves the call.
    pub const fn node(&self) -> &Rc<LocalNode> {
        self.out.node()
    }
}
