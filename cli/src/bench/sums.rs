//! What became of the calls, in numbers of bounded size.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::bench::timeline::Timeline;
use crate::exit::{Exit, Failed};

/// The shortest and the longest time that is told apart, in nanoseconds; what is longer counts as an hour.
const TIMES: (u64, u64) = (1_000, 3_600_000_000_000);

/// The calls that have ended.
pub(super) struct Sums {
    pub(super) done: u64,
    pub(super) items: u64,
    pub(super) bytes: u64,
    /// To the first item of calls that ended well, in nanoseconds.
    pub(super) first: Histogram<u64>,
    /// Whole calls that ended well, in nanoseconds.
    pub(super) whole: Histogram<u64>,
    /// How many failed, by exit code, and what the first of each said.
    pub(super) errors: BTreeMap<u8, (u64, Failed)>,
    /// When calls ended.
    pub(super) timeline: Timeline,
}

/// One call that ended well.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) first: Option<Duration>,
    pub(super) whole: Duration,
}

impl Sums {
    pub(super) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(TIMES.0, TIMES.1, 3).expect("the bounds are in order");
        let (first, whole) = (histogram(), histogram());
        Self { done: 0, items: 0, bytes: 0, first, whole, errors: BTreeMap::new(), timeline: Timeline::new() }
    }

    /// A call ended so long after the load began.
    pub(super) fn add(&mut self, ended: Result<Answer, Failed>, at: Duration) {
        self.timeline.add(at, ended.is_ok());
        match ended {
            Ok(answer) => {
                self.done += 1;
                self.items += answer.items;
                self.bytes += answer.bytes;
                if let Some(first) = answer.first {
                    self.first.saturating_record(nanos(first));
                }
                self.whole.saturating_record(nanos(answer.whole));
            }
            Err(failed) => self.errors.entry(failed.exit.code()).or_insert((0, failed)).0 += 1,
        }
    }

    pub(super) fn failed(&self) -> u64 {
        self.errors.values().map(|(times, _)| times).sum()
    }

    /// The bad end of a load of which every call failed: that of most of them.
    pub(super) fn end(&self) -> Result<(), Failed> {
        let most = self.errors.values().max_by_key(|(times, _)| *times).filter(|_| self.done == 0);
        most.map_or(Ok(()), |(_, failed)| {
            Err(Failed::new(failed.exit, format_args!("every call failed: {}", failed.message)))
        })
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The class of errors with this exit code, in a word.
pub(super) fn class(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "none",
        Exit::Local => "local",
        Exit::Usage => "usage",
        Exit::NoInstances => "no_instance",
        Exit::Unavailable => "unavailable",
        Exit::Refused => "no_room",
        Exit::TimedOut => "timed_out",
        Exit::Cancelled => "cancelled",
        Exit::Handler => "handler",
        Exit::Disconnected => "lost",
        Exit::TooLarge => "too_large",
        Exit::Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_ends_badly_if_every_call_did_and_then_as_most_of_them() {
        let mut sums = Sums::new();
        assert_eq!(sums.end(), Ok(()));
        for exit in [Exit::TimedOut, Exit::Refused, Exit::Refused] {
            sums.add(Err(Failed::new(exit, "why")), Duration::ZERO);
        }
        assert_eq!(sums.end(), Err(Failed::new(Exit::Refused, "every call failed: why")));
        let answer = Answer { items: 2, bytes: 5, first: None, whole: Duration::from_secs(7200) };
        sums.add(Ok(answer), Duration::from_secs(7200));
        assert_eq!((sums.end(), sums.failed(), sums.done, sums.items), (Ok(()), 3, 1, 2));
        assert!(sums.first.is_empty() && sums.whole.max() >= TIMES.1, "{}", sums.whole.max());
    }
}
