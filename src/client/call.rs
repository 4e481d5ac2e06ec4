//! A call seen from any thread and any executor.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use ringplane_core::caller::error::{At, CallError};
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::mux::message::CancelMode;
use tokio::task::coop;

use crate::runtime::crossing::{Crossing, Over};
use crate::runtime::lane::{Hand, Items};

/// A call under way: a stream of items, then at most one error. Usable from any executor; dropping it kills the call.
///
/// ```
#[doc = include_str!("../../examples/streams.rs")]
/// ```
///
/// ```
#[doc = include_str!("../../examples/cancel.rs")]
/// ```
pub struct Call {
    crossing: Arc<Crossing>,
    /// Items taken over and not read yet.
    hand: Hand,
    requests: Option<CallSender>,
    over: bool,
    /// What the request names.
    #[cfg_attr(not(feature = "serde"), allow(dead_code, reason = "read by typed calls only"))]
    pub(super) codec: Option<Codec>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("over", &self.over).finish_non_exhaustive()
    }
}

impl Call {
    pub(crate) fn new(crossing: Arc<Crossing>, streaming: bool, codec: Option<Codec>) -> Self {
        let requests = streaming.then(|| CallSender { crossing: crossing.clone() });
        Self { crossing, hand: Hand::default(), requests, over: false, codec }
    }

    /// The next item; `None` after the last one or after an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Waits for the next item and takes with it those that are there already, `max` at most and in order; they are added
    /// to `items`. Says how many; 0 after the last, or for a `max` of 0. Nothing is lost if it is dropped while it waits.
    ///
    /// # Errors
    /// The call's error, once the items before it have been taken; afterwards there are none.
    pub async fn next_batch(&mut self, items: &mut Vec<Bytes>, max: usize) -> Result<usize, CallError> {
        if max == 0 {
            return Ok(0);
        }
        let Some(first) = self.next().await.transpose()? else { return Ok(0) };
        items.push(first);
        let more = std::iter::from_fn(|| self.hand.pop()).take(max - 1);
        let before = items.len();
        items.extend(more);
        Ok(items.len() - before + 1)
    }

    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        loop {
            if let Some(item) = self.hand.pop() {
                return Poll::Ready(Some(Ok(item)));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let progress = ready!(coop::poll_proceed(cx));
            let read = ready!(self.crossing.poll_read(&mut self.hand, cx));
            progress.made_progress();
            if let Some(outcome) = read {
                self.over = true;
                return Poll::Ready(outcome.err().map(Err));
            }
        }
    }

    /// Tries that it took, 1 for most calls; 0 before it is over.
    pub fn attempts(&self) -> u32 {
        if self.over { self.crossing.attempts() } else { 0 }
    }

    /// Reads the call to its end.
    ///
    /// # Errors
    /// The call's error; the items before it are lost.
    pub async fn collect(mut self) -> Result<Vec<Bytes>, CallError> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await {
            items.push(item?);
        }
        Ok(items)
    }

    /// Sends an item of a [streaming](crate::CallRequest::streaming) request, waiting for room.
    ///
    /// # Errors
    /// [`CallError::Closed`] once the call is over or [finished](Self::finish); its outcome says why.
    pub async fn send(&self, item: impl Into<Bytes>) -> Result<(), CallError> {
        self.requests.as_ref().ok_or(CallError::Closed)?.send(item).await
    }

    /// Sends items of a [streaming](crate::CallRequest::streaming) request, in order, waiting for room. Those that have been
    /// sent are gone from `items`, also if it is dropped while it waits.
    ///
    /// # Errors
    /// As [`send`](Self::send); what is left in `items` has not been sent.
    pub async fn send_many(&self, items: &mut Vec<Bytes>) -> Result<(), CallError> {
        self.requests.as_ref().ok_or(CallError::Closed)?.send_many(items).await
    }

    /// The instance that answers, known once the first item or the end has arrived here, if not before. Of a call that failed:
    /// where it was tried last; `None` if it was sent to none.
    ///
    /// ```
    /// # async fn ask(mut call: ringplane::Call) {
    /// let first = call.next().await;
    /// if let Some(at) = call.instance() {
    ///     println!("{first:?} of {at}"); // instance 1f at 10.0.0.7:9000
    /// }
    /// # }
    /// ```
    pub fn instance(&self) -> Option<At> {
        self.crossing.at()
    }

    /// Has its core look where it is, if it is one that says so early.
    pub(super) fn look(&self) {
        self.crossing.look();
    }

    /// Ends a streaming request.
    pub fn finish(&mut self) {
        self.requests = None;
    }

    /// The sending half of a [streaming](crate::CallRequest::streaming) request, to send while another task reads. `None` if it
    /// has been taken, or the request is of one item.
    pub fn take_sender(&mut self) -> Option<CallSender> {
        self.requests.take()
    }

    /// Asks the worker to finish early; what it still sends can be read.
    pub fn stop(&self) {
        self.cancel(CancelMode::Stop);
    }

    /// Ends the call now. Its outcome is [`CallError::Cancelled`].
    pub fn kill(&self) {
        self.cancel(CancelMode::Kill);
    }

    fn cancel(&self, mode: CancelMode) {
        if !self.over {
            self.crossing.cancel(mode);
        }
    }
}

impl Drop for Call {
    /// Before the request ends with its sender: it is not complete then.
    fn drop(&mut self) {
        if !self.over {
            self.crossing.leave();
        }
    }
}

impl Stream for Call {
    type Item = Result<Bytes, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

/// The sending half of a streaming request. Dropping it ends the request.
pub struct CallSender {
    crossing: Arc<Crossing>,
}

impl fmt::Debug for CallSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallSender").finish_non_exhaustive()
    }
}

impl CallSender {
    /// Sends an item, waiting for room.
    ///
    /// # Errors
    /// [`CallError::Closed`] once the call is over; its outcome says why.
    pub async fn send(&self, item: impl Into<Bytes>) -> Result<(), CallError> {
        let mut item = Some(item.into());
        poll_fn(|cx| self.poll_send(&mut item, cx)).await
    }

    /// Sends items, in order, waiting for room. Those that have been sent are gone from `items`, also if it is dropped while
    /// it waits.
    ///
    /// # Errors
    /// As [`send`](Self::send); what is left in `items` has not been sent.
    pub async fn send_many(&self, items: &mut Vec<Bytes>) -> Result<(), CallError> {
        poll_fn(|cx| self.poll_send(items, cx)).await
    }

    fn poll_send(&self, items: &mut impl Items, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let progress = ready!(coop::poll_proceed(cx));
        let sent = ready!(self.crossing.poll_send(items, cx));
        progress.made_progress();
        Poll::Ready(sent.map_err(|Over| CallError::Closed))
    }
}

impl Drop for CallSender {
    fn drop(&mut self) {
        self.crossing.finish();
    }
}
