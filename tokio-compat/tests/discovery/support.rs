//! An executor that is no runtime, and what every test needs.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::set::Change;
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_tokio::discovery::Watch;

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
