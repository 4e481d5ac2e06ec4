//! The places of calls that run and wait, and the share of them that one connection may hold.

use alloc::collections::VecDeque;

use crate::worker::config::Config;
use crate::worker::job::JobId;

/// The places of one worker. Where a call came from on a connection, the places of that connection are counted as well.
#[derive(Debug)]
pub(super) struct Admission {
    running: Limit,
    queued: Limit,
    /// Calls that run.
    runs: usize,
    /// Calls that wait for one of those to finish.
    queue: VecDeque<JobId>,
}

/// How many there may be, of all connections and of one.
#[derive(Copy, Clone, Debug)]
struct Limit {
    all: usize,
    share: usize,
}

/// The places that calls from one connection hold.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Places {
    running: u32,
    queued: u32,
}

/// What becomes of a call that comes now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// There is a place for it.
    Fits,
    /// All places are taken.
    Full,
    /// Others have room; its connection holds its share.
    ShareHeld,
}

impl Admission {
    pub(super) fn new(config: &Config) -> Self {
        let limit = |all| Limit { all, share: config.share_of(all) };
        Self { running: limit(config.max_running), queued: limit(config.max_queued), runs: 0, queue: VecDeque::new() }
    }

    /// Calls running and waiting.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.runs, self.queue.len())
    }

    /// Whether there is a place for a further call from a connection that holds these; one that came on no connection of ours
    /// has none.
    pub(super) fn weigh(&self, places: Option<Places>) -> Verdict {
        if self.runs >= self.running.all && self.queue.len() >= self.queued.all {
            return Verdict::Full;
        }
        let held = if self.runs_at_once() {
            self.runs_its_share(places)
        } else {
            places.is_some_and(|places| places.queued as usize >= self.queued.share)
        };
        if held { Verdict::ShareHeld } else { Verdict::Fits }
    }

    /// Whether a call that comes now runs at once.
    pub(super) fn runs_at_once(&self) -> bool {
        self.runs < self.running.all && self.queue.is_empty()
    }

    /// Whether a connection has its share of the calls that run.
    pub(super) fn runs_its_share(&self, places: Option<Places>) -> bool {
        places.is_some_and(|places| places.running as usize >= self.running.share)
    }

    /// A call runs.
    pub(super) const fn run(&mut self, places: Option<&mut Places>) {
        self.runs += 1;
        if let Some(places) = places {
            places.running += 1;
        }
    }

    /// A call waits; how many wait ahead of it.
    pub(super) fn wait(&mut self, job: JobId, places: Option<&mut Places>) -> u32 {
        let ahead = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        self.queue.push_back(job);
        if let Some(places) = places {
            places.queued += 1;
        }
        ahead
    }

    /// The call whose turn it is, if there is a place to run it. Its connection's places are given back apart.
    pub(super) fn next(&mut self) -> Option<JobId> {
        if self.runs < self.running.all { self.queue.pop_front() } else { None }
    }

    /// The call that has waited longest, whether it could run or not: a worker that leaves empties its queue.
    pub(super) fn pop(&mut self) -> Option<JobId> {
        self.queue.pop_front()
    }

    /// A call waits no more.
    pub(super) fn withdraw(&mut self, job: JobId) {
        self.queue.retain(|queued| *queued != job);
    }

    /// A call gives its place back: one that ran, or one that waited and is in the queue no more.
    pub(super) fn give_back(&mut self, ran: bool, places: Option<&mut Places>) {
        self.runs -= usize::from(ran);
        if let Some(places) = places {
            places.running -= u32::from(ran);
            places.queued -= u32::from(!ran);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::slab::Key;

    fn job(index: u32) -> JobId {
        JobId(Key { index, generation: 0 })
    }

    fn admission(max_running: usize, max_queued: usize, share: u8) -> Admission {
        Admission::new(&Config { max_running, max_queued, share, ..Config::default() })
    }

    #[test]
    fn a_call_runs_waits_or_is_refused_and_the_one_that_waited_longest_is_next() {
        let mut admission = admission(1, 2, 100);
        assert!(admission.runs_at_once() && admission.weigh(None) == Verdict::Fits);
        admission.run(None);
        assert_eq!((admission.wait(job(1), None), admission.wait(job(2), None)), (0, 1));
        assert_eq!((admission.weigh(None), admission.load(), admission.next()), (Verdict::Full, (1, 2), None));
        admission.give_back(true, None);
        assert!(!admission.runs_at_once(), "others have waited for longer");
        assert_eq!(admission.next(), Some(job(1)));
        admission.withdraw(job(2));
        assert_eq!((admission.load(), admission.next()), ((0, 0), None));
    }

    #[test]
    fn a_connection_that_holds_its_share_is_refused_while_others_get_in() {
        let (mut admission, mut greedy) = (admission(1024, 1024, 25), Places::default());
        for _ in 0..256 {
            assert_eq!(admission.weigh(Some(greedy)), Verdict::Fits);
            admission.run(Some(&mut greedy));
        }
        assert_eq!(admission.weigh(Some(greedy)), Verdict::ShareHeld);
        assert_eq!((admission.weigh(Some(Places::default())), admission.weigh(None)), (Verdict::Fits, Verdict::Fits));
        admission.give_back(true, Some(&mut greedy));
        assert_eq!(admission.weigh(Some(greedy)), Verdict::Fits);
    }

    #[test]
    fn what_waits_counts_against_the_share_of_the_queue() {
        let (mut admission, mut greedy) = (admission(1, 1024, 25), Places::default());
        admission.run(Some(&mut greedy));
        for index in 0..256 {
            assert_eq!(admission.weigh(Some(greedy)), Verdict::Fits);
            admission.wait(job(index), Some(&mut greedy));
        }
        assert_eq!((admission.weigh(Some(greedy)), admission.weigh(None)), (Verdict::ShareHeld, Verdict::Fits));
        admission.withdraw(job(0));
        admission.give_back(false, Some(&mut greedy));
        assert_eq!(admission.weigh(Some(greedy)), Verdict::Fits);
    }
}
