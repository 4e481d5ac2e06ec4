//! Handlers on a tokio runtime of the user's own: for work that blocks, or futures that move.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringplane_core::local::{Failure, Incoming, LocalTask, Responder as LocalOut, SendItemError};
use ringplane_core::worker::job::Cause;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::handler::panics::{Panic, end};
use crate::handler::request::{Handler, Request, Responder};
use crate::handler::served::Served;
use crate::handler::side::{self, Remote, Sides};
use crate::runtime::room::{Gone, Room, Taken, room};

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
#[derive(Debug)]
#[expect(
    unnameable_types,
    reason = "the sides are sealed: users name `Local` and `Remote`, never what a side is made of"
)]
pub struct Items {
    items: mpsc::Receiver<Result<Option<Bytes>, Failure>>,
    taken: Taken,
    over: bool,
    deadline: Option<Instant>,
}

impl side::Items for Items {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.over {
            return Ok(None);
        }
        let item = self.items.recv().await.unwrap_or_else(|| Err(SendItemError::Gone.into()));
        self.over = matches!(item, Ok(None));
        if let Ok(Some(item)) = &item {
            self.taken.give_back(item.len());
        }
        item
    }

    fn remaining(&self) -> Option<Duration> {
        remaining(self.deadline)
    }
}

/// The way back to the caller, by the core.
#[derive(Clone, Debug)]
#[expect(
    unnameable_types,
    reason = "the sides are sealed: users name `Local` and `Remote`, never what a side is made of"
)]
pub struct Out {
    items: mpsc::Sender<Bytes>,
    room: Room,
    cause: watch::Receiver<Option<Cause>>,
    deadline: Option<Instant>,
}

impl side::Out for Out {
    async fn send(&self, item: Bytes) -> Result<(), SendItemError> {
        self.room.take(item.len()).await.map_err(|Gone| SendItemError::Gone)?;
        self.items.send(item).await.map_err(|_| SendItemError::Gone)
    }

    async fn cancelled(&self) -> Cause {
        let mut cause = self.cause.clone();
        let told = cause.wait_for(Option::is_some).await;
        told.ok().and_then(|cause| *cause).unwrap_or(Cause::Kill)
    }

    fn cause(&self) -> Option<Cause> {
        // The core's side tells a stop; after anything else it is dropped, and the channel with it.
        let told = *self.cause.borrow();
        told.or_else(|| self.cause.has_changed().is_err().then_some(Cause::Kill))
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

/// The core's side of a remote handler: moves items between the call and the runtime, at most `bridge` ahead in each
/// direction.
pub(crate) fn remote_task(
    handler: &Arc<dyn Handler<Remote>>,
    runtime: &Handle,
    bridge: usize,
    served: Served,
    incoming: Incoming,
) -> LocalTask {
    let (handler, runtime) = (handler.clone(), runtime.clone());
    Box::pin(async move {
        let local = incoming.responder().clone();
        let (to_handler, items) = mpsc::channel(bridge);
        let (answers, mut from_handler) = mpsc::channel(bridge);
        let (request_room, request_taken) = room();
        let (answer_room, answer_taken) = room();
        let (told, cause) = watch::channel(None);
        let deadline = local.remaining().map(|left| Instant::now() + left);
        let items = Items { items, taken: request_taken, over: false, deadline };
        let out = Out { items: answers, room: answer_room, cause, deadline };
        let request = Request::new(incoming.header().clone(), items, served);
        let out = Responder::new(incoming.header().clone(), out, served);
        let mut task = Task(runtime.spawn(async move { handler.handle(request, out).await }));

        let outcome = {
            let requests = pin!(forward_requests(&local, to_handler, request_room));
            let watching = pin!(async {
                let _ = told.send(Some(local.cancelled().await));
                std::future::pending::<()>().await;
            });
            let answering = pin!(async {
                while let Some(item) = from_handler.recv().await {
                    let len = item.len();
                    if let Err(error) = local.send(item).await {
                        return Ok(Err(error.into()));
                    }
                    answer_taken.give_back(len);
                }
                task.outcome().await
            });
            beside(answering, requests, watching).await
        };
        end(incoming, outcome);
    })
}

/// Passes items on, then their end. A channel that closes without it has lost the call.
async fn forward_requests(local: &LocalOut, to_handler: mpsc::Sender<Result<Option<Bytes>, Failure>>, room: Room) {
    loop {
        let item = local.recv().await;
        if let Ok(Some(item)) = &item
            && room.take(item.len()).await.is_err()
        {
            return;
        }
        let over = !matches!(item, Ok(Some(_)));
        if to_handler.send(item).await.is_err() || over {
            return;
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
        outcome = main => outcome,
        () = both => std::future::pending().await,
    }
}

/// The handler's task, aborted when the call no longer wants it.
struct Task(JoinHandle<Result<(), Failure>>);

impl Task {
    async fn outcome(&mut self) -> Result<Result<(), Failure>, Panic> {
        match (&mut self.0).await {
            Ok(outcome) => Ok(outcome),
            Err(error) if error.is_panic() => Err(error.into_panic()),
            Err(_) => Ok(Err(Failure::internal("the handler's runtime ended"))),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
