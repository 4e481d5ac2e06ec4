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

/// A job that is shared with whoever hands it in: what is in memory already needs no box to reach the driver's thread.
pub trait Parcel<H>: Send + Sync {
    /// Runs on the driver's thread, once for each time it has been handed in.
    fn open(self: Arc<Self>, host: &Rc<H>, env: &Env);

    /// The driver has ended without opening it.
    fn turn_away(self: Arc<Self>);
}

/// A closure for the driver's thread.
type Once<H> = Box<dyn FnOnce(&Rc<H>, &Env) + Send>;

/// What other threads want of the driver's.
pub(crate) enum Job<H> {
    Once(Once<H>),
    Shared(Arc<dyn Parcel<H>>),
}

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
        let run = || match job {
            Job::Once(job) => job(host, env),
            Job::Shared(parcel) => parcel.open(host, env),
        };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            self.panics += 1;
            tracing::error!("a job panicked; the driver goes on");
        }
    }
}

impl<H, W> Drop for Inbox<H, W> {
    fn drop(&mut self) {
        self.shared.queue.close();
        while let Ok(job) = self.shared.queue.pop() {
            match job {
                Job::Once(job) => drop(job),
                Job::Shared(parcel) => parcel.turn_away(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use ringplane_core::local::LocalNode;
    use ringplane_core::node::Node;
    use ringplane_core::time::Instant;
    use ringplane_core::{caller, worker};

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
        let submit = || inbox.shared.submit(Job::Once(Box::new(|_, _| {})));
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
        shared.submit(Job::Once(Box::new(move |_, _| drop(sender)))).unwrap();
        drop(inbox);
        assert!(dropped.recv().is_err(), "the job is gone, though a way in is left");
        assert_eq!(shared.submit(Job::Once(Box::new(|_, _| {}))), Err(SubmitError::Stopped));
    }
    #[test]
    fn closures_and_parcels_run_in_the_order_they_were_handed_in() {
        struct Say(u8, std::sync::mpsc::Sender<u8>);

        impl Parcel<LocalNode> for Say {
            fn open(self: Arc<Self>, _: &Rc<LocalNode>, _: &Env) {
                self.1.send(self.0).unwrap();
            }

            fn turn_away(self: Arc<Self>) {
                self.1.send(u8::MAX).unwrap();
            }
        }

        let env = Env::new(|| Instant::ZERO, |_| {}, || {});
        let node = Node::new(worker::config::Config::default(), caller::config::Config::default(), 1);
        let node = LocalNode::new(node, &env);
        let inbox = Inbox::<LocalNode, _>::new(4, Nobody);
        let (told, heard) = channel();
        for number in 0..2 {
            let once = told.clone();
            inbox.shared.submit(Job::Shared(Arc::new(Say(2 * number, told.clone())))).unwrap();
            inbox.shared.submit(Job::Once(Box::new(move |_, _| once.send(2 * number + 1).unwrap()))).unwrap();
        }
        assert_eq!(inbox.run(&node, &env), Ran { jobs: 4, panics: 0 });
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
        inbox.shared.submit(Job::Shared(Arc::new(Say(4, told)))).unwrap();
        drop(inbox);
        assert_eq!(heard.iter().collect::<Vec<_>>(), [u8::MAX], "the driver has ended");
    }
}
