//! A driver as other threads see it: started, handed jobs, asked for numbers, stopped.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};

use ringplane_core::local::env::{Env, Host};

use crate::bell::Wake;
use crate::error::SubmitError;
use crate::mailbox::{Inbox, Job, Parcel, Shared};
use crate::stats::Stats;

/// Why a driver did not start.
#[derive(Debug)]
pub enum LaunchError<E> {
    /// There is no thread to be had.
    Thread(io::Error),
    /// The thread says why.
    Refused(E),
    /// The thread panicked before it was ready: the closure that makes the host did.
    Panicked,
}

/// How a thread tells its starter that it drives, or why it does not.
#[derive(Debug)]
pub struct Ready<E>(SyncSender<Result<(), E>>);

impl<E> Clone for Ready<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> Ready<E> {
    /// Tells. The starter waits for the first word; it cannot be gone by then.
    pub fn tell(&self, outcome: Result<(), E>) {
        let _ = self.0.try_send(outcome);
    }
}

/// Starts a thread called `name` that runs `body`, with a mailbox for `size` jobs, and waits until the thread says that it is
/// ready or why it is not. `wake` ends the waits of the driver.
///
/// # Errors
/// [`LaunchError`]. Nothing keeps running then.
pub fn launch<H: Host, W: Wake, E: Send + 'static>(
    name: &str,
    size: usize,
    wake: W,
    body: impl FnOnce(Inbox<H, W>, &Ready<E>) -> Report + Send + 'static,
) -> Result<Driver<H>, LaunchError<E>> {
    let inbox = Inbox::new(size, wake);
    let handle = Handle { shared: inbox.shared().clone() };
    let (sender, started) = sync_channel(1);
    let ready = Ready(sender);
    let thread =
        thread::Builder::new().name(name.to_owned()).spawn(move || body(inbox, &ready)).map_err(LaunchError::Thread)?;
    let error = match started.recv() {
        Ok(Ok(())) => return Ok(Driver { course: Some(Course::Thread(thread)), handle }),
        Ok(Err(error)) => LaunchError::Refused(error),
        Err(_) => LaunchError::Panicked,
    };
    let _ = thread.join();
    Err(error)
}

/// How a driver that is a task of the calling thread says at its end what it leaves behind.
#[derive(Debug)]
pub struct Farewell(SyncSender<Report>);

impl Farewell {
    /// Says it. Only the first word counts.
    pub fn tell(&self, report: Report) {
        let _ = self.0.try_send(report);
    }
}

/// A driver that is to run on the calling thread, as a task, with a mailbox for `size` jobs: the way in, and what the task needs.
/// `wake` wakes the task. It is to drop neither of the two before it ends.
pub fn attach<H: Host, W: Wake>(size: usize, wake: W) -> (Driver<H>, Inbox<H, W>, Farewell) {
    let inbox = Inbox::new(size, wake);
    let handle = Handle { shared: inbox.shared().clone() };
    let (tell, told) = sync_channel(1);
    let course = Course::Task { home: thread::current().id(), told: Mutex::new(told) };
    (Driver { course: Some(course), handle }, inbox, Farewell(tell))
}

/// A running driver. Dropping it stops it: one with a thread of its own like [`Driver::stop`], one that is a task like
/// [`Driver::halt`].
pub struct Driver<H: Host> {
    course: Option<Course>,
    handle: Handle<H>,
}

/// Where a driver runs.
enum Course {
    /// On a thread of its own.
    Thread(JoinHandle<Report>),
    /// On the thread `home`, beside other tasks.
    Task { home: ThreadId, told: Mutex<Receiver<Report>> },
}

impl<H: Host> fmt::Debug for Driver<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl<H: Host> Driver<H> {
    /// A way in for any thread.
    pub fn handle(&self) -> Handle<H> {
        self.handle.clone()
    }

    /// Has the driver end after its turn, without waiting for it.
    pub fn halt(&self) {
        self.handle.shared.close();
    }

    /// Ends the driver and waits for it: jobs that were taken are run, the machine hears that its connections are gone, tasks
    /// are dropped, operations cancelled and reaped, descriptors closed, memory freed. A graceful end is the machine's
    /// business: have it drain first. Connections that the machine has closed by then, and accepted ones, linger up to
    /// `linger`: nothing they were given is lost, and a peer that still sends is not reset. On the driver's own thread it does
    /// not wait: the driver ends after its turn, and the report says nothing. Of one that is a task, that is the thread on which
    /// it was made; elsewhere it waits until the task has ended or has been dropped.
    pub fn stop(mut self) -> Report {
        self.join()
    }

    fn join(&mut self) -> Report {
        self.halt();
        let failed = Report { failed: true, ..Report::default() };
        match self.course.take() {
            None => Report::default(),
            // Dropped by one of its own jobs or tasks: the thread ends by itself after this turn.
            Some(Course::Thread(thread)) if thread.thread().id() == thread::current().id() => Report::default(),
            Some(Course::Thread(thread)) => thread.join().unwrap_or(failed),
            // It cannot end while its thread waits for it.
            Some(Course::Task { home, .. }) if home == thread::current().id() => Report::default(),
            Some(Course::Task { told, .. }) => {
                told.into_inner().unwrap_or_else(PoisonError::into_inner).recv().unwrap_or(failed)
            }
        }
    }
}

impl<H: Host> Drop for Driver<H> {
    fn drop(&mut self) {
        match self.course {
            None => {}
            Some(Course::Thread(_)) => _ = self.join(),
            // The thread that drops it may be one that the task's thread waits for.
            Some(Course::Task { .. }) => self.halt(),
        }
    }
}

/// A way into a driver, for any thread.
pub struct Handle<H> {
    shared: Arc<Shared<H>>,
}

impl<H> Clone for Handle<H> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<H> fmt::Debug for Handle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

impl<H> Handle<H> {
    /// Runs `job` on the driver's thread, soon; the machine is drained afterwards. Never waits. Jobs of one thread run in
    /// order, and one that was taken runs even if a stop follows. A job that panics is logged and counted.
    ///
    /// # Errors
    /// [`SubmitError`]; the job has been dropped without having run.
    pub fn submit(&self, job: impl FnOnce(&Rc<H>, &Env) + Send + 'static) -> Result<(), SubmitError> {
        self.shared.submit(Job::Once(Box::new(job)))
    }

    /// As [`submit`](Self::submit), for a job that is in memory already and shared: nothing is allocated.
    ///
    /// # Errors
    /// [`SubmitError`]; the parcel is not opened.
    pub fn post(&self, parcel: Arc<impl Parcel<H> + 'static>) -> Result<(), SubmitError> {
        self.shared.submit(Job::Shared(parcel))
    }

    /// Whether the driver takes no job any more: it has ended, or ends with its turn.
    pub fn is_stopped(&self) -> bool {
        self.shared.is_closed()
    }

    /// The driver's numbers as of the end of its last turn; after its stop, as of its end. Costs the driver nothing.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

/// What a stopped driver left behind: after a clean stop, nothing.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Operations the kernel has not given back. Their memory is leaked rather than freed under its hands. Zero where there
    /// is no ring, like the next three.
    pub ops_in_flight: usize,
    /// Descriptors such operations keep open.
    pub descriptors: usize,
    /// Receive buffers that did not come home.
    pub buffers_out: usize,
    /// Connections and dials that still exist.
    pub connections: usize,
    /// Tasks that could not be dropped.
    pub tasks: usize,
    /// References to the host that still exist: somebody has made one and keeps it beyond the thread, or a task could not be
    /// dropped.
    pub hosts: usize,
    /// Whether the loop ended by itself: the machine or the host panicked, or the ring broke. It is logged.
    pub failed: bool,
}

impl Report {
    /// Whether nothing was left behind.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use ringplane_core::local::LocalNode;

    use super::*;

    struct Parked(thread::Thread);

    impl Wake for Parked {
        fn wake(&self) {
            self.0.unpark();
        }
    }

    #[test]
    fn a_thread_that_refuses_or_panics_leaves_no_driver() {
        let start = |body: fn(&Ready<u8>)| {
            let run = move |_: Inbox<LocalNode, Parked>, ready: &Ready<u8>| {
                body(ready);
                Report::default()
            };
            launch("never", 1, Parked(thread::current()), run).map(drop)
        };
        assert!(matches!(start(|ready| ready.tell(Err(7))), Err(LaunchError::Refused(7))));
        assert!(matches!(start(|_| panic!("on purpose")), Err(LaunchError::Panicked)));
    }

    #[test]
    fn a_stop_waits_for_the_thread_and_hands_its_report_over() {
        let (told, woken) = channel();
        let body = move |inbox: Inbox<LocalNode, Parked>, ready: &Ready<()>| {
            ready.tell(Ok(()));
            inbox.bell().fall_asleep();
            // The bell wakes the test's thread, which is as good as any.
            while !inbox.is_closed() {
                thread::yield_now();
            }
            told.send(inbox.bell().is_signalled()).unwrap();
            Report { tasks: 3, ..Report::default() }
        };
        let driver = launch("short", 1, Parked(thread::current()), body).unwrap();
        let handle = driver.handle();
        assert!(!handle.is_stopped());
        assert_eq!(driver.stop(), Report { tasks: 3, ..Report::default() });
        assert!(handle.is_stopped());
        assert_eq!(handle.submit(|_, _| {}), Err(SubmitError::Stopped));
        assert!(woken.recv().is_ok());
    }
}
