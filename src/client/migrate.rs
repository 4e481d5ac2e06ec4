//! Calls that go on at another worker when the one that answers is lost.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures_core::Stream;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::migration::{Config, Migration};
#[cfg(feature = "serde")]
use ringplane_core::wire::codec::Codec;

use crate::client::call::Call;
use crate::client::client::Client;
use crate::client::endpoint::Endpoint;
use crate::client::request::CallRequest;
use crate::error::Error;
use crate::runtime::known::Known;

/// How a request goes on behind a part of its answer: what is kept of the items that have come, and the request for the rest.
///
/// Both workers may have done some of the work: the request must be one to which that does no harm. Of what arrives, each
/// item is delivered once and in order; that the second answer begins where the first broke off is up to the request for it.
/// [`KeepAll`] makes one of a closure; for prompts in tokens there is `model::ExtendTokens`, with the feature `model`.
pub trait Resume {
    /// An item has come, and its reader gets it now. Keeps of it what the request for the rest needs.
    fn keep(&mut self, item: &Bytes);

    /// Bytes that are kept; beyond [`Config::max_kept`] the call does not go on elsewhere any more.
    fn kept(&self) -> usize;

    /// How `request`, which is the original one, goes on behind what has been kept. Called for every worker after the first,
    /// also if nothing has come yet.
    fn resume(&mut self, request: &CallRequest) -> Onward;
}

/// How a request goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for a worker that is lost, and taken apart at once")]
pub enum Onward {
    /// With this one, at another worker. Its id and metadata are as it says, so better those of the original; its trace is the
    /// original's unless it names one.
    Request(CallRequest),
    /// Not at all: nothing is missing but perhaps this last item, and the answer ends well.
    Complete(Option<Bytes>),
    /// Not at all: the reader gets the error.
    Impossible,
}

/// Keeps every item, and has a closure make the request for the rest of the original one and the items.
pub struct KeepAll<F> {
    items: Vec<Bytes>,
    bytes: usize,
    resume: F,
}

impl<F: FnMut(&CallRequest, &[Bytes]) -> Onward> KeepAll<F> {
    /// Nothing is kept yet.
    pub const fn new(resume: F) -> Self {
        Self { items: Vec::new(), bytes: 0, resume }
    }
}

impl<F> fmt::Debug for KeepAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAll").field("items", &self.items.len()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<F: FnMut(&CallRequest, &[Bytes]) -> Onward> Resume for KeepAll<F> {
    fn keep(&mut self, item: &Bytes) {
        self.bytes += item.len() + size_of::<Bytes>();
        self.items.push(item.clone());
    }

    fn kept(&self) -> usize {
        self.bytes
    }

    fn resume(&mut self, request: &CallRequest) -> Onward {
        (self.resume)(request, &self.items)
    }
}

impl Client {
    /// Makes a call that goes on at another worker if the one that answers is lost, as `resume` says.
    ///
    /// It does so after errors that are [migratable](CallError::is_migratable), and not if it is for
    /// [one instance](CallRequest::with_instance) only. The workers that it has been at are avoided while there are others.
    /// Before each further one it pauses as before a retry, and it takes of the same budget
    /// (`caller.backoff` and `caller.budget` of [`Config`](crate::Config)). The request's timeout holds for all of it.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`Error::NotWhole`] for a request whose items follow.
    pub fn call_migrating<R: Resume>(
        &self,
        request: CallRequest,
        config: Config,
        resume: R,
    ) -> Result<MigratingCall<R>, Error> {
        MigratingCall::new(self.clone(), self.known(&request.endpoint)?, request, config, resume)
    }
}

impl Endpoint {
    /// As [`Client::call_migrating`], to this endpoint, whichever the request names.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`Error::NotWhole`] for a request whose items follow.
    pub fn call_migrating<R: Resume>(
        &self,
        request: CallRequest,
        config: Config,
        resume: R,
    ) -> Result<MigratingCall<R>, Error> {
        MigratingCall::new(self.client.clone(), self.known.clone(), request, config, resume)
    }
}

/// A [`Call`] whose answer may come from several workers, one after the other: a stream of items, then at most one error.
/// Dropping it kills the call.
///
/// ```
#[doc = include_str!("../../examples/migrate.rs")]
/// ```
pub struct MigratingCall<R> {
    client: Client,
    known: Arc<Known>,
    /// The original one.
    request: CallRequest,
    resume: R,
    call: Call,
    begun: Instant,
    /// Of all calls together.
    deadline: Option<Instant>,
    migration: Migration,
}

impl<R> fmt::Debug for MigratingCall<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigratingCall").field("migration", &self.migration).finish_non_exhaustive()
    }
}

impl<R: Resume> MigratingCall<R> {
    fn new(client: Client, known: Arc<Known>, request: CallRequest, config: Config, resume: R) -> Result<Self, Error> {
        if request.body().is_none() {
            return Err(Error::NotWhole);
        }
        let request = request.in_trace();
        let begun = Instant::now();
        let deadline = request.inner.timeout.or(client.deadline).and_then(|timeout| begun.checked_add(timeout));
        let call = client.call_known(known.clone(), request.clone())?;
        let mut migration = Migration::new(config);
        if request.inner.direct.is_some() {
            migration.stay();
        }
        Ok(Self { client, known, request, resume, call, begun, deadline, migration })
    }

    /// The next item; `None` after the last one or after an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Reads the answer to its end.
    ///
    /// # Errors
    /// The last call's error; the items before it are lost.
    pub async fn collect(mut self) -> Result<Vec<Bytes>, CallError> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await {
            items.push(item?);
        }
        Ok(items)
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        while !self.migration.is_over() {
            let broken = match ready!(self.call.poll_item(cx)) {
                Some(Ok(item)) => {
                    if self.migration.keeps() {
                        self.resume.keep(&item);
                    }
                    self.migration.item(self.resume.kept());
                    return Poll::Ready(Some(Ok(item)));
                }
                Some(Err(error)) => error,
                None => break,
            };
            if let Err(last) = self.go_on(broken) {
                self.migration.end();
                return Poll::Ready(last);
            }
        }
        self.migration.end();
        Poll::Ready(None)
    }

    /// Has the call go on at another worker.
    ///
    /// # Errors
    /// What its reader gets at last, if it does not.
    fn go_on(&mut self, error: CallError) -> Result<(), Option<Result<Bytes, CallError>>> {
        let now = Instant::now();
        let error = self
            .migration
            .broken(error, now.saturating_duration_since(self.begun))
            .map_err(|error| Some(Err(error)))?;
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Some(Err(CallError::DeadlineExceeded)));
        }
        let mut request = match self.resume.resume(&self.request) {
            Onward::Request(request) => request.in_trace_of(&self.request),
            Onward::Complete(last) => return Err(last.map(Ok)),
            Onward::Impossible => return Err(Some(Err(error))),
        };
        if request.body().is_none() {
            return Err(Some(Err(error)));
        }
        let at = self.call.instance().map(|at| at.instance);
        request.inner.timeout = left;
        request.inner.earlier = Some(Box::new(self.migration.go_on(error.clone(), at, self.call.attempts())));
        match self.client.call_known(self.known.clone(), request) {
            Ok(call) => self.call = call,
            Err(_) => return Err(Some(Err(error))),
        }
        Ok(())
    }
}

impl<R> MigratingCall<R> {
    /// What the request names.
    #[cfg(feature = "serde")]
    pub(super) fn codec(&self) -> Option<Codec> {
        self.request.codec()
    }

    /// How many workers it has left behind so far.
    pub const fn migrations(&self) -> u32 {
        self.migration.migrations()
    }

    /// Asks the worker to finish early; what it still sends can be read. The call goes on nowhere else.
    pub fn stop(&mut self) {
        self.migration.stay();
        self.call.stop();
    }

    /// Ends the call now. Its outcome is [`CallError::Cancelled`].
    pub fn kill(&mut self) {
        self.migration.stay();
        self.call.kill();
    }
}

impl<R: Resume + Unpin> Stream for MigratingCall<R> {
    type Item = Result<Bytes, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}
