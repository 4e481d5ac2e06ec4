//! A driver as other threads see it: started, handed jobs, asked for numbers, stopped.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use ringplane_core::local::{Env, Host};

use crate::driver::config::Config;
use crate::driver::turn::Loop;
use crate::error::{Error, SubmitError};
use crate::mailbox::{Bell, Job, Outbox, mailbox};
use crate::stats::{Published, Stats};

/// Starts a driver: a thread called `name` with a ring of its own. `make` runs on that thread and makes the host; it may
/// already spawn tasks. Returns when the ring has passed its self-test and the host is made.
///
/// # Errors
/// [`Error`]: a knob out of bounds, io_uring refused, a limit in the way. Nothing is left behind then.
pub fn start<H: Host>(
    name: &str,
    config: Config,
    make: impl FnOnce(&Env) -> Rc<H> + Send + 'static,
) -> Result<Driver<H>, Error> {
    config.check()?;
    launch(name, config.mailbox, move |shared, mail, ready| main(config, shared, mail, make, ready))
}

/// Starts a thread called `name` that runs `body`, and waits until it says that it is ready or why it is not.
pub(crate) fn launch<H: Host>(
    name: &str,
    mailbox_size: usize,
    body: impl FnOnce(Arc<Shared>, Receiver<Job<H>>, &SyncSender<Result<(), Error>>) -> Report + Send + 'static,
) -> Result<Driver<H>, Error> {
    let bell = Arc::new(Bell::new().map_err(|error| Error::os("making the doorbell", &error))?);
    let shared =
        Arc::new(Shared { bell: bell.clone(), stopping: AtomicBool::new(false), published: Published::default() });
    let (outbox, mail) = mailbox(mailbox_size, bell);
    let (ready, started) = sync_channel(1);
    let inside = shared.clone();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || body(inside, mail, &ready))
        .map_err(|error| Error::os("starting the driver's thread", &error))?;
    match started.recv() {
        Ok(Ok(())) => Ok(Driver { thread: Some(thread), handle: Handle { outbox, shared } }),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(_) => {
            let _ = thread.join();
            Err(Error::Make)
        }
    }
}

/// A running driver. Dropping it stops it like [`Driver::stop`].
pub struct Driver<H: Host> {
    thread: Option<JoinHandle<Report>>,
    handle: Handle<H>,
}

impl<H: Host> fmt::Debug for Driver<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl<H: Host> Driver<H> {
    /// A way in for any thread.
    pub fn handle(&self) -> Handle<H> {
        self.handle.clone()
    }

    /// Has the driver end after its turn, without waiting for it.
    pub fn halt(&self) {
        self.handle.shared.stop();
    }

    /// Ends the driver and waits for it: the machine hears that its connections are gone, tasks are dropped, operations
    /// cancelled and reaped, descriptors closed, memory freed. Connections that the machine has closed by then, and accepted
    /// ones, linger up to `linger`: nothing they were given is lost, and a peer that still sends is not reset. On the driver's own thread it does not wait: the driver
    /// ends after its turn, and the report says nothing.
    pub fn stop(mut self) -> Report {
        self.join()
    }

    fn join(&mut self) -> Report {
        self.halt();
        let Some(thread) = self.thread.take() else { return Report::default() };
        if thread.thread().id() == std::thread::current().id() {
            // Dropped by one of its own jobs or tasks: the thread ends by itself after this turn.
            return Report::default();
        }
        thread.join().unwrap_or(Report { failed: true, ..Report::default() })
    }
}

impl<H: Host> Drop for Driver<H> {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.join();
        }
    }
}

/// A way into a driver, for any thread.
pub struct Handle<H> {
    outbox: Outbox<H>,
    shared: Arc<Shared>,
}

impl<H> Clone for Handle<H> {
    fn clone(&self) -> Self {
        Self { outbox: self.outbox.clone(), shared: self.shared.clone() }
    }
}

impl<H> fmt::Debug for Handle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<H> Handle<H> {
    /// Runs `job` on the driver's thread, soon; the machine is drained afterwards. Never waits. A job that panics is
    /// logged and counted.
    ///
    /// # Errors
    /// [`SubmitError`]; the job has been dropped without having run.
    pub fn submit(&self, job: impl FnOnce(&Rc<H>, &Env) + Send + 'static) -> Result<(), SubmitError> {
        if self.shared.is_stopping() {
            return Err(SubmitError::Stopped);
        }
        self.outbox.submit(Box::new(job))
    }

    /// The driver's numbers as of the end of its last turn. Costs the driver nothing. All zero after its stop.
    pub fn stats(&self) -> Stats {
        self.shared.published.load()
    }
}

/// What a stopped driver left behind: after a clean stop, nothing.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Operations the kernel has not given back. Their memory is leaked rather than freed under its hands.
    pub ops_in_flight: usize,
    /// Connections such operations hold.
    pub connections: usize,
    /// Descriptors such operations keep open.
    pub descriptors: usize,
    /// Receive buffers that did not come home.
    pub buffers_out: usize,
    /// Tasks that could not be dropped.
    pub tasks: usize,
    /// Whether the loop ended by itself: the machine or the host panicked, or the ring broke. It is logged.
    pub failed: bool,
}

impl Report {
    /// Whether nothing was left behind.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// What both sides see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) bell: Arc<Bell>,
    stopping: AtomicBool,
    pub(crate) published: Published,
}

impl Shared {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Nobody may submit any more; the driver ends with its turn.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.bell.ring();
    }
}

fn main<H: Host>(
    config: Config,
    shared: Arc<Shared>,
    mail: Receiver<Job<H>>,
    make: impl FnOnce(&Env) -> Rc<H>,
    ready: &SyncSender<Result<(), Error>>,
) -> Report {
    let stop = shared.clone();
    let mut driver = match Loop::open(config, shared, mail, make) {
        Ok(driver) => driver,
        Err(error) => {
            let _ = ready.send(Err(error));
            return Report::default();
        }
    };
    // The starter waits for this; it cannot be gone.
    let _ = ready.send(Ok(()));
    let outcome = catch_unwind(AssertUnwindSafe(|| driver.run()));
    // Whoever submits from now on shall know.
    stop.stop();
    match &outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the ring cannot be entered; the driver ends"),
        Err(_) => tracing::error!("the machine or its host panicked; the driver ends"),
    }
    driver.finish(!matches!(outcome, Ok(Ok(()))))
}
