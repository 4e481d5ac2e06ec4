//! A request as its handler sees it: items in, items out, cancellation, the deadline.

use alloc::rc::Rc;
use alloc::string::String;
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::caller::error::CallError;
use crate::chain::Chain;
use crate::local::env::LocalTask;
use crate::local::host::LocalNode;
use crate::local::waiting::in_line;
use crate::mux::event::{Ending, Recv};
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::mux::message::Open;
use crate::wire::trace_context::TraceParent;
use crate::worker::job::{Cause, JobId};

/// A handler's failure, told to the caller as the call's outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What kind of failure.
    pub class: Class,
    /// The reason's catalogue key, for example `backend.unknown`.
    pub reason: String,
    /// For people; cut at 4,096 bytes.
    pub message: String,
}

impl Failure {
    /// A failure of this kind, for a reason of the catalogue or one of the application's own, such as `quota.exhausted`. Over
    /// mux the reason arrives as it is; Dynamo's callers distrust one that they do not know, and see the class.
    pub fn new(class: Class, reason: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { class, reason: reason.into(), message: alloc::format!("{message}") }
    }

    /// The handler could not do it, for a reason of its own.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self { class: Class::Internal, reason: "backend.unknown".into(), message: alloc::format!("{message}") }
    }

    /// The request is wrong; trying elsewhere does not help.
    pub fn invalid(message: impl fmt::Display) -> Self {
        let reason = "backend.invalid_argument".into();
        Self { class: Class::InvalidRequest, reason, message: alloc::format!("{message}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.class.name(), self.reason, self.message)
    }
}

impl core::error::Error for Failure {}

impl From<SendItemError> for Failure {
    fn from(error: SendItemError) -> Self {
        match error {
            SendItemError::Gone => {
                Self { class: Class::Cancelled, reason: "request.cancelled".into(), message: String::new() }
            }
            SendItemError::TooLarge { .. } => {
                let reason = "request.payload_too_large".into();
                Self { class: Class::PayloadTooLarge, reason, message: alloc::format!("{error}") }
            }
        }
    }
}

/// JSON that cannot be read is the caller's fault, and the message names line and column.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        if error.is_io() { Self::internal(error) } else { Self::invalid(error) }
    }
}

/// What a handler that calls on tells its own caller: the class and the reason stay what they are.
impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let (class, reason) = (error.class(), error.reason().into());
        let message = match error {
            CallError::Failed { message, .. } => message.into(),
            error => alloc::format!("{}", Chain(&error)),
        };
        Self { class, reason, message }
    }
}

/// Why an item could not be sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendItemError {
    /// Nobody will read it: the call was killed, ran out of time, or lost its connection.
    Gone,
    /// The caller takes no item this large.
    TooLarge {
        /// What it takes, in bytes.
        limit: u64,
    },
}

impl fmt::Display for SendItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("nobody reads this call any more"),
            Self::TooLarge { limit } => write!(f, "the caller takes items of up to {limit} bytes"),
        }
    }
}

impl core::error::Error for SendItemError {}

/// Makes the task that answers one request. The outcome is given through [`Incoming`].
pub type Handler = Rc<dyn Fn(Incoming) -> LocalTask>;

/// A request that has been admitted. The handler's task ends the call: well when [`Incoming::finish`] is called, badly
/// with the [`Failure`] given to [`Incoming::fail`], and with an internal error if it is dropped without either.
#[derive(Debug)]
pub struct Incoming {
    responder: Responder,
    header: Bytes,
    span: Option<TraceParent>,
    ended: bool,
}

/// The way back to the caller; clones share the call.
#[derive(Clone, Debug)]
pub struct Responder {
    host: Rc<LocalNode>,
    job: JobId,
}

impl LocalNode {
    /// Answers requests for `path` with `handler`. Says which number the endpoint has in
    /// [`Running`](crate::local::pace::Running).
    pub fn serve(&self, path: &str, handler: Handler) -> u32 {
        self.serve_by(path, |endpoint| Rc::new(move |node, job| start(node, job, endpoint, handler.clone())))
    }
}

/// All of the handler's code runs in the task, where a panic is the executor's to catch.
fn start(node: &Rc<LocalNode>, job: JobId, endpoint: u32, handler: Handler) {
    let incoming = Incoming::new(node.clone(), job);
    node.env().spawn(run(node.clone(), job, endpoint, async move { handler(incoming).await }));
}

impl Incoming {
    fn new(host: Rc<LocalNode>, job: JobId) -> Self {
        let (header, span) = host.touching(|node| (node.worker.take_header(job), node.worker.span(job)));
        Self { responder: Responder { host, job }, header: header.unwrap_or_default(), span, ended: false }
    }

    /// Path, request id, metadata, trace context, codec.
    pub fn open(&self) -> Open<'_> {
        Open::parse(&self.header).unwrap_or_default()
    }

    /// The open frame's header, to be read with [`Open::parse`] for as long as one likes.
    pub const fn header(&self) -> &Bytes {
        &self.header
    }

    /// The span that an [observer](crate::observer::Observer::request_running) has made for the request: the parent of what its
    /// handler does.
    pub const fn span(&self) -> Option<TraceParent> {
        self.span
    }

    /// The way back to the caller.
    pub const fn responder(&self) -> &Responder {
        &self.responder
    }

    /// Ends the call well, after the items sent.
    pub fn finish(mut self) {
        self.end(Ending::ok());
    }

    /// Ends the call with a failure, after the items sent.
    pub fn fail(mut self, failure: &Failure) {
        self.end(Ending::failed(failure.class, &failure.reason, &failure.message));
    }

    fn end(&mut self, ending: Ending) {
        self.ended = true;
        let Responder { host, job } = &self.responder;
        let now = host.env().now();
        host.touching(|node| node.worker.finish(*job, ending, now));
        host.forget_job(*job);
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Ending::failed(Class::Internal, "runtime.internal", "the handler ended without an outcome"));
        }
    }
}

impl Responder {
    /// Sends an item of the answer, waiting for room: the caller's pace is the handler's.
    ///
    /// # Errors
    /// See [`SendItemError`].
    pub async fn send(&self, item: impl Into<Bytes>) -> Result<(), SendItemError> {
        let mut item = Some(item.into());
        in_line(|cx| self.poll_send(&mut item, cx), || self.leave()).await
    }

    /// Waits for room for an item of `len` bytes, which need not be made before: one that waits in [`Responder::send`] takes
    /// memory that nothing but the number of running calls bounds. The room is kept for what is sent here next.
    ///
    /// # Errors
    /// See [`SendItemError`].
    pub async fn ready(&self, len: usize) -> Result<(), SendItemError> {
        in_line(|cx| self.poll_ready(len, cx), || self.leave()).await
    }

    /// Lets go of an item that stands in line for room, so that others get on.
    fn leave(&self) {
        let now = self.host.env().now();
        self.host.touching(|node| node.worker.forgo(self.job, now));
    }

    fn poll_ready(&self, len: usize, cx: &Context<'_>) -> Poll<Result<(), SendItemError>> {
        match self.host.touching(|node| node.worker.reserve(self.job, len)) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) | Err(SendError::Blocked(_)) => {
                self.host.job_slot(self.job, |slot| slot.writers.keep(cx));
                Poll::Pending
            }
            Err(SendError::Closed) => Poll::Ready(Err(SendItemError::Gone)),
            Err(SendError::TooLarge { limit }) => Poll::Ready(Err(SendItemError::TooLarge { limit })),
        }
    }

    fn poll_send(&self, item: &mut Option<Bytes>, cx: &mut Context<'_>) -> Poll<Result<(), SendItemError>> {
        ready!(self.host.env().poll_proceed(cx));
        let Some(taken) = item.take() else { return Poll::Ready(Ok(())) };
        match self.host.touching(|node| node.worker.respond(self.job, taken)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(SendError::Blocked(back)) => {
                *item = Some(back);
                self.host.job_slot(self.job, |slot| slot.writers.keep(cx));
                Poll::Pending
            }
            Err(SendError::Closed) => Poll::Ready(Err(SendItemError::Gone)),
            Err(SendError::TooLarge { limit }) => Poll::Ready(Err(SendItemError::TooLarge { limit })),
        }
    }

    /// The next item of the request; `None` after the last.
    ///
    /// # Errors
    /// A [`Failure`] if the request broke off.
    pub async fn recv(&self) -> Result<Option<Bytes>, Failure> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Completes when the call is cancelled, and says why; with [`Cause::Kill`] once the call has ended. After
    /// a [`Cause::Stop`] the handler may go on for what it deems worth sending; after any other cause its future is dropped.
    pub async fn cancelled(&self) -> Cause {
        poll_fn(|cx| {
            let cause = self.host.job_slot(self.job, |slot| {
                if slot.cause.is_none() {
                    slot.watchers.keep(cx);
                }
                slot.cause
            });
            cause.unwrap_or(Some(Cause::Kill)).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Why the call is cancelled, if it is.
    pub fn cause(&self) -> Option<Cause> {
        self.host.job_slot(self.job, |slot| slot.cause).flatten()
    }

    /// Time left until the caller gives up; `None` without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        let deadline: Instant = self.host.touching(|node| node.worker.deadline(self.job))?;
        Some(deadline.since(self.host.env().now()))
    }

    /// Completes `after` from now, on the driver's clock.
    pub async fn sleep(&self, after: Duration) {
        self.host.env().sleep(after).await;
    }

    /// The node that serves the call, for calls of the handler's own from the same core.
    pub const fn node(&self) -> &Rc<LocalNode> {
        &self.host
    }

    fn poll_recv(&self, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        ready!(self.host.env().poll_proceed(cx));
        match self.host.touching(|node| node.worker.recv(self.job)) {
            Recv::Item(item) => Poll::Ready(Ok(Some(item))),
            Recv::Pending => {
                self.host.job_slot(self.job, |slot| slot.readers.keep(cx));
                Poll::Pending
            }
            Recv::End(Ending { class: None, .. }) => Poll::Ready(Ok(None)),
            Recv::End(Ending { class: Some(class), reason, message }) => {
                Poll::Ready(Err(Failure { class, reason: reason.into(), message: message.into() }))
            }
        }
    }
}

/// Runs a handler until it is done or until nobody wants its answer.
pub(super) async fn run(host: Rc<LocalNode>, job: JobId, endpoint: u32, handler: impl Future<Output = ()>) {
    let mut handler = pin!(handler);
    poll_fn(|cx| {
        host.env().pace().handles(endpoint);
        let over = host.job_slot(job, |slot| {
            slot.runner.keep(cx);
            slot.cause.is_some_and(Cause::is_final)
        });
        if over == Some(true) { Poll::Ready(()) } else { handler.as_mut().poll(cx) }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CloseReason;

    #[test]
    fn the_failure_of_a_handler_that_calls_on_keeps_class_and_reason() {
        let overloaded = Failure::from(CallError::Overloaded);
        assert_eq!((overloaded.class, &*overloaded.reason), (Class::CapacityExhausted, "capacity.pool_exhausted"));
        let reason = "backend.response_timeout";
        let failed =
            CallError::Failed { class: Class::DeadlineExceeded, reason: reason.into(), message: "late".into() };
        let told = Failure { class: Class::DeadlineExceeded, reason: reason.into(), message: "late".into() };
        assert_eq!(Failure::from(failed), told);
        let unreachable = Failure::from(CallError::Unreachable { reason: CloseReason::Refused, at: None });
        assert_eq!(unreachable.message, "the worker cannot be reached: connection refused");
        // Nobody cancelled the call that the handler answers.
        assert_eq!(Failure::from(CallError::Cancelled).reason, "backend.cancelled");
    }

    #[test]
    fn json_that_cannot_be_read_is_the_callers_fault_and_a_reason_may_be_ones_own() {
        let error = serde_json::from_str::<u8>("{\n  5").unwrap_err();
        let failure = Failure::from(error);
        assert_eq!((failure.class, &*failure.reason), (Class::InvalidRequest, "backend.invalid_argument"));
        assert!(failure.message.contains("line 1 column 0"), "{failure}");
        let own = Failure::new(Class::RateLimited, "quota.exhausted", 7);
        assert_eq!(alloc::format!("{own}"), "RateLimited (quota.exhausted): 7");
    }
}
