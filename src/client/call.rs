//! A call seen from any thread and any executor.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::machine as caller;
use ringplane_core::id::InstanceId;
use ringplane_core::local::LocalCall;
use ringplane_core::local::call::LocalSender;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::mux::CancelMode;
use tokio::sync::mpsc;

use crate::runtime::room::{Gone, Room, Taken, room};

/// What to call, with what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallRequest {
    pub(crate) endpoint: String,
    pub(crate) inner: caller::Request,
}

impl CallRequest {
    /// A request of one item for `endpoint` (`namespace.component.endpoint`).
    pub fn new(endpoint: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let inner = caller::Request { body: Some(body.into()), ..caller::Request::default() };
        Self { endpoint: endpoint.into(), inner }.with_id(request_id())
    }

    /// A request whose items follow with [`Call::send`].
    pub fn streaming(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), inner: caller::Request::default() }.with_id(request_id())
    }

    /// The call's id; a random one by default.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.inner.opening.request_id = id.into();
        self
    }

    /// Time for the whole call, the worker's included.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.inner.timeout = Some(timeout);
        self
    }

    /// A pair handed to the handler unchanged.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.opening.metadata.push((key.into(), value.into()));
        self
    }

    /// W3C trace context, carried byte for byte.
    #[must_use]
    pub fn with_trace(mut self, traceparent: impl Into<String>, tracestate: Option<String>) -> Self {
        self.inner.opening.traceparent = Some(traceparent.into());
        self.inner.opening.tracestate = tracestate;
        self
    }

    /// The codec the request is written in, which the handler answers in.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.inner.opening.codec = Some(codec.name().to_owned());
        self
    }

    /// Only this instance will do.
    #[must_use]
    pub const fn with_instance(mut self, id: InstanceId) -> Self {
        self.inner.direct = Some(id);
        self
    }

    /// Running the call twice does no harm, so it may be tried again even if it may have been delivered.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.inner.idempotent = true;
        self
    }
}

/// A call under way: a stream of items, then at most one error. Usable from any executor; dropping it kills the call.
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
}

/// An item, or `None` after the last. A channel that closes without it has lost the call.
type Last = Option<Result<Bytes, CallError>>;

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

    /// Sends an item of a [streaming](CallRequest::streaming) request, waiting for room.
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

    /// The sending half of a [streaming](CallRequest::streaming) request, to send while another task reads. `None` if it
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

/// The core's ends of a [`Call`].
pub(crate) struct Bridge {
    items: mpsc::Sender<Last>,
    room: Room,
    control: mpsc::Receiver<CancelMode>,
    requests: Option<(mpsc::Receiver<Bytes>, Taken)>,
}

/// Both ends of a call that crosses threads, at most `depth` items ahead in each direction.
pub(crate) fn bridge(depth: usize, streaming: bool) -> (Call, Bridge) {
    let (item_in, item_out) = mpsc::channel(depth);
    let (control_in, control_out) = mpsc::channel(4);
    let (request_in, request_out) = mpsc::channel(depth);
    let ((item_room, taken), (request_room, request_taken)) = (room(), room());
    let requests = streaming.then_some(CallSender { items: request_in, room: request_room });
    let call = Call { items: item_out, taken, control: control_in, asked: AtomicU8::new(0), requests, over: false };
    let requests = streaming.then_some((request_out, request_taken));
    (call, Bridge { items: item_in, room: item_room, control: control_out, requests })
}

impl Bridge {
    /// The call could not be made.
    pub(crate) fn fail(self, error: CallError) {
        let _ = self.items.try_send(Some(Err(error)));
    }

    /// Moves items until the call is over or nobody reads it any more.
    pub(crate) async fn pump(self, mut call: LocalCall) {
        let Self { items, room, mut control, mut requests } = self;
        let sender = call.sender();
        if let Some((requests, taken)) = requests.take() {
            call.spawn(forward(requests, taken, sender, items.downgrade()));
        }
        let mut controlled = true;
        loop {
            let permit = tokio::select! {
                biased;
                mode = control.recv(), if controlled => {
                    controlled = apply(&call, mode);
                    continue;
                }
                permit = items.reserve() => permit,
            };
            let Ok(permit) = permit else { return };
            let item = loop {
                tokio::select! {
                    biased;
                    mode = control.recv(), if controlled => controlled = apply(&call, mode),
                    item = call.next() => break item,
                    () = items.closed() => return,
                }
            };
            let over = item.is_none();
            if let Some(Ok(item)) = &item {
                let mut taking = pin!(room.take(item.len()));
                loop {
                    tokio::select! {
                        biased;
                        mode = control.recv(), if controlled => controlled = apply(&call, mode),
                        taken = taking.as_mut() => match taken {
                            Ok(()) => break,
                            Err(Gone) => return,
                        },
                    }
                }
            }
            permit.send(item);
            if over {
                return;
            }
        }
    }
}

fn apply(call: &LocalCall, mode: Option<CancelMode>) -> bool {
    mode.map(|mode| call.cancel(mode)).is_some()
}

async fn forward(
    mut requests: mpsc::Receiver<Bytes>,
    taken: Taken,
    sender: LocalSender,
    items: mpsc::WeakSender<Last>,
) {
    while let Some(item) = requests.recv().await {
        let len = item.len();
        if sender.send(item).await.is_err() {
            return;
        }
        taken.give_back(len);
    }
    // A request whose call has been dropped is not complete; it ends with the call.
    if items.upgrade().is_some_and(|items| !items.is_closed()) {
        sender.finish().await;
    }
}

/// A random id in the shape of a UUID (version 4), as Dynamo's are.
fn request_id() -> String {
    let (high, low) = (crate::worker::worker::random(), crate::worker::worker::random());
    let high = (high & 0xFFFF_FFFF_FFFF_0FFF) | 0x4000;
    let low = (low & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    )
}
