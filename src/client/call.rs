//! A call seen from any thread and any executor.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use ringplane_core::caller::error::CallError;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::mux::CancelMode;
use tokio::sync::mpsc;

use crate::client::bridge::{Bridge, Last};
use crate::runtime::room::{Gone, Room, Taken, room};

/// A call under way: a stream of items, then at most one error. Usable from any executor; dropping it kills the call.
///
/// ```
#[doc = include_str!("../../examples/streams.rs")]
/// ```
///
/// ```
#[doc = include_str!("../../examples/cancel.rs")]
/// ```
#[derive(Debug)]
pub struct Call {
    /// Before `requests`: whoever finds that no more items follow can tell an ended request from an abandoned call.
    items: mpsc::Receiver<Last>,
    taken: Taken,
    control: mpsc::Sender<CancelMode>,
    /// The strongest cancel asked for so far; 0: none.
    asked: AtomicU8,
    requests: Option<CallSender>,
    over: bool,
    /// What the request names.
    pub(super) codec: Option<Codec>,
}

impl Call {
    /// A call that ended before it began.
    pub(crate) fn failed(error: CallError) -> Self {
        let (call, ends) = bridge(1, false);
        ends.fail(error);
        call
    }

    /// The next item; `None` after the last one or after an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Last> {
        if self.over {
            return Poll::Ready(None);
        }
        // The threads ended under the call: that is no end of the answer.
        let lost = Some(Err(CallError::Closed));
        let item = ready!(self.items.poll_recv(cx)).unwrap_or(lost);
        self.over = !matches!(item, Some(Ok(_)));
        if let Some(Ok(item)) = &item {
            self.taken.give_back(item.len());
        }
        Poll::Ready(item)
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
        if self.asked.fetch_max(mode as u8, Ordering::Relaxed) < mode as u8 {
            // Each kind is sent once at most, so there is room.
            let _ = self.control.try_send(mode);
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
#[derive(Debug)]
pub struct CallSender {
    items: mpsc::Sender<Bytes>,
    room: Room,
}

impl CallSender {
    /// Sends an item, waiting for room.
    ///
    /// # Errors
    /// [`CallError::Closed`] once the call is over; its outcome says why.
    pub async fn send(&self, item: impl Into<Bytes>) -> Result<(), CallError> {
        let item = item.into();
        self.room.take(item.len()).await.map_err(|Gone| CallError::Closed)?;
        self.items.send(item).await.map_err(|_| CallError::Closed)
    }
}

/// Both ends of a call that crosses threads, at most `depth` items ahead in each direction.
pub(crate) fn bridge(depth: usize, streaming: bool) -> (Call, Bridge) {
    let (item_in, item_out) = mpsc::channel(depth);
    let (control_in, control_out) = mpsc::channel(4);
    let (request_in, request_out) = mpsc::channel(depth);
    let ((item_room, taken), (request_room, request_taken)) = (room(), room());
    let requests = streaming.then_some(CallSender { items: request_in, room: request_room });
    let call = Call {
        items: item_out,
        taken,
        control: control_in,
        asked: AtomicU8::new(0),
        requests,
        over: false,
        codec: None,
    };
    let requests = streaming.then_some((request_out, request_taken));
    (call, Bridge { items: item_in, room: item_room, control: control_out, requests })
}
