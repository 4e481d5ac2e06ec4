//! Handlers that run on the user's own tokio runtime instead of the core: for work that blocks, or futures that move.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringplane_core::local::job::{Failure, SendItemError};
use ringplane_core::local::{Incoming, LocalTask, Responder as LocalResponder};
use ringplane_core::wire::mux::Open;
use ringplane_core::worker::job::Cause;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::runtime::room::{Gone, Room, Taken, room};

/// A handler's future, free to move between threads.
pub type SendFuture = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Answers requests on a tokio runtime. Every async closure of the shape
/// `Fn(Request, Responder) -> impl Future<Output = Result<(), Failure>> + Send` is one.
pub trait Handler: Send + Sync + 'static {
    /// Starts to answer one request. The task is aborted when the call is killed, runs out of time or loses its
    /// connection.
    fn handle(&self, request: Request, out: Responder) -> SendFuture;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request, Responder) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    fn handle(&self, request: Request, out: Responder) -> SendFuture {
        Box::pin(self(request, out))
    }
}

/// A request: what it was opened with, and its items.
#[derive(Debug)]
pub struct Request {
    header: Bytes,
    items: mpsc::Receiver<Result<Option<Bytes>, Failure>>,
    taken: Taken,
    over: bool,
    deadline: Option<Instant>,
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
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// The way back to the caller.
#[derive(Clone, Debug)]
pub struct Responder {
    items: mpsc::Sender<Bytes>,
    room: Room,
    cause: watch::Receiver<Option<Cause>>,
}

impl Responder {
    /// Sends an item of the answer, waiting for room: the caller's pace is the handler's.
    ///
    /// # Errors
    /// [`SendItemError::Gone`] once nobody reads the call any more.
    pub async fn send(&self, item: impl Into<Bytes>) -> Result<(), SendItemError> {
        let item = item.into();
        self.room.take(item.len()).await.map_err(|Gone| SendItemError::Gone)?;
        self.items.send(item).await.map_err(|_| SendItemError::Gone)
    }

    /// Completes when the call is cancelled, and says why. After a [`Cause::Stop`] the handler may go on for what it
    /// deems worth sending; after any other cause its task is aborted.
    pub async fn cancelled(&self) -> Cause {
        let mut cause = self.cause.clone();
        let told = cause.wait_for(Option::is_some).await;
        told.ok().and_then(|cause| *cause).unwrap_or(Cause::Kill)
    }

    /// Why the call is cancelled, if it is; [`Cause::Kill`] once it has ended.
    pub fn cause(&self) -> Option<Cause> {
        // The core's side tells a stop; after anything else it is dropped, and the channel with it.
        let told = *self.cause.borrow();
        told.or_else(|| self.cause.has_changed().is_err().then_some(Cause::Kill))
    }
}

/// The core's side of a remote handler: moves items between the call and the runtime, at most `bridge` ahead in each
/// direction.
pub(crate) fn remote_task(
    handler: &Arc<dyn Handler>,
    runtime: &Handle,
    bridge: usize,
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
        let request = Request { header: incoming.header().clone(), items, taken: request_taken, over: false, deadline };
        let out = Responder { items: answers, room: answer_room, cause };
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
                        return Err(error.into());
                    }
                    answer_taken.give_back(len);
                }
                task.outcome().await
            });
            beside(answering, requests, watching).await
        };
        match outcome {
            Ok(()) => incoming.finish(),
            Err(failure) => incoming.fail(&failure),
        }
    })
}

/// Passes items on, then their end. A channel that closes without it has lost the call.
async fn forward_requests(
    local: &LocalResponder,
    to_handler: mpsc::Sender<Result<Option<Bytes>, Failure>>,
    room: Room,
) {
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
    async fn outcome(&mut self) -> Result<(), Failure> {
        (&mut self.0)
            .await
            .unwrap_or_else(|error| Err(Failure::internal(format_args!("the handler's task died: {error}"))))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
