//! What a user writes to answer requests on the core that received them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::local::job::{Failure, Responder};
use ringplane_core::local::{Incoming, LocalTask};
use ringplane_core::wire::mux::Open;

/// A handler's future: stays on its core, so it need not be `Send`.
pub type LocalFuture = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

/// Answers requests. Every async closure of the shape `Fn(Request, Responder) -> impl Future<Output = Result<(), Failure>>`
/// is one. It runs on the core that received the request: do not block there.
pub trait Handler: Send + Sync + 'static {
    /// Starts to answer one request. The future is dropped when the call is killed, runs out of time or loses its
    /// connection.
    fn handle(&self, request: Request, out: Responder) -> LocalFuture;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request, Responder) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + 'static,
{
    fn handle(&self, request: Request, out: Responder) -> LocalFuture {
        Box::pin(self(request, out))
    }
}

/// A request: what it was opened with, and its items.
#[derive(Debug)]
pub struct Request {
    header: Bytes,
    items: Responder,
}

impl Request {
    /// The whole request, of a caller that sends one item. Empty if there is none.
    ///
    /// # Errors
    /// A [`Failure`] if the request broke off.
    pub async fn body(&mut self) -> Result<Bytes, Failure> {
        Ok(self.next().await?.unwrap_or_default())
    }

    /// The next item of a streaming request; `None` after the last.
    ///
    /// # Errors
    /// A [`Failure`] if the request broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.items.recv().await
    }

    /// The caller's id of the call.
    pub fn id(&self) -> &str {
        self.open().request_id
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

/// The core's side of a handler.
pub(crate) fn local_task(handler: &Arc<dyn Handler>, incoming: Incoming) -> LocalTask {
    let handler = handler.clone();
    Box::pin(async move {
        let out = incoming.responder().clone();
        let request = Request { header: incoming.header().clone(), items: out.clone() };
        match handler.handle(request, out).await {
            Ok(()) => incoming.finish(),
            Err(failure) => incoming.fail(&failure),
        }
    })
}
