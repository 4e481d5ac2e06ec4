//! What the end-to-end tests share: the drivers, places of their own, bounded waits, clean ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ringplane::{Client, Config, DriverChoice, Leftovers, Snapshot, Worker, WorkerBuilder};
use ringplane_core::caller::config::Dialect;
use ringplane_core::mux::config::Config as Mux;

/// The longest a scenario may take on one driver.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest to wait for a condition.
const SOON: Duration = Duration::from_secs(20);

/// Runs a scenario on io_uring, then on tokio. The driver is in the test's output.
pub(crate) fn both(scenario: impl AsyncFn(DriverChoice)) {
    on_each(drivers().filter(|driver| !is_on_a_runtime_of_others(*driver)), scenario);
}

/// Runs a scenario on every driver: for what the drivers on runtimes made by others have to show as well.
pub(crate) fn all(scenario: impl AsyncFn(DriverChoice)) {
    on_each(drivers(), scenario);
}

/// Whether little of the driver's code is shared with io_uring and tokio, so that some scenarios are enough for it.
pub(crate) fn is_on_a_runtime_of_others(driver: DriverChoice) -> bool {
    matches!(driver, DriverChoice::Monoio | DriverChoice::TokioUring)
}

fn on_each(drivers: impl Iterator<Item = DriverChoice>, scenario: impl AsyncFn(DriverChoice)) {
    for driver in drivers {
        println!("driver: {driver:?}");
        let begun = Instant::now();
        let bounded = async { tokio::time::timeout(PATIENCE, scenario(driver)).await };
        assert!(runtime().block_on(bounded).is_ok(), "{driver:?}: not done after {PATIENCE:?}");
        println!("driver: {driver:?} took {:?}", begun.elapsed());
    }
}

/// The drivers that run here.
pub(crate) fn drivers() -> impl Iterator<Item = DriverChoice> {
    [DriverChoice::IoUring, DriverChoice::Tokio, DriverChoice::Monoio, DriverChoice::TokioUring]
        .into_iter()
        .filter(|driver| *driver == DriverChoice::Tokio || has_io_uring())
}

/// A runtime for a test's own side.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Whether io_uring works here. In CI it has to.
fn has_io_uring() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let config = Config { driver: DriverChoice::IoUring, ..Config::default() };
        match Client::builder().discovery("mem:probe").config(config).connect() {
            Ok(_) => true,
            Err(error) => skipped(&format!("io-uring does not run here: {error}")),
        }
    })
}

/// Says why something cannot be tested here; in CI that is a failure.
pub(crate) fn skipped(reason: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "cannot be skipped in CI: {reason}");
    println!("skipped: {reason}");
    false
}

/// The default configuration on `driver`.
pub(crate) fn on(driver: DriverChoice) -> Config {
    Config { driver, ..Config::default() }
}

/// The same with other limits for connections, on both sides.
pub(crate) fn with_mux(driver: DriverChoice, change: impl Fn(&mut Mux)) -> Config {
    let mut config = on(driver);
    change(&mut config.worker.mux);
    change(&mut config.caller.mux);
    config
}

/// Windows small enough that a test can fill them.
pub(crate) fn small_windows(mux: &mut Mux) {
    mux.stream_window = 128 << 10;
    mux.connection_window = 1 << 20;
    mux.max_item = 1 << 20;
    mux.reserve_pool = 2 << 20;
    mux.send_buffer = 64 << 10;
}

/// Discovery nobody else uses.
pub(crate) fn place() -> String {
    static PLACES: AtomicUsize = AtomicUsize::new(0);
    format!("mem:test-{}", PLACES.fetch_add(1, Ordering::Relaxed))
}

/// Serves at a place.
pub(crate) async fn serve(builder: WorkerBuilder, place: &str, config: Config) -> Worker {
    builder.discovery(place).config(config).serve().await.unwrap()
}

/// A client at a place.
pub(crate) fn connect(place: &str, config: Config) -> Client {
    Client::builder().discovery(place).config(config).connect().unwrap()
}

/// A client for each dialect that a worker on `driver` takes.
pub(crate) fn clients(place: &str, driver: DriverChoice) -> Vec<Client> {
    let mut by_dynamo = on(driver);
    by_dynamo.caller.dialect = Dialect::CallHome;
    let mut configs = vec![on(driver), by_dynamo];
    // Calls do not come home to the others, nor from there.
    configs.truncate(if is_on_a_runtime_of_others(driver) { 1 } else { 2 });
    configs.into_iter().map(|config| connect(place, config)).collect()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < SOON, "still not after {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until a worker's numbers satisfy `condition`.
pub(crate) async fn until_worker(what: &str, worker: &Worker, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let begun = Instant::now();
    loop {
        let snapshot = worker.snapshot().await.unwrap();
        if condition(&snapshot) {
            return snapshot;
        }
        assert!(begun.elapsed() < SOON, "still not after {SOON:?}: {what}: {snapshot:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until a client's numbers satisfy `condition`.
pub(crate) async fn until_client(what: &str, client: &Client, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let begun = Instant::now();
    loop {
        let snapshot = client.snapshot().await.unwrap();
        if condition(&snapshot) {
            return snapshot;
        }
        assert!(begun.elapsed() < SOON, "still not after {SOON:?}: {what}: {snapshot:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Ends a client: nothing is held before, nothing is left after.
pub(crate) async fn end_client(client: Client) {
    until_client("the client holds nothing", &client, Snapshot::is_idle).await;
    assert_eq!(client.shutdown().await, Leftovers::default());
}

/// Ends a worker likewise.
pub(crate) async fn end_worker(worker: Worker) {
    until_worker("the worker holds nothing", &worker, Snapshot::is_idle).await;
    assert_eq!(worker.shutdown().await, Leftovers::default());
}

/// Ends both.
pub(crate) async fn end(worker: Worker, client: Client) {
    end_client(client).await;
    end_worker(worker).await;
}

/// What happened to a handler's calls, counted from inside.
#[derive(Clone, Default, Debug)]
pub(crate) struct Seen {
    pub(crate) started: Arc<AtomicUsize>,
    pub(crate) gone: Arc<AtomicUsize>,
    pub(crate) stopped: Arc<AtomicUsize>,
    pub(crate) items: Arc<AtomicUsize>,
}

impl Seen {
    /// Notes that a handler started; notes that it is gone when the answer is dropped.
    pub(crate) fn enter(&self) -> Presence {
        self.started.fetch_add(1, Ordering::SeqCst);
        Presence(self.gone.clone())
    }

    pub(crate) fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    pub(crate) fn gone(&self) -> usize {
        self.gone.load(Ordering::SeqCst)
    }

    pub(crate) fn stopped(&self) -> usize {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn items(&self) -> usize {
        self.items.load(Ordering::SeqCst)
    }
}

/// Lives as long as a handler's future.
pub(crate) struct Presence(Arc<AtomicUsize>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Bytes of memory this process has in use.
pub(crate) fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
}

/// Processor time this process has used, user and system.
pub(crate) fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Bytes that look random, the same for every run.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = ringplane_core::rng::Rng::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
