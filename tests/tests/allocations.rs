//! Counts heap allocations, and bytes that live: a steady stream on io_uring needs none per item, a call from another thread four
//! at the most, names that nobody uses any more cost nothing, and a tracked task needs none beyond tokio's.

#![expect(unsafe_code, reason = "a global allocator can only be written with unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringplane::task::{LogOnlyPolicy, SemaphoreScheduler, TaskStop, TaskTracker};
use ringplane::{CallError, CallRequest, Client, Config, DriverChoice, Error, Failure, Request, Responder, Worker};
use ringplane_core::id::InstanceId;
use ringplane_core::rng::Rng;
use ringplane_core::route::eligible::{Ask, Candidate, Slate};
use ringplane_core::route::policy::any::{ALL, AnyPolicy};
use ringplane_core::route::policy::filters::{Busy, Near, Subset};
use ringplane_core::route::policy::pick::Pick;
use ringplane_core::route::policy::scored::{Choice, Scored};
use ringplane_core::route::policy::scorers::{FewCalls, Figure, Quick};

const STEADY: &str = "test.allocations.steady";
const COUNT: &str = "test.allocations.count";
const ECHO: &str = "test.allocations.echo";
const WARM_UP: u64 = 20_000;
const ITEMS: u64 = 100_000;
static ITEM: &[u8] = &[7; 128];

const CALLS: u64 = 10_000;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Bytes that have been allocated and not been freed.
static LIVE: AtomicI64 = AtomicI64::new(0);
/// What one test counts is not the other's.
static ALONE: Mutex<()> = Mutex::new(());
/// Whether to print where allocations come from (`RINGPLANE_TRACE_ALLOCATIONS`).
static TRACE: AtomicBool = AtomicBool::new(false);

struct Counting;

/// Counts a block of this size, allocated or freed.
fn live(size: usize, sign: i64) {
    LIVE.fetch_add(sign * i64::try_from(size).unwrap_or(i64::MAX), Ordering::Relaxed);
}

thread_local! {
    /// Whether what this thread allocates belongs to the worker, and so does not count for its callers.
    static SERVES: Cell<bool> = const { Cell::new(false) };
    /// Allocations of this thread.
    static OWN: Cell<u64> = const { Cell::new(0) };
}

/// Counts one allocation; prints every thousandth's backtrace if asked to.
fn count() {
    thread_local! {
        static INSIDE: Cell<bool> = const { Cell::new(false) };
    }
    if SERVES.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    let _ = OWN.try_with(|own| own.set(own.get() + 1));
    let number = ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    if TRACE.load(Ordering::Relaxed) && number.is_multiple_of(1000) && !INSIDE.replace(true) {
        eprintln!("{}", std::backtrace::Backtrace::force_capture());
        INSIDE.set(false);
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        live(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        live(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        live(layout.size(), -1);
        live(size, 1);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        live(layout.size(), -1);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Answers with the request, on a thread whose allocations do not count.
async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    SERVES.set(true);
    Ok(out.send(request.body().await?).await?)
}

/// Sends the one static item until nobody reads it.
async fn steady(_: Request, out: Responder) -> Result<(), Failure> {
    let item = Bytes::from_static(ITEM);
    loop {
        out.send(item.clone()).await?;
    }
}

/// Allocations so far; from here on they are traced if that is wished.
fn mark() -> u64 {
    TRACE.store(std::env::var_os("RINGPLANE_TRACE_ALLOCATIONS").is_some(), Ordering::Relaxed);
    ALLOCATIONS.load(Ordering::Relaxed)
}

fn judge(what: &str, allocations: u64) {
    TRACE.store(false, Ordering::Relaxed);
    let per_item = allocations as f64 / ITEMS as f64;
    println!("measured: {what}: {allocations} allocations for {ITEMS} items, {per_item:.5} per item");
    assert!(per_item < 0.01, "{what}: {per_item} allocations per item");
}

async fn from_another_thread(client: &Client) {
    let mut call = client.call(CallRequest::new(STEADY, "")).unwrap();
    let mut begun = 0;
    for number in 0..WARM_UP + ITEMS {
        if number == WARM_UP {
            begun = mark();
        }
        assert_eq!(call.next().await.unwrap().unwrap(), ITEM);
    }
    judge("a reader on another thread", ALLOCATIONS.load(Ordering::Relaxed) - begun);
}

/// Calls that each read one item: what they take is what their caller's side takes.
async fn calls_from_another_thread(client: &Client) {
    let endpoint = client.endpoint(ECHO).unwrap();
    let mut begun = 0;
    for number in 0..2 * CALLS {
        if number == CALLS {
            begun = mark();
        }
        let mut call = endpoint.call(CallRequest::item(Bytes::from_static(ITEM))).unwrap();
        assert_eq!(call.next().await.unwrap().unwrap(), ITEM);
        assert!(call.next().await.is_none());
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - begun;
    TRACE.store(false, Ordering::Relaxed);
    let per_call = allocations as f64 / CALLS as f64;
    println!(
        "measured: calls from another thread: {allocations} allocations for {CALLS} calls, {per_call:.3} per call"
    );
    // The id, what both sides share, what the machine keeps, the item that comes back.
    assert!(per_call < 4.01, "{per_call} allocations per call");
}

/// Reads the steady stream on the core that serves it; answers with the number of allocations.
async fn from_the_same_core(client: Option<Client>, out: Responder) -> Result<(), Failure> {
    let local = client.as_ref().and_then(Client::local).ok_or_else(|| Failure::internal("not this core's client"))?;
    let mut call = local.call(CallRequest::new(STEADY, "")).map_err(Failure::internal)?;
    let mut begun = 0;
    for number in 0..WARM_UP + ITEMS {
        if number == WARM_UP {
            begun = mark();
        }
        let item = call.next().await.ok_or_else(|| Failure::internal("the stream ended"))?;
        if item.map_err(Failure::internal)? != ITEM {
            return Err(Failure::internal("not what was sent"));
        }
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - begun;
    Ok(out.send(allocations.to_be_bytes().to_vec()).await?)
}

#[test]
fn a_steady_stream_on_io_uring_allocates_nothing_per_item_and_a_call_four_times_at_most() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let config = Config { driver: DriverChoice::IoUring, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let own: Arc<Mutex<Option<Client>>> = Arc::default();
    runtime.block_on(async {
        let count = {
            let own = own.clone();
            move |_: Request, out: Responder| from_the_same_core(own.lock().unwrap().clone(), out)
        };
        let builder = Worker::builder().endpoint(STEADY, steady).endpoint(COUNT, count).endpoint(ECHO, echo);
        let builder = builder.discovery("mem:allocations").config(config.clone());
        let worker = match builder.serve().await {
            Ok(worker) => worker,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "cannot be skipped in CI: {error}");
                println!("skipped: io-uring does not run here: {error}");
                return;
            }
        };
        *own.lock().unwrap() = Some(worker.client().unwrap());
        let client = Client::builder().discovery("mem:allocations").config(config).connect().unwrap();
        from_another_thread(&client).await;
        let counted = client.call(CallRequest::new(COUNT, "")).unwrap().collect().await.unwrap();
        judge("a reader on the same core", u64::from_be_bytes(counted[0][..].try_into().unwrap()));
        // The last: from here on nothing of the worker's counts.
        calls_from_another_thread(&client).await;
        own.lock().unwrap().take();
        assert_eq!(client.shutdown().await, ringplane::Leftovers::default());
        assert_eq!(worker.shutdown().await, ringplane::Leftovers::default());
    });
}

/// Asks for as many new endpoints as may be kept, which is only possible once all earlier ones have been let go.
async fn ask_for_new_ones(client: &Client, round: usize, most: usize) {
    let begun = Instant::now();
    for number in 0..most {
        let name = format!("test.allocations.r{round}n{number}");
        while let Err(error) = client.endpoint(&name) {
            assert!(matches!(error, Error::Call(CallError::Overloaded)), "{error:?}");
            assert!(begun.elapsed() < Duration::from_secs(60), "endpoints are not let go");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[test]
fn a_caller_of_ever_new_names_holds_no_more_than_it_may_keep() {
    const MOST: usize = 500;
    /// A small part of what all the names together would take, and more than the memory that tables and allocators keep.
    const ROOM: i64 = 1 << 20;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config {
            driver: DriverChoice::Tokio,
            endpoint_idle: Duration::from_millis(10),
            max_endpoints: MOST,
            ..Config::default()
        };
        let client = Client::builder().discovery("mem:names").config(config).connect().unwrap();
        ask_for_new_ones(&client, 0, MOST).await;
        let before = LIVE.load(Ordering::Relaxed);
        for round in 1..10 {
            ask_for_new_ones(&client, round, MOST).await;
        }
        let begun = Instant::now();
        loop {
            let more = LIVE.load(Ordering::Relaxed) - before;
            if more < ROOM {
                println!("measured: {more} bytes more after {} names", 10 * MOST);
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{more} bytes more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.shutdown().await;
    });
}

/// Allocations while `tasks` tasks are spawned and end, with at most 64 of them alive.
async fn of_tasks(tasks: u64, mut spawn: impl FnMut() -> Spawned) -> u64 {
    let begun = ALLOCATIONS.load(Ordering::Relaxed);
    let mut alive = std::collections::VecDeque::with_capacity(64);
    for _ in 0..tasks {
        if alive.len() == 64
            && let Some(oldest) = alive.pop_front()
        {
            ended(oldest).await;
        }
        alive.push_back(spawn());
    }
    for task in alive {
        ended(task).await;
    }
    ALLOCATIONS.load(Ordering::Relaxed) - begun
}

enum Spawned {
    Plain(tokio::task::JoinHandle<()>),
    Tracked(ringplane::task::TaskHandle<()>),
}

async fn ended(task: Spawned) {
    match task {
        Spawned::Plain(task) => task.await.unwrap(),
        Spawned::Tracked(task) => task.await.unwrap(),
    }
}

#[test]
fn a_tracked_task_allocates_nothing_beyond_tokios_own() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        const TASKS: u64 = 20_000;
        let plain = || Spawned::Plain(tokio::spawn(tokio::task::yield_now()));
        let above = TaskTracker::new(SemaphoreScheduler::new(8), LogOnlyPolicy);
        let tracker = above.child_tracker();
        let tracked = || {
            Spawned::Tracked(tracker.spawn(async {
                tokio::task::yield_now().await;
                Ok::<_, TaskStop>(())
            }))
        };
        // Queues grow to their size.
        of_tasks(1000, plain).await;
        of_tasks(1000, tracked).await;
        let (tokios, ours) = (of_tasks(TASKS, plain).await, of_tasks(TASKS, tracked).await);
        println!("measured: {TASKS} tasks: {tokios} allocations by tokio, {ours} with a tracker");
        assert!(ours >= TASKS && ours <= tokios + TASKS / 100, "{ours} allocations, tokio's own are {tokios}");
    });
}

/// A policy of parts, of all that there are.
fn parts(choice: Choice) -> Scored {
    let busy = Busy { prefill_tokens: Some(100), ..Busy::default() };
    let blocks = Figure { name: "blocks".into(), most: 100 };
    let filters = Scored::new().filter(busy).filter(Subset::new(7, 900)).filter(Near::new("zone", "a", 4));
    filters.score(3, FewCalls).score(2, Quick { half: 1_000 }).score(1, blocks).choice(choice)
}

#[test]
fn a_decision_among_a_thousand_instances_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let now = ringplane_core::time::Instant::from_nanos(1);
    let mut candidates: Vec<Candidate> = (0..1_000).map(|id| Candidate::new(InstanceId(id))).collect();
    for (candidate, number) in candidates.iter_mut().zip(0..) {
        candidate.set_fact("blocks", number % 100, Duration::from_secs(1), now);
        candidate.answered(Duration::from_micros(500), now);
    }
    let named = ALL.iter().filter(|row| row.argument.is_none());
    let named = named.map(|row| (row.name, AnyPolicy::from_name(row.name).unwrap()));
    let choices = [Choice::Best, Choice::BetterOfTwo, Choice::Share];
    let own = choices
        .map(|choice| ("parts", AnyPolicy::from(ringplane_core::route::policy::Custom::new(move || parts(choice)))));
    for (name, mut policy) in named.chain(own) {
        let mut rng = Rng::new(1);
        let mut decide = |affinity| {
            let ask = Ask { affinity: Some(affinity), ..Ask::default() };
            policy.pick(&Slate { ask, candidates: &candidates, allow: &[], avoid: &[], now }, &mut rng).unwrap()
        };
        // Scratch memory grows to its size, and keys find their homes.
        (0..10).for_each(|key| _ = decide(key));
        let before = OWN.get();
        (0..100).for_each(|n| _ = decide(n % 10));
        assert_eq!(OWN.get() - before, 0, "{name}");
    }
}
