//! A call as a stream of items, on the thread that drives it.

use alloc::rc::Rc;
use core::future::{Future, poll_fn};
use core::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::buf::slab::Key;
use crate::caller::error::{At, CallError};
use crate::caller::request::{CallId, EndpointKey, Recv, Request};
use crate::local::host::LocalNode;
use crate::local::waiting::in_line;
use crate::wire::mux::message::{CancelMode, Status};

/// A call under way. Dropping it kills the call.
#[derive(Debug)]
pub struct LocalCall {
    host: Rc<LocalNode>,
    id: CallId,
    done: bool,
}

impl LocalNode {
    /// Makes a call from this thread.
    ///
    /// # Errors
    /// As [`Caller::call`](crate::caller::machine::Caller::call).
    pub fn call(&self, endpoint: EndpointKey, request: Request) -> Result<LocalCall, CallError> {
        let me = self.keep().ok_or(CallError::Closed)?;
        let now = self.env().now();
        let id = self.touching(|node| node.caller.call(endpoint, request, now))?;
        self.begin_call(id);
        Ok(LocalCall { host: me, id, done: false })
    }
}

impl LocalCall {
    /// The next item; `None` after the last one or after an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for hand-written futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        ready!(self.host.env().poll_proceed(cx));
        let now = self.host.env().now();
        match self.host.touching(|node| node.caller.recv(self.id, now)) {
            Recv::Item(item) => Poll::Ready(Some(Ok(item))),
            Recv::Pending => {
                self.host.call_slot(self.id, |slot| slot.readers.keep(cx));
                Poll::Pending
            }
            Recv::End(outcome) => {
                self.done = true;
                Poll::Ready(outcome.err().map(Err))
            }
        }
    }

    /// Has one task look after this call and others, with [`LocalNode::poll_gathered`]: it learns by `tag` when there is
    /// something for [`try_next`](Self::try_next), [`LocalSender::try_send`] or [`LocalSender::try_finish`] to do.
    pub fn gather(&self, tag: Key) {
        self.host.call_slot(self.id, |slot| slot.tag = Some(tag));
    }

    /// The next item or the end, if it is there; who waits for it is told by tag. After the end: nothing more.
    pub fn try_next(&mut self) -> Recv {
        if self.done {
            return Recv::End(Ok(()));
        }
        let now = self.host.env().now();
        let next = self.host.touching(|node| node.caller.recv(self.id, now));
        self.done = matches!(next, Recv::End(_));
        next
    }

    /// Tries so far, those of calls [before it](Request::earlier) included.
    pub fn attempts(&self) -> u32 {
        self.host.touching(|node| node.caller.attempts(self.id))
    }

    /// A handle for sending the items of a streaming request, which may be used beside [`next`](Self::next).
    pub fn sender(&self) -> LocalSender {
        LocalSender { host: self.host.clone(), id: self.id }
    }

    /// Starts a task on the call's thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.host.env().spawn(task);
    }

    /// Cancels the call; what the worker still sends after a `Stop` can be read.
    pub fn cancel(&self, mode: CancelMode) {
        let now = self.host.env().now();
        self.host.touching(|node| node.caller.cancel(self.id, mode, now));
    }

    /// The instance that the call is at, or, once it is over, was tried at last; `None` while it waits for one.
    pub fn instance(&self) -> Option<At> {
        self.host.touching(|node| node.caller.instance(self.id))
    }

    /// The worker's latest sign of life, before the first item.
    pub fn status(&self) -> Option<Status> {
        self.host.call_slot(self.id, |slot| slot.status).flatten()
    }
}

impl Drop for LocalCall {
    fn drop(&mut self) {
        let now = self.host.env().now();
        self.host.touching(|node| node.caller.release(self.id, now));
        // A sender that waits for room learns that the call is over.
        self.host.forget_call(self.id);
    }
}

/// The sending half of a streaming request.
#[derive(Clone, Debug)]
pub struct LocalSender {
    host: Rc<LocalNode>,
    id: CallId,
}

impl LocalSender {
    /// Sends an item, waiting for room.
    ///
    /// # Errors
    /// [`CallError::TooLarge`], or [`CallError::Closed`] once the call is over; its outcome says why.
    pub async fn send(&self, item: Bytes) -> Result<(), CallError> {
        let mut item = Some(item);
        in_line(|cx| self.poll_send(&mut item, cx), || self.leave()).await
    }

    /// Lets go of an item that stands in line for room, so that others get on.
    fn leave(&self) {
        let now = self.host.env().now();
        self.host.touching(|node| node.caller.forgo(self.id, now));
    }

    fn poll_send(&self, item: &mut Option<Bytes>, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        ready!(self.host.env().poll_proceed(cx));
        let Some(taken) = item.take() else { return Poll::Ready(Ok(())) };
        match self.host.touching(|node| node.caller.send(self.id, taken)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(SendError::Blocked(back)) => {
                *item = Some(back);
                self.host.call_slot(self.id, |slot| slot.writers.keep(cx));
                Poll::Pending
            }
            Err(SendError::Closed) => Poll::Ready(Err(CallError::Closed)),
            Err(SendError::TooLarge { limit }) => Poll::Ready(Err(CallError::TooLarge { limit })),
        }
    }

    /// Sends an item if there is room. Otherwise it comes back, and whoever looks after the call is told by tag.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn try_send(&self, item: Bytes) -> Result<(), SendError> {
        self.host.touching(|node| node.caller.send(self.id, item))
    }

    /// Ends the request if it can be ended now; `false`: whoever looks after the call is told by tag when to try again.
    pub fn try_finish(&self) -> bool {
        self.host.touching(|node| node.caller.finish(self.id))
    }

    /// Ends the request.
    pub async fn finish(&self) {
        poll_fn(|cx| {
            if self.host.touching(|node| node.caller.finish(self.id)) {
                return Poll::Ready(());
            }
            self.host.call_slot(self.id, |slot| slot.writers.keep(cx));
            Poll::Pending
        })
        .await;
    }
}
