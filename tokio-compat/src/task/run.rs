//! The way of one task: it waits for a slot, runs, is tried again if it asks, and its end is counted.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use ringplane_core::chain::Chain;
use ringplane_core::rng::Rng;
use ringplane_core::task::retry::{Attempts, Decision, Refused, Retry, Slot};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::random::random_u64;
use crate::task::door::Permit;
use crate::task::error::{BoxError, TaskError, TaskStop};
use crate::task::node::{Node, Place, Progress};
use crate::task::stats::{Counts, End};

/// Names a task within its process. All tries of a task have the same.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId(u64);

impl TaskId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number, from 1.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// One try of a task.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which task.
    pub id: TaskId,
    /// Which try, from 1.
    pub number: u32,
    /// Cancelled with the task.
    pub token: CancellationToken,
}

/// What cancelling does to a task that runs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum OnCancel {
    /// It is dropped where it waits.
    Drop,
    /// It goes on, and looks at its token itself.
    Await,
}

/// A task that has not begun. Its place comes last: it is left after the rest has been dropped.
pub(super) struct Job<F> {
    pub(super) task: F,
    pub(super) id: TaskId,
    pub(super) on_cancel: OnCancel,
    pub(super) place: Place,
}

/// Runs a future once. Without a token it hears of its tracker's end, and is aborted by its handle.
pub(super) async fn once<T, E: Into<TaskStop>>(
    job: Job<impl Future<Output = Result<T, E>>>,
    token: Option<CancellationToken>,
) -> Result<T, TaskError> {
    let Job { mut place, id, on_cancel, task } = job;
    let Place { node, progress } = &mut place;
    let token = token.as_ref().unwrap_or_else(|| node.signal(id.get()));
    let mut cancelled = pin!(token.cancelled());
    let permit = admit(node, progress, token, cancelled.as_mut()).await?;
    let result = drive(task, cancelled, on_cancel).await.map_err(|halt| match halt {
        Halt::Stop(TaskStop::Cancelled) => TaskError::Cancelled,
        Halt::Stop(TaskStop::Failed(error) | TaskStop::Again(error)) => TaskError::Failed(error),
        Halt::Panic(payload) => TaskError::panicked(&*payload),
    });
    settle(node, progress, &result, 1);
    drop(permit);
    result
}

/// Runs what `task` makes for each try, until one is not to be followed by another.
pub(super) async fn tries<T, E: Into<TaskStop>, F: Future<Output = Result<T, E>>>(
    job: Job<impl FnMut(Attempt) -> F>,
    token: CancellationToken,
    retry: Retry,
) -> Result<T, TaskError> {
    let Job { mut place, id, on_cancel, mut task } = job;
    let Place { node, progress } = &mut place;
    let mut cancelled = pin!(token.cancelled());
    let mut permit = Some(admit(node, progress, &token, cancelled.as_mut()).await?);
    let (mut attempts, mut rng) = (Attempts::new(retry), None);
    let result = loop {
        let attempt = Attempt { id, number: attempts.number(), token: token.clone() };
        // What makes the future may panic as the future may.
        let error = match drive(async { task(attempt).await }, cancelled.as_mut(), on_cancel).await {
            Ok(value) => break Ok(value),
            Err(Halt::Panic(payload)) => break Err(TaskError::panicked(&*payload)),
            Err(Halt::Stop(TaskStop::Cancelled)) => break Err(TaskError::Cancelled),
            Err(Halt::Stop(TaskStop::Failed(error))) => break Err(TaskError::Failed(error)),
            Err(Halt::Stop(TaskStop::Again(error))) => error,
        };
        let rng = rng.get_or_insert_with(|| Rng::new(random_u64()));
        let pause = match node.decide(&mut attempts, &Chain(error.as_ref()), rng) {
            Decision::Again(pause) => pause,
            Decision::GiveUp(Refused::Budget) => {
                node.count(Counts::unaffordable);
                break Err(TaskError::Unaffordable(error));
            }
            Decision::GiveUp(Refused::Tries | Refused::Policy) => break Err(TaskError::Failed(error)),
        };
        if retry.slot == Slot::GivenBack {
            permit = None;
        }
        if !rest(pause, cancelled.as_mut()).await {
            break Err(TaskError::Cancelled);
        }
        if permit.is_none() {
            match slot(node, &token, cancelled.as_mut()).await {
                Ok(again) => permit = Some(again),
                Err(error) => break Err(error),
            }
        }
        node.count(Counts::retried);
    };
    settle(node, progress, &result, attempts.number());
    result
}

/// The end of a task's token. It is waited for once in the life of a task: each wait has a lock and a place in a list.
type Cancelled<'a, 'b> = Pin<&'a mut WaitForCancellationFuture<'b>>;

/// Why a try has no result.
enum Halt {
    Stop(TaskStop),
    Panic(Box<dyn Any + Send>),
}

/// The first slot of a task. A task that gets none has ended, and is counted.
async fn admit(
    node: &Node,
    progress: &mut Progress,
    token: &CancellationToken,
    cancelled: Cancelled<'_, '_>,
) -> Result<Option<Permit>, TaskError> {
    match slot(node, token, cancelled).await {
        Ok(permit) => {
            progress.start(node);
            Ok(permit)
        }
        Err(error) => {
            progress.end(node, if error.is_cancellation() { End::Cancelled } else { End::Rejected });
            Err(error)
        }
    }
}

/// A slot, unless the task is cancelled first or too many wait. `Ok(None)` where nobody needs one.
async fn slot(
    node: &Node,
    token: &CancellationToken,
    mut cancelled: Cancelled<'_, '_>,
) -> Result<Option<Permit>, TaskError> {
    if token.is_cancelled() {
        return Err(TaskError::Cancelled);
    }
    let Some(door) = node.door.as_ref() else { return Ok(None) };
    let mut acquire = pin!(door.acquire());
    let permit = poll_fn(|cx| match acquire.as_mut().poll(cx) {
        Poll::Ready(permit) => Poll::Ready(Some(permit)),
        Poll::Pending => cancelled.as_mut().poll(cx).map(|()| None),
    });
    match permit.await {
        None => Err(TaskError::Cancelled),
        Some(None) => Err(TaskError::Rejected { max_waiting: door.max_waiting }),
        Some(permit) => Ok(permit),
    }
}

/// Polls a try to its end, catches its panic, and drops it when it is cancelled if that is wished.
async fn drive<T, E: Into<TaskStop>>(
    task: impl Future<Output = Result<T, E>>,
    mut cancelled: Cancelled<'_, '_>,
    on_cancel: OnCancel,
) -> Result<T, Halt> {
    let mut task = pin!(task);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))) {
        Ok(Poll::Ready(result)) => Poll::Ready(result.map_err(|error| Halt::Stop(error.into()))),
        Err(payload) => Poll::Ready(Err(Halt::Panic(payload))),
        Ok(Poll::Pending) if on_cancel == OnCancel::Drop => {
            cancelled.as_mut().poll(cx).map(|()| Err(Halt::Stop(TaskStop::Cancelled)))
        }
        Ok(Poll::Pending) => Poll::Pending,
    })
    .await
}

/// Waits between two tries. Whether the task may go on.
async fn rest(pause: Duration, cancelled: Cancelled<'_, '_>) -> bool {
    let pause = async {
        if pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        biased;
        () = cancelled => false,
        () = pause => true,
    }
}

/// Counts the end of a task and shows it to the policy.
fn settle<T>(node: &Node, progress: &mut Progress, result: &Result<T, TaskError>, attempt: u32) {
    let end = match result {
        Ok(_) => End::Ok,
        Err(TaskError::Failed(_) | TaskError::Unaffordable(_)) => End::Failed,
        Err(TaskError::Panicked(_)) => End::Panicked,
        Err(TaskError::Cancelled) => End::Cancelled,
        Err(TaskError::Rejected { .. } | TaskError::TrackerClosed) => End::Rejected,
    };
    progress.end(node, end);
    let failed = |error: &BoxError| node.failed(&Chain(error.as_ref()), attempt, false);
    match result {
        Ok(_) => node.succeeded(),
        Err(TaskError::Failed(error) | TaskError::Unaffordable(error)) => failed(error),
        Err(TaskError::Panicked(text)) => node.failed(text, attempt, true),
        Err(_) => {}
    }
}
