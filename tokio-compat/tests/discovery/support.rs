//! An executor that is no runtime, and what every test needs.

use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

#[cfg(feature = "etcd")]
use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::set::Change;
use ringplane_core::id::{EndpointId, InstanceId};
#[cfg(feature = "etcd")]
use ringplane_tokio::discovery::Etcd;
use ringplane_tokio::discovery::{Backend, File, Timing, Watch};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls on this thread. Backends must not need more.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let mut future = pin!(future);
    let begun = Instant::now();
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park_timeout(PATIENCE);
        assert!(begun.elapsed() < PATIENCE, "nothing happened");
    }
}

/// A handle of this directory.
pub(crate) fn directory(root: impl AsRef<Path>, timing: Timing) -> Arc<dyn Backend> {
    Arc::new(File::with_timing(root, timing).unwrap())
}

/// A handle of the etcd at this address.
#[cfg(feature = "etcd")]
pub(crate) fn registry(endpoints: &str, config: Config) -> Arc<dyn Backend> {
    Arc::new(Etcd::open(endpoints, config).unwrap())
}

pub(crate) fn next<R: Kind>(watch: &mut Watch<R>) -> Change<R> {
    block_on(watch.next()).expect("the backend lives")
}

pub(crate) fn instance(endpoint: &str, id: u64) -> Instance {
    let endpoint = EndpointId::parse(endpoint).unwrap();
    Instance { mux: Some(1), ..Instance::new(InstanceId(id), endpoint, ([127, 0, 0, 1], 4000).into()) }
}

/// Looks again and again until `done`.
pub(crate) fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "nothing happened");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// What all tests of this process have logged, from INFO on.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// Begins to keep what is logged.
pub(crate) fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::INFO);
        subscriber.with_writer(move || writer.clone()).init();
        log
    })
}

impl Log {
    /// The warnings with all of these in them: tests tell theirs by names of their own.
    pub(crate) fn warnings(&self, parts: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains(" WARN ") && parts.iter().all(|part| line.contains(part)));
        lines.map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
