//! Trackers, task by task; among them what the original is known to do wrong.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ringplane_core::chain::Chain;
use ringplane_core::retry::{backoff, budget};
use ringplane_core::task::policy::{
    CancelOnError, LogOnlyPolicy, Rate, RateCancelPolicy, ThresholdCancelPolicy, Verdict,
};
use ringplane_core::task::publisher::{Config, End};
use ringplane_core::task::retry::{Retry, Slot};
use ringplane_core::task::schedule::{RateScheduler, SemaphoreScheduler, UnlimitedScheduler};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::{TaskError, TaskStop};
use super::publish::{Due, publish};
use super::tracker::TaskTracker;
use super::trigger::trigger_cancellation_token;

/// The bound of every wait in here; nothing takes a thousandth of it.
const LONG: Duration = Duration::from_secs(60);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.expect("it hangs")
}

/// Gives way until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn unlimited() -> TaskTracker {
    TaskTracker::new(UnlimitedScheduler, LogOnlyPolicy)
}

fn permits(permits: usize) -> TaskTracker {
    TaskTracker::new(SemaphoreScheduler::new(permits), LogOnlyPolicy)
}

async fn forever() -> io::Result<()> {
    std::future::pending().await
}

async fn fail() -> Result<(), TaskStop> {
    Err(TaskStop::failed("no route"))
}

/// So many tries, without pauses.
fn tries(attempts: u32, slot: Slot) -> Retry {
    Retry { backoff: backoff::Config { base: Duration::ZERO, attempts, ..Default::default() }, slot }
}

#[tokio::test]
async fn a_retry_that_the_budget_refuses_is_a_failure_with_its_reason() {
    let six = budget::Config { max_tokens: 6, milli_tokens_per_success: 1000 };
    let tracker = TaskTracker::builder().retry_budget(six).build();
    let child = tracker.child_tracker();
    let again = |tracker: &TaskTracker| {
        tracker.spawn_retrying(tries(10, Slot::Kept), |_| async { Err::<(), _>(TaskStop::again("not yet")) })
    };
    let refused = soon(again(&tracker)).await.unwrap_err();
    assert!(matches!(refused, TaskError::Unaffordable(_)) && refused.is_failure(), "{refused}");
    assert_eq!(
        Chain(&refused).to_string(),
        "the task failed, and the retry budget has no room for another try: not yet"
    );
    assert_eq!((tracker.stats().retried, tracker.stats().unaffordable, tracker.stats().failed), (2, 1, 1));
    // Trackers below pay from it, and what ends well anywhere fills it.
    assert!(matches!(soon(again(&child)).await, Err(TaskError::Unaffordable(_))));
    assert_eq!((child.stats().retried, child.stats().unaffordable), (0, 1));
    for tracker in [&tracker, &child, &tracker] {
        soon(tracker.spawn(async { Ok::<_, TaskStop>(()) })).await.unwrap();
    }
    let mut failing = true;
    let task = child.spawn_retrying(tries(10, Slot::Kept), move |_| {
        let failed = std::mem::replace(&mut failing, false);
        async move { if failed { Err(TaskStop::again("not yet")) } else { Ok(()) } }
    });
    soon(task).await.expect("there is room again");
    // A tracker with a budget of its own pays from that.
    let apart = tracker.child_tracker_builder().retry_budget(budget::Config { max_tokens: 0, ..six }).build();
    assert!(matches!(soon(again(&apart)).await, Err(TaskError::Failed(_))), "those were its tries");
}

// Defects of the original that experiments have shown.

#[tokio::test]
async fn a_task_that_runs_is_stopped_by_its_own_token_and_no_other_task_is() {
    let tracker = unlimited();
    let dropped = Arc::new(());
    let held = dropped.clone();
    let plain = tracker.spawn(async move {
        forever().await?;
        drop(held);
        Ok::<_, io::Error>(())
    });
    let watching = tracker.spawn_cancellable(|token| async move {
        token.cancelled().await;
        Err::<(), _>(TaskStop::Cancelled)
    });
    let other = tracker.spawn(forever());
    until(|| tracker.stats().active() == 3).await;
    plain.cancel();
    watching.cancellation_token().expect("it was given one").cancel();
    assert!(soon(plain).await.unwrap_err().is_cancellation());
    assert!(soon(watching).await.unwrap_err().is_cancellation());
    assert_eq!(Arc::strong_count(&dropped), 1, "the task is gone with what it held");
    assert!(!other.is_finished());
    assert_eq!((tracker.stats().cancelled, tracker.stats().active()), (2, 1));
}

#[tokio::test]
async fn tasks_that_ask_for_a_slot_again_do_not_wait_for_the_one_they_hold() {
    for slots in [1, 2] {
        for slot in [Slot::GivenBack, Slot::Kept] {
            let tracker = permits(slots);
            let task = || {
                tracker.spawn_retrying(tries(5, slot), |attempt| async move {
                    if attempt.number < 5 { Err(TaskStop::again("not yet")) } else { Ok(attempt.id) }
                })
            };
            for task in [task(), task(), task()] {
                let id = task.id();
                assert_eq!(soon(task).await.unwrap(), id, "it stays the same task");
            }
            soon(tracker.join()).await;
            let stats = tracker.stats();
            assert_eq!((stats.issued, stats.started, stats.ok, stats.retried), (3, 3, 3, 12));
        }
    }
}

#[tokio::test]
async fn a_threshold_counts_the_failures_of_all_tasks() {
    let tracker = TaskTracker::new(UnlimitedScheduler, ThresholdCancelPolicy::new(3));
    for (number, left) in [(1, false), (2, false), (3, true)] {
        assert!(soon(tracker.spawn(fail())).await.unwrap_err().is_failure());
        assert_eq!(tracker.cancellation_token().is_cancelled(), left, "failure {number}");
    }
    assert!(matches!(soon(tracker.spawn(fail())).await, Err(TaskError::TrackerClosed)));
}

#[tokio::test]
async fn a_rate_of_failures_cancels() {
    let rate = Rate { max_failures_per_mille: 500, min_samples: 4, ..Rate::default() };
    let tracker = TaskTracker::new(UnlimitedScheduler, RateCancelPolicy::new(rate));
    for failing in [true, false, true] {
        let task = tracker.spawn(async move { if failing { fail().await } else { Ok(()) } });
        assert_eq!(soon(task).await.is_err(), failing);
        assert!(!tracker.is_closed(), "three are too few to judge by");
    }
    let running = tracker.spawn(forever());
    assert!(soon(tracker.spawn(async { Err::<(), _>(io::Error::other("no route")) })).await.is_err());
    assert!(soon(running).await.unwrap_err().is_cancellation());
    assert!(tracker.cancellation_token().is_cancelled());
}

#[tokio::test]
async fn a_pattern_cancels_the_token_of_the_tracker_by_the_whole_chain_of_an_error() {
    let tracker = TaskTracker::new(UnlimitedScheduler, CancelOnError::with_patterns(["disk full"]));
    assert!(soon(tracker.spawn(fail())).await.is_err());
    assert!(!tracker.cancellation_token().is_cancelled());
    let inner = TaskError::Failed("disk full".into());
    assert!(soon(tracker.spawn(async { Err::<(), _>(inner) })).await.is_err());
    soon(tracker.cancellation_token().cancelled()).await;
}

#[tokio::test]
async fn a_panic_and_an_abort_are_counted_and_nothing_stays_pending() {
    let tracker = permits(2);
    let panics = tracker.spawn(async { if true { panic!("out of {}", "ideas") } else { fail().await } });
    assert!(matches!(soon(panics).await, Err(TaskError::Panicked(text)) if text == "out of ideas"));
    let made = tracker.spawn_cancellable(|_| -> std::future::Ready<Result<(), TaskStop>> { panic!("at once") });
    assert!(matches!(soon(made).await, Err(TaskError::Panicked(text)) if text == "at once"));
    let [running, other, waiting, unpolled] = [(); 4].map(|()| tracker.spawn(forever()));
    unpolled.abort();
    until(|| tracker.stats().active() == 2 && tracker.stats().queued() == 1).await;
    for task in [running, other, waiting] {
        task.abort();
        assert!(soon(task).await.unwrap_err().is_cancellation());
    }
    assert!(soon(unpolled).await.unwrap_err().is_cancellation());
    soon(tracker.join()).await;
    let stats = tracker.stats();
    assert_eq!((stats.panicked, stats.cancelled, stats.issued), (2, 4, 6));
    assert_eq!((stats.pending(), stats.active(), stats.queued()), (0, 0, 0));
}

#[tokio::test]
async fn one_that_runs_beside_one_cancelled_in_the_queue_shows_as_active() {
    let tracker = permits(1);
    let running = tracker.spawn(forever());
    until(|| tracker.stats().active() == 1).await;
    let waiting = tracker.spawn(forever());
    until(|| tracker.stats().queued() == 1).await;
    waiting.cancel();
    assert!(soon(waiting).await.unwrap_err().is_cancellation());
    assert_eq!((tracker.stats().active(), tracker.stats().queued()), (1, 0));
    assert!(!running.is_finished());
}

#[tokio::test]
async fn a_task_that_always_asks_for_another_try_ends_and_its_policy_hears_of_it() {
    let tracker = TaskTracker::new(UnlimitedScheduler, CancelOnError::new());
    let tried = Arc::new(AtomicU32::new(0));
    let counter = tried.clone();
    let task = tracker.spawn_retrying(tries(100, Slot::Kept), move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Err::<(), _>(TaskStop::again("not yet")) }
    });
    assert!(matches!(soon(task).await, Err(TaskError::Failed(_))));
    assert_eq!(tried.load(Ordering::Relaxed), 100);
    assert_eq!(Retry::default().backoff.attempts, 3, "and without a word there are few");
    assert!(tracker.cancellation_token().is_cancelled());
}

#[tokio::test]
async fn a_cancelled_tracker_takes_no_task_anywhere_below() {
    let tracker = unlimited();
    let between = tracker.child_tracker();
    let child = between.child_tracker();
    let running = child.spawn(forever());
    tracker.cancel();
    for refusing in [&child, &child.child_tracker(), &tracker.child_tracker(), &tracker] {
        assert!(refusing.is_closed());
        assert!(matches!(soon(refusing.spawn(forever())).await, Err(TaskError::TrackerClosed)));
    }
    assert!(soon(running).await.unwrap_err().is_cancellation());
    soon(tracker.join()).await;
    assert_eq!(tracker.stats().pending(), 0);
}

#[tokio::test]
async fn a_tracker_made_while_its_parent_is_joined_takes_no_task_and_those_before_are_waited_for() {
    let tracker = unlimited();
    let child = tracker.child_tracker();
    let (finish, finished) = oneshot::channel::<()>();
    let running = child.spawn(async move { finished.await.map_err(TaskStop::failed) });
    let join = tokio::spawn({
        let tracker = tracker.clone();
        async move { tracker.join().await }
    });
    until(|| tracker.is_closed()).await;
    let late = tracker.child_tracker();
    assert!(matches!(soon(late.spawn(forever())).await, Err(TaskError::TrackerClosed)));
    assert!(matches!(soon(child.spawn(forever())).await, Err(TaskError::TrackerClosed)));
    assert!(!join.is_finished());
    finish.send(()).unwrap();
    soon(running).await.unwrap();
    soon(join).await.unwrap();
}

// The rest.

#[tokio::test]
async fn children_share_slots_and_counts_and_have_a_policy_of_their_own() {
    let tracker = TaskTracker::new(SemaphoreScheduler::new(1), ThresholdCancelPolicy::new(2));
    assert!(soon(tracker.spawn(fail())).await.is_err());
    let child = tracker.child_tracker();
    let beside = tracker.child_tracker_builder().scheduler(UnlimitedScheduler).error_policy(LogOnlyPolicy).build();
    assert!(soon(child.spawn(fail())).await.is_err());
    assert!(!child.is_closed(), "nothing was counted when it was made");
    let holds = tracker.spawn(forever());
    until(|| tracker.stats().active() == 1).await;
    let waits = child.spawn(fail());
    for _ in 0..5 {
        assert!(soon(beside.spawn(fail())).await.is_err(), "it has slots of its own");
    }
    until(|| child.stats().queued() == 1).await;
    holds.cancel();
    assert!(soon(waits).await.unwrap_err().is_failure());
    assert!(child.is_closed() && !tracker.is_closed(), "a child's policy cancels the child alone");
    assert_eq!((tracker.stats().failed, child.stats().failed, beside.stats().failed), (8, 2, 5));
}

#[tokio::test]
async fn dropping_a_tracker_cancels_and_a_closed_one_lets_its_tasks_end() {
    let tracker = unlimited();
    let child = tracker.child_tracker();
    let tasks = [tracker.spawn(forever()), child.spawn(forever())];
    drop(tracker.clone());
    assert!(!child.is_closed(), "there is another clone");
    drop(tracker);
    for task in tasks {
        assert!(soon(task).await.unwrap_err().is_cancellation());
    }
    let tracker = unlimited();
    let (finish, finished) = oneshot::channel::<u32>();
    let task = tracker.spawn(async move { finished.await.map_err(TaskStop::failed) });
    tracker.close();
    drop(tracker);
    finish.send(7).unwrap();
    assert_eq!(soon(task).await.unwrap(), 7);
}

#[tokio::test]
async fn a_task_that_watches_its_token_may_finish_after_it_was_cancelled() {
    let tracker = unlimited();
    let task = tracker.spawn_cancellable(|token| async move {
        token.cancelled().await;
        tokio::task::yield_now().await;
        Ok::<_, TaskStop>("in order")
    });
    until(|| tracker.stats().active() == 1).await;
    tracker.cancel();
    assert_eq!(soon(task).await.unwrap(), "in order");
    assert_eq!((tracker.stats().ok, tracker.stats().cancelled), (1, 0));
}

#[tokio::test]
async fn too_many_that_wait_are_rejected() {
    let tracker = TaskTracker::builder().scheduler(SemaphoreScheduler::new(1)).max_waiting(1).build();
    let tasks = [(); 3].map(|()| tracker.spawn(forever()));
    until(|| tracker.stats().rejected == 1).await;
    let stats = tracker.stats();
    assert_eq!((stats.active(), stats.queued()), (1, 1));
    tracker.cancel();
    let mut rejected = 0;
    for task in tasks {
        rejected += u32::from(matches!(soon(task).await, Err(TaskError::Rejected { max_waiting: 1 })));
    }
    assert_eq!(rejected, 1);
}

#[tokio::test]
async fn a_rate_lets_tasks_begin_one_after_the_other() {
    let pause = Duration::from_millis(5);
    let tracker = TaskTracker::new(RateScheduler::new(pause, 1), LogOnlyPolicy);
    let begun = std::time::Instant::now();
    let tasks: Vec<_> = (0..5).map(|_| tracker.spawn(async { Ok::<_, TaskStop>(()) })).collect();
    let cancelled = tracker.spawn(forever());
    cancelled.cancel();
    for task in tasks {
        soon(task).await.unwrap();
    }
    assert!(begun.elapsed() >= 4 * pause, "{:?}", begun.elapsed());
    soon(tracker.join()).await;
}

#[tokio::test]
async fn a_task_is_cancelled_in_the_pause_before_its_next_try() {
    let tracker = permits(1);
    let backoff = backoff::Config { base: Duration::from_secs(3600), cap: Duration::MAX, attempts: 9 };
    let (tried, mut tries) = mpsc::unbounded_channel();
    let task = tracker.spawn_retrying(Retry { backoff, slot: Slot::GivenBack }, move |_| {
        tried.send(()).unwrap();
        async { Err::<(), _>(TaskStop::again("not yet")) }
    });
    soon(tries.recv()).await.unwrap();
    soon(tracker.spawn(async { Ok::<_, TaskStop>(()) })).await.expect("the slot is free in the pause");
    task.cancel();
    assert!(soon(task).await.unwrap_err().is_cancellation());
    soon(tracker.join()).await;
}

#[tokio::test]
async fn a_trigger_ends_something_else_after_so_many_failures() {
    let outside = CancellationToken::new();
    let tracker = TaskTracker::new(UnlimitedScheduler, trigger_cancellation_token(outside.clone(), 2));
    assert!(soon(tracker.spawn(fail())).await.is_err());
    assert!(!outside.is_cancelled());
    assert!(soon(tracker.spawn(fail())).await.is_err());
    assert!(outside.is_cancelled() && tracker.is_closed());
}

#[tokio::test]
async fn a_policy_of_the_users_own_decides() {
    #[derive(Clone)]
    struct SecondTry(bool);
    impl ringplane_core::task::policy::OnErrorPolicy for SecondTry {
        fn create_child(&self) -> Box<dyn ringplane_core::task::policy::OnErrorPolicy> {
            Box::new(self.clone())
        }
        fn on_error(&mut self, failure: &ringplane_core::task::policy::Failure<'_>) -> Verdict {
            assert_eq!(failure.text.to_string(), "not yet");
            if failure.attempt >= 2 { Verdict::Shutdown } else { Verdict::GoOn }
        }
        fn allow_continuation(&self, _: &ringplane_core::task::policy::Failure<'_>) -> bool {
            self.0
        }
    }
    for (allows, left) in [(false, false), (true, true)] {
        let tracker = TaskTracker::new(UnlimitedScheduler, SecondTry(allows));
        let task = tracker.spawn_retrying(tries(2, Slot::Kept), |_| async { Err::<(), _>(TaskStop::again("not yet")) });
        assert!(soon(task).await.is_err());
        assert_eq!(tracker.is_closed(), left);
    }
}

#[tokio::test]
async fn a_critical_task_that_fails_or_panics_ends_its_token_once_and_keeps_the_reason() {
    for panics in [false, true] {
        let process = CancellationToken::new();
        let tracker = TaskTracker::builder().cancellation_token(process.clone()).build();
        let beside = tracker.spawn(forever());
        let quiet = tracker.spawn_critical("watch", |token| async move {
            token.cancelled().await;
            Err(TaskStop::Cancelled)
        });
        let critical = tracker.spawn_critical("lease", move |_| async move {
            assert!(!panics, "no lease");
            Err::<(), _>(TaskError::Failed("gone".into()))
        });
        soon(process.cancelled()).await;
        assert!(critical.reason().is_some(), "the reason is there before the token ends");
        let reason = soon(critical.join()).await.unwrap_err();
        let why = if panics { "no lease" } else { "the task failed: gone" };
        assert_eq!((reason.name.as_str(), reason.why.as_str(), reason.panicked), ("lease", why, panics));
        assert_eq!(soon(quiet.join()).await, Ok(()), "to stop when told is no failure");
        assert!(soon(beside).await.unwrap_err().is_cancellation());
        soon(tracker.join()).await;
        let stats = tracker.stats();
        assert_eq!((stats.failed, stats.panicked, stats.cancelled), (!panics as u64, panics as u64, 2));
    }
}

#[tokio::test]
async fn a_critical_task_that_is_cancelled_or_dropped_unseen_ends_nothing() {
    let tracker = unlimited();
    let critical = tracker.spawn_critical("lease", |token| async move {
        token.cancelled().await;
        Ok::<_, TaskStop>(())
    });
    critical.cancel();
    assert_eq!(soon(critical.join()).await, Ok(()));
    let (finish, finished) = oneshot::channel::<()>();
    tracker.spawn_critical("detached", |_| async { finished.await.map_err(TaskStop::failed) }).detach();
    assert!(!tracker.is_closed());
    drop(finish);
    soon(tracker.cancellation_token().cancelled()).await;
}

/// A source with `items` in it, closed.
fn source(items: u64) -> mpsc::Receiver<u64> {
    let (send, source) = mpsc::channel(64);
    (0..items).for_each(|item| send.try_send(item).unwrap());
    source
}

#[tokio::test]
async fn a_publisher_tries_again_and_ends_when_its_source_does() {
    let mut published = Vec::new();
    let mut tries = 0;
    let publishing = publish(
        Config::KV_EVENTS,
        source(20),
        |Due { item, dropped }| {
            tries += 1;
            let fails = tries % 5 == 1;
            if !fails {
                published.push((item, dropped));
            }
            async move { if fails { Err("not connected") } else { Ok(()) } }
        },
        CancellationToken::new(),
    );
    let (end, stats) = soon(publishing).await;
    assert_eq!((end, stats.published, stats.errors, stats.dropped), (End::Drained, 20, 5, 0));
    assert!(published.into_iter().eq((0..20).map(|item| (item, 0))));
}

#[tokio::test]
async fn a_publisher_that_waits_hears_at_once_that_it_is_cancelled() {
    let pauses = ringplane_core::task::pauses::Pauses { first: Duration::from_secs(3600), ..Default::default() };
    let pauses = ringplane_core::task::pauses::Pauses { cap: Duration::MAX, ..pauses };
    for hangs in [false, true] {
        let token = CancellationToken::new();
        let (tried, mut tries) = mpsc::unbounded_channel();
        let publishing = tokio::spawn(publish(
            Config { pauses, ..Config::default() },
            source(3),
            move |_| {
                tried.send(()).unwrap();
                async move { if hangs { std::future::pending().await } else { Err::<(), _>("not connected") } }
            },
            token.clone(),
        ));
        soon(tries.recv()).await.unwrap();
        token.cancel();
        let (end, stats) = soon(publishing).await.unwrap();
        assert_eq!((end, stats.received, stats.abandoned), (End::Cancelled, 3, 3));
    }
}

#[tokio::test]
async fn a_publisher_that_cannot_publish_keeps_receiving_within_its_bound_and_tells_what_it_drops() {
    let (send, source) = mpsc::channel(1);
    let (go, gone) = oneshot::channel::<()>();
    let (publisheds, mut published) = mpsc::unbounded_channel();
    let (token, mut gone) = (CancellationToken::new(), Some(gone));
    let publishing = tokio::spawn(publish(
        Config { max_queued: 2, ..Config::default() },
        source,
        move |due: Due<u64>| {
            let (gone, publisheds) = (gone.take(), publisheds.clone());
            async move {
                if let Some(gone) = gone {
                    gone.await.map_err(|_| "nobody says go")?;
                }
                publisheds.send(due).map_err(|_| "nobody listens")
            }
        },
        token,
    ));
    for item in 0..10 {
        soon(send.send(item)).await.expect("the sender is not held up");
    }
    until(|| send.capacity() == 1).await;
    drop(send);
    go.send(()).unwrap();
    let (end, stats) = soon(publishing).await.unwrap();
    assert_eq!((end, stats.received, stats.published), (End::Drained, 10, 3));
    assert_eq!(stats.dropped, 7);
    let mut seen = Vec::new();
    while let Ok(Due { item, dropped }) = published.try_recv() {
        seen.push((item, dropped));
    }
    assert_eq!(seen, [(0, 0), (8, 7), (9, 0)]);
}

#[tokio::test]
async fn a_publisher_ends_at_the_last_error_it_bears() {
    let config = Config { max_errors: 3, ..Config::default() };
    let publishing = publish(config, source(5), |_| async { Err::<(), _>("not connected") }, CancellationToken::new());
    let (end, stats) = soon(publishing).await;
    assert_eq!((end, stats.errors, stats.abandoned), (End::Errors(3), 3, 5));
}
