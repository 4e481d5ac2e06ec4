//! Calls that are made a second time, at another worker, when the first is slow to begin.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::{Again as Why, Earlier};
use ringplane_core::retry::hedge::{Config, Hedging};
#[cfg(feature = "serde")]
use ringplane_core::wire::codec::Codec;
use tokio::task::JoinHandle;

use crate::client::call::Call;
use crate::client::client::Client;
use crate::client::endpoint::Endpoint;
use crate::client::request::CallRequest;
use crate::error::Error;
use crate::runtime::known::Known;

/// The least time after which it is looked again whether the first call has been sent.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What is known of the calls of one kind, as those of one endpoint: how long their first items take, and how many have been
/// made a second time. Clones share it.
#[derive(Clone, Debug)]
pub struct Hedge(Arc<Mutex<Hedging>>);

impl Hedge {
    /// Nothing is known yet.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Mutex::new(Hedging::new(config))))
    }

    fn lock(&self) -> MutexGuard<'_, Hedging> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Makes a call that is made once more, at another worker, if it is slow to begin. The first item decides which of the two
    /// is read; the other is killed. That costs a timer for each call.
    ///
    /// The request may be worked on twice. It is made once only if it is for [one instance](CallRequest::with_instance), if there is no
    /// other instance, while it has been sent to none, if the share of second calls is used up, or while the budget of retries is.
    /// The second call leaves what policies remember of its affinity as it is.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`Error::NotWhole`] for a request whose items follow.
    pub fn call_hedged(&self, request: CallRequest, hedge: &Hedge) -> Result<HedgedCall, Error> {
        HedgedCall::new(self.clone(), self.known(&request.endpoint)?, request, hedge)
    }
}

impl Endpoint {
    /// As [`Client::call_hedged`], to this endpoint, whichever the request names.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`Error::NotWhole`] for a request whose items follow.
    pub fn call_hedged(&self, request: CallRequest, hedge: &Hedge) -> Result<HedgedCall, Error> {
        HedgedCall::new(self.client.clone(), self.known.clone(), request, hedge)
    }
}

/// A [`Call`] that may have been made twice: a stream of the items of one of them, then at most one error. Dropping it kills both.
///
/// ```
/// use ringplane::{CallRequest, Client, Failure, Hedge, HedgeConfig, Request, Responder, Worker};
///
/// async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
///     Ok(out.send(request.body().await?).await?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder().discovery("mem:hedged").endpoint("a.b.echo", echo).serve().await?;
/// let client = Client::builder().discovery("mem:hedged").connect()?;
/// // One for all calls of an endpoint.
/// let hedge = Hedge::new(HedgeConfig::default());
/// assert_eq!(client.call_hedged(CallRequest::new("a.b.echo", "x"), &hedge)?.collect().await?, ["x"]);
/// # client.shutdown().await;
/// # worker.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct HedgedCall {
    /// The first one, or the one that is read.
    call: Call,
    /// The second one, until one of them is read.
    other: Option<Call>,
    /// How that is made, until it is or need not be.
    again: Option<Again>,
    begun: Instant,
    /// Whose first item counts; `None` once it has come.
    hedge: Option<Hedge>,
}

/// How the second call is made.
struct Again {
    client: Client,
    known: Arc<Known>,
    request: CallRequest,
    slow: Duration,
    timer: JoinHandle<()>,
}

impl Drop for Again {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

impl fmt::Debug for HedgedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgedCall").field("call", &self.call).field("other", &self.other).finish_non_exhaustive()
    }
}

impl HedgedCall {
    fn new(client: Client, known: Arc<Known>, request: CallRequest, hedge: &Hedge) -> Result<Self, Error> {
        if request.body().is_none() {
            return Err(Error::NotWhole);
        }
        let request = request.in_trace();
        let (begun, slow) = (Instant::now(), hedge.lock().begun());
        let pinned = request.inner.direct.is_some();
        let call = client.call_placed(known.clone(), request.clone())?;
        let again = slow.filter(|_| !pinned).map(|slow| {
            let timer = client.pause(slow);
            Again { client, known, request, slow, timer }
        });
        Ok(Self { call, other: None, again, begun, hedge: Some(hedge.clone()) })
    }

    /// The next item; `None` after the last one or after an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Reads the call to its end.
    ///
    /// # Errors
    /// The call's error; the items before it are lost. If both have failed, the error of the later.
    pub async fn collect(mut self) -> Result<Vec<Bytes>, CallError> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await {
            items.push(item?);
        }
        Ok(items)
    }

    /// What the request names.
    #[cfg(feature = "serde")]
    pub(super) const fn codec(&self) -> Option<Codec> {
        self.call.codec
    }

    /// Ends the call now. Its outcome is [`CallError::Cancelled`].
    pub fn kill(&mut self) {
        (self.again, self.other) = (None, None);
        self.call.kill();
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        loop {
            if let Poll::Ready(item) = self.call.poll_item(cx) {
                match self.other.take() {
                    // One that fails leaves it to the other.
                    Some(other) if matches!(item, Some(Err(_))) => {
                        self.call = other;
                        continue;
                    }
                    _ => return Poll::Ready(self.decided(item)),
                }
            }
            if let Some(other) = &mut self.other {
                match other.poll_item(cx) {
                    Poll::Ready(Some(Err(_))) => self.other = None,
                    Poll::Ready(item) => {
                        // The first is killed with its drop.
                        if let Some(other) = self.other.take() {
                            self.call = other;
                        }
                        return Poll::Ready(self.decided(item));
                    }
                    Poll::Pending => {}
                }
                return Poll::Pending;
            }
            let Some(again) = &mut self.again else { return Poll::Pending };
            if Pin::new(&mut again.timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.make_again();
        }
    }

    /// It is decided which of the calls is read.
    fn decided(&mut self, item: Option<Result<Bytes, CallError>>) -> Option<Result<Bytes, CallError>> {
        self.again = None;
        if let Some(hedge) = self.hedge.take()
            && matches!(item, Some(Ok(_)))
        {
            hedge.lock().answered(self.begun.elapsed());
        }
        item
    }

    /// The first call is slow.
    fn make_again(&mut self) {
        let Some(mut again) = self.again.take() else { return };
        let Some(at) = self.call.instance() else {
            // It waits for an instance, or for a place at one: a second one would wait behind it.
            self.call.look();
            again.timer = again.client.pause(again.slow.max(LOOK_EVERY));
            self.again = Some(again);
            return;
        };
        if !self.hedge.as_ref().is_some_and(|hedge| hedge.lock().take()) {
            return;
        }
        let mut request = again.request.clone();
        request.inner.timeout = match request.inner.timeout.or(again.client.deadline) {
            Some(all) => Some(all.saturating_sub(self.begun.elapsed())),
            None => None,
        };
        request.inner.earlier = Some(Box::new(Earlier { why: Why::Slow, attempts: 1, avoid: vec![at.instance] }));
        self.other = again.client.call_known(again.known.clone(), request).ok();
    }
}

impl Stream for HedgedCall {
    type Item = Result<Bytes, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}
