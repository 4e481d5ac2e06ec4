//! Handlers on a tokio runtime of the user's own: for work that blocks, or futures that move.

use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringplane_core::local::{Failure, Incoming, LocalTask, Responder as LocalOut, SendItemError};
use ringplane_core::worker::job::Cause;
use tokio::task::coop;

use crate::handler::crossing::{Crossing, Outcome};
use crate::handler::panics::{Panic, caught, end, too_late};
use crate::handler::request::{Handler, Request, Responder};
use crate::handler::served::Served;
use crate::handler::side::{self, Remote, Sides};
use crate::runtime::cores::errands;
use crate::runtime::hub::Hub;
use crate::runtime::lane::{self, Hand};
use crate::trace::Scope;

/// A handler's future, free to move between threads.
pub type SendFuture = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

impl Sides for Remote {
    type Items = Items;
    type Out = Out;
    type Future = SendFuture;
}

impl<F, Fut> Handler<Remote> for F
where
    F: Fn(Request<Remote>, Responder<Remote>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    fn handle(&self, request: Request<Remote>, out: Responder<Remote>) -> SendFuture {
        Box::pin(self(request, out))
    }
}

/// The items of a request, passed on by the core.
#[expect(
    unnameable_types,
    reason = "the sides are sealed: users name `Local` and `Remote`, never what a side is made of"
)]
pub struct Items {
    crossing: Arc<Crossing>,
    /// Items taken over and not read yet.
    hand: Hand,
    /// How they ended.
    end: Option<Result<(), ()>>,
    deadline: Option<Instant>,
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("end", &self.end).finish_non_exhaustive()
    }
}

impl Items {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        loop {
            if let Some(item) = self.hand.pop() {
                return Poll::Ready(Ok(Some(item)));
            }
            match self.end {
                None => {}
                Some(Ok(())) => return Poll::Ready(Ok(None)),
                Some(Err(())) => return Poll::Ready(Err(SendItemError::Gone.into())),
            }
            let progress = ready!(coop::poll_proceed(cx));
            let read = ready!(self.crossing.poll_read(&mut self.hand, cx));
            progress.made_progress();
            if let Some(end) = read {
                self.end = Some(end.as_ref().copied().map_err(|_| ()));
                return Poll::Ready(end.map(|()| None));
            }
        }
    }
}

impl side::Items for Items {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    async fn next_batch(&mut self, items: &mut Vec<Bytes>, max: usize) -> Result<usize, Failure> {
        let Some(first) = self.next().await? else { return Ok(0) };
        items.push(first);
        let before = items.len();
        items.extend(std::iter::from_fn(|| self.hand.pop()).take(max - 1));
        Ok(items.len() - before + 1)
    }

    fn remaining(&self) -> Option<Duration> {
        remaining(self.deadline)
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        self.crossing.leave();
    }
}

/// The way back to the caller, by the core.
#[expect(
    unnameable_types,
    reason = "the sides are sealed: users name `Local` and `Remote`, never what a side is made of"
)]
pub struct Out {
    crossing: Arc<Crossing>,
    deadline: Option<Instant>,
}

impl Clone for Out {
    fn clone(&self) -> Self {
        self.crossing.add_out();
        Self { crossing: self.crossing.clone(), deadline: self.deadline }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.crossing.drop_out();
    }
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("cause", &self.crossing.cause()).finish_non_exhaustive()
    }
}

impl Out {
    fn poll_send(&self, items: &mut impl lane::Items, cx: &mut Context<'_>) -> Poll<Result<(), SendItemError>> {
        let progress = ready!(coop::poll_proceed(cx));
        let sent = ready!(self.crossing.poll_send(items, cx));
        progress.made_progress();
        Poll::Ready(sent)
    }
}

impl side::Out for Out {
    async fn send(&self, item: Bytes) -> Result<(), SendItemError> {
        let mut item = Some(item);
        poll_fn(|cx| self.poll_send(&mut item, cx)).await
    }

    async fn send_many(&self, items: &mut Vec<Bytes>) -> Result<(), SendItemError> {
        poll_fn(|cx| self.poll_send(items, cx)).await
    }

    async fn cancelled(&self) -> Cause {
        poll_fn(|cx| self.crossing.poll_cause(cx)).await
    }

    fn cause(&self) -> Option<Cause> {
        self.crossing.cause()
    }

    fn remaining(&self) -> Option<Duration> {
        remaining(self.deadline)
    }

    async fn sleep(&self, after: Duration) {
        tokio::time::sleep(after).await;
    }
}

fn remaining(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|at| at.saturating_duration_since(Instant::now()))
}

/// The core's side of a remote handler: moves items between the call and the runtime of `hub`, at most `bridge` ahead in each
/// direction.
pub(crate) fn remote_task(
    handler: &Arc<dyn Handler<Remote>>,
    hub: &Arc<Hub>,
    bridge: usize,
    served: Served,
    incoming: Incoming,
) -> LocalTask {
    let (handler, hub) = (handler.clone(), hub.clone());
    Box::pin(async move {
        let local = incoming.responder().clone();
        let deadline = local.remaining().map(|left| Instant::now() + left);
        let crossing = Arc::new(Crossing::new(bridge));
        let items = Items { crossing: crossing.clone(), hand: Hand::default(), end: None, deadline };
        let request = Request::new(incoming.header().clone(), items, served);
        let out = Out { crossing: crossing.clone(), deadline };
        let out = Responder::new(incoming.header().clone(), out, served);
        let concluding = Concluding { crossing: crossing.clone(), concluded: false };
        let scope = Scope::new(incoming.header().clone(), incoming.span());
        errands(|wakes| wakes.start(hub, scope.run(run(handler, request, out, concluding))));

        let outcome = {
            let closing = Closing(crossing);
            let crossing = &closing.0;
            let requests = pin!(forward_requests(&local, crossing));
            let watching = pin!(async {
                crossing.tell(local.cancelled().await);
                pending::<()>().await;
            });
            let answering = pin!(async {
                let mut hand = Hand::default();
                loop {
                    if let Some(outcome) = crossing.next(&mut hand).await {
                        return outcome;
                    }
                    while let Some(item) = hand.pop() {
                        if let Err(error) = local.send(item).await {
                            return Ok(Err(error.into()));
                        }
                    }
                }
            });
            beside(answering, requests, watching).await
        };
        end(incoming, outcome);
    })
}

/// Passes items on, then their end.
async fn forward_requests(local: &LocalOut, crossing: &Crossing) {
    loop {
        match local.recv().await {
            Ok(Some(item)) => {
                if !crossing.give(item).await {
                    return;
                }
            }
            Ok(None) => return crossing.end(Ok(())),
            Err(failure) => return crossing.end(Err(failure)),
        }
    }
}

/// Drives all three until the first is done.
async fn beside<T>(
    main: Pin<&mut impl Future<Output = T>>,
    requests: Pin<&mut impl Future<Output = ()>>,
    watching: Pin<&mut impl Future<Output = ()>>,
) -> T {
    let both = async {
        tokio::join!(requests, watching);
    };
    tokio::select! {
        biased;
        outcome = main => outcome,
        () = both => pending().await,
    }
}

/// The handler's task on its runtime: over when the handler is, or when the call no longer wants it.
async fn run(
    handler: Arc<dyn Handler<Remote>>,
    request: Request<Remote>,
    out: Responder<Remote>,
    concluding: Concluding,
) {
    if out.remaining().is_some_and(|left| left.is_zero()) {
        return concluding.conclude(Ok(Err(too_late())));
    }
    let outcome = {
        let crossing = &concluding.crossing;
        let mut answer = pin!(caught(async move { handler.handle(request, out).await }));
        let mut begun = false;
        poll_fn(|cx| {
            if !std::mem::replace(&mut begun, true) {
                crossing.begin(cx);
            }
            if crossing.is_over() { Poll::Ready(None) } else { answer.as_mut().poll(cx).map(Some) }
        })
        .await
    };
    if let Some(outcome) = outcome {
        concluding.conclude(outcome);
    }
}

/// Has a task that is dropped before it is done come to an outcome.
struct Concluding {
    crossing: Arc<Crossing>,
    concluded: bool,
}

impl Concluding {
    fn conclude(mut self, outcome: Result<Outcome, Panic>) {
        self.concluded = true;
        self.crossing.conclude(outcome);
    }
}

impl Drop for Concluding {
    fn drop(&mut self) {
        if self.concluded || self.crossing.is_over() {
            return;
        }
        self.crossing.conclude(Ok(Err(Failure::internal("the handler's runtime ended"))));
    }
}

/// The core's side ends, whatever it has come to.
struct Closing(Arc<Crossing>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}
