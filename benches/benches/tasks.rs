//! 100,000 short tasks with 64 at a time: the task tracker against a `JoinSet` with a semaphore.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringplane_tokio::task::{LogOnlyPolicy, SemaphoreScheduler, TaskStop, TaskTracker};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const TASKS: u64 = 100_000;
const LIMIT: usize = 64;

/// What each task does: it gives way once, so that others queue up behind it.
async fn work(number: u64) -> u64 {
    tokio::task::yield_now().await;
    black_box(number)
}

async fn tracker() {
    let tracker = TaskTracker::new(SemaphoreScheduler::new(LIMIT), LogOnlyPolicy);
    for number in 0..TASKS {
        drop(tracker.spawn(async move {
            work(number).await;
            Ok::<_, TaskStop>(())
        }));
    }
    tracker.join().await;
    assert_eq!(tracker.stats().ok, TASKS);
}

async fn join_set() {
    let (mut tasks, permits) = (JoinSet::new(), Arc::new(Semaphore::new(LIMIT)));
    for number in 0..TASKS {
        let permits = permits.clone();
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await.expect("nobody closes it");
            work(number).await;
        });
    }
    let mut ok = 0;
    while let Some(joined) = tasks.join_next().await {
        joined.expect("no task panics");
        ok += 1;
    }
    assert_eq!(ok, TASKS);
}

fn runtimes() -> [(&'static str, Runtime); 2] {
    let one = Builder::new_current_thread().enable_time().build();
    let two = Builder::new_multi_thread().worker_threads(2).enable_time().build();
    [("one thread", one.expect("a runtime")), ("two threads", two.expect("a runtime"))]
}

fn tasks(criterion: &mut Criterion) {
    for (threads, runtime) in runtimes() {
        let mut group = criterion.benchmark_group(format!("tasks on {threads}"));
        group.throughput(Throughput::Elements(TASKS)).sample_size(10).measurement_time(Duration::from_secs(10));
        group.bench_function("tracker", |bencher| bencher.iter(|| runtime.block_on(tracker())));
        group.bench_function("join_set", |bencher| bencher.iter(|| runtime.block_on(join_set())));
        group.finish();
    }
}

criterion_group!(benches, tasks);
criterion_main!(benches);
