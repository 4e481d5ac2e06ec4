//! How other threads reach a driver: a bounded queue of jobs, with a bell.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use concurrent_queue::{ConcurrentQueue, PushError};
use ringplane_core::local::env::{Env, Host};

use crate::bell::{Bell, Wake};
use crate::error::SubmitError;
use crate::stats::{Published, Stats};

/// Jobs run in one turn.
const JOBS: usize = 1024;

/// A closure for the driver's thread.
pub(crate) type Job<H> = Box<dyn FnOnce(&Rc<H>, &Env) + Send>;

/// What both sides see. Closed means that the driver has stopped or is about to.
pub(crate) struct Shared<H> {
    queue: ConcurrentQueue<Job<H>>,
    bell: Arc<dyn Wake>,
    published: Published,
}

impl<H> Shared<H> {
    /// # Errors
    /// [`SubmitError`]; the job has been dropped without having run.
    pub(crate) fn submit(&self, job: Job<H>) -> Result<(), SubmitError> {
        self.queue.push(job).map_err(|error| match error {
            PushError::Full(_) => SubmitError::Full,
            PushError::Closed(_) => SubmitError::Stopped,
        })?;
        self.bell.wake();
        Ok(())
    }

    /// No job is taken any more; the driver ends with its turn.
    pub(crate) fn close(&self) {
        self.queue.close();
        self.bell.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.published.load()
    }
}

/// The driver's end of its mailbox. When it is dropped, jobs that have not run are too.
pub struct Inbox<H, W> {
    shared: Arc<Shared<H>>,
    bell: Arc<Bell<W>>,
}

/// What came of reading a mailbox.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Ran {
    /// Jobs that ran.
    pub jobs: u64,
    /// Those of them that panicked. Each is logged.
    pub panics: u64,
}

impl<H, W> fmt::Debug for Inbox<H, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("bell", &self.bell).finish_non_exhaustive()
    }
}

impl<H, W: Wake> Inbox<H, W> {
    /// A mailbox for `size` jobs, at least one, of a driver that `wake` ends the wait of.
    pub(crate) fn new(size: usize, wake: W) -> Self {
        let bell = Arc::new(Bell::new(wake));
        let queue = ConcurrentQueue::bounded(size.max(1));
        Self { shared: Arc::new(Shared { queue, bell: bell.clone(), published: Published::default() }), bell }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared<H>> {
        &self.shared
    }

    /// The driver's bell.
    pub const fn bell(&self) -> &Arc<Bell<W>> {
        &self.bell
    }

    /// Whether the driver is to end.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// The driver ends: nobody may submit any more.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Shows the driver's numbers to other threads.
    pub fn publish(&self, stats: &Stats) {
        self.shared.published.store(stats);
    }
}

impl<H: Host, W: Wake> Inbox<H, W> {
    /// Runs jobs, up to the bound of a turn. If some are left, the bell says so.
    pub fn run(&self, host: &Rc<H>, env: &Env) -> Ran {
        let mut ran = Ran::default();
        for _ in 0..JOBS {
            let Ok(job) = self.shared.queue.pop() else { return ran };
            ran.run(job, host, env);
        }
        self.bell.ring();
        ran
    }

    /// Takes no more and runs every job that was taken: a job whose submitter heard that it was taken runs, even if a stop
    /// follows.
    pub fn finish(&self, host: &Rc<H>, env: &Env) -> Ran {
        self.close();
        let mut ran = Ran::default();
        while let Ok(job) = self.shared.queue.pop() {
            ran.run(job, host, env);
        }
        ran
    }
}

impl Ran {
    fn run<H>(&mut self, job: Job<H>, host: &Rc<H>, env: &Env) {
        self.jobs += 1;
        if catch_unwind(AssertUnwindSafe(|| job(host, env))).is_err() {
            self.panics += 1;
            tracing::error!("a job panicked; the driver goes on");
        }
    }
}

impl<H, W> Drop for Inbox<H, W> {
    fn drop(&mut self) {
        self.shared.queue.close();
        while let Ok(job) = self.shared.queue.pop() {
            drop(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    fn inbox(size: usize) -> Inbox<(), Nobody> {
        Inbox::new(size, Nobody)
    }

    #[test]
    fn a_full_mailbox_says_so_and_a_closed_one_too() {
        let inbox = inbox(2);
        let submit = || inbox.shared.submit(Box::new(|_, _| {}));
        assert_eq!([(); 3].map(|()| submit()), [Ok(()), Ok(()), Err(SubmitError::Full)]);
        assert!(inbox.bell.is_signalled() && !inbox.is_closed());
        inbox.close();
        assert_eq!((submit(), inbox.is_closed()), (Err(SubmitError::Stopped), true));
    }

    #[test]
    fn jobs_that_have_not_run_are_dropped_with_the_drivers_end() {
        let inbox = inbox(4);
        let shared = inbox.shared.clone();
        let (sender, dropped) = channel::<()>();
        shared.submit(Box::new(move |_, _| drop(sender))).unwrap();
        drop(inbox);
        assert!(dropped.recv().is_err(), "the job is gone, though a way in is left");
        assert_eq!(shared.submit(Box::new(|_, _| {})), Err(SubmitError::Stopped));
    }
}
