//! Handlers on the core that received the request.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::local::{Failure, Incoming, LocalTask, Responder as Out, SendItemError};
use ringplane_core::worker::job::Cause;

use crate::handler::panics::{caught, end, too_late};
use crate::handler::request::{Handler, Request, Responder};
use crate::handler::served::Served;
use crate::handler::side::{self, Local, Sides};
use crate::trace::Scope;

/// A handler's future: stays on its core, so it need not be `Send`.
pub type LocalFuture = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

impl Sides for Local {
    type Items = Out;
    type Out = Out;
    type Future = LocalFuture;
}

impl side::Items for Out {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.recv().await
    }

    async fn next_batch(&mut self, items: &mut Vec<Bytes>, max: usize) -> Result<usize, Failure> {
        let Some(first) = self.recv().await? else { return Ok(0) };
        items.push(first);
        // An end that follows is there the next time too.
        for count in 1..max {
            match poll_fn(|cx| Poll::Ready(pin!(self.recv()).poll(cx))).await {
                Poll::Ready(Ok(Some(item))) => items.push(item),
                _ => return Ok(count),
            }
        }
        Ok(max)
    }

    fn remaining(&self) -> Option<Duration> {
        Self::remaining(self)
    }
}

impl side::Out for Out {
    async fn send(&self, item: Bytes) -> Result<(), SendItemError> {
        Self::send(self, item).await
    }

    async fn send_many(&self, items: &mut Vec<Bytes>) -> Result<(), SendItemError> {
        let mut sent = Sent { items, count: 0 };
        while let Some(item) = sent.items.get(sent.count).cloned() {
            Self::send(self, item).await?;
            sent.count += 1;
        }
        Ok(())
    }

    async fn cancelled(&self) -> Cause {
        Self::cancelled(self).await
    }

    fn cause(&self) -> Option<Cause> {
        Self::cause(self)
    }

    fn remaining(&self) -> Option<Duration> {
        Self::remaining(self)
    }

    async fn sleep(&self, after: Duration) {
        Self::sleep(self, after).await;
    }
}

/// Takes away the items that have been sent.
struct Sent<'a> {
    items: &'a mut Vec<Bytes>,
    count: usize,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.items.drain(..self.count);
    }
}

impl<F, Fut> Handler<Local> for F
where
    F: Fn(Request, Responder) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + 'static,
{
    fn handle(&self, request: Request, out: Responder) -> LocalFuture {
        Box::pin(self(request, out))
    }
}

/// The core's side of a handler.
pub(crate) fn local_task(handler: &Arc<dyn Handler>, served: Served, incoming: Incoming) -> LocalTask {
    let handler = handler.clone();
    Box::pin(async move {
        let out = incoming.responder().clone();
        if out.remaining().is_some_and(|left| left.is_zero()) {
            return incoming.fail(&too_late());
        }
        let scope = Scope::new(incoming.header().clone(), incoming.span());
        let request = Request::new(incoming.header().clone(), out.clone(), served);
        let out = Responder::new(incoming.header().clone(), out, served);
        let outcome = caught(scope.run(async { handler.handle(request, out).await })).await;
        end(incoming, outcome);
    })
}
