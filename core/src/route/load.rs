//! What a worker says of its load, for policies that look at it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::time::Instant;

/// How many gauges of the application's own a report carries; further ones are left out.
pub const MAX_GAUGES: usize = 8;

/// The longest name of such a gauge, in bytes; a gauge with a longer one is left out.
pub const MAX_GAUGE_NAME: usize = 64;

/// The last report of an instance: what one core of its worker had when it was written.
///
/// It is older than it looks by the way it took, and says nothing of the calls that others have sent meanwhile. Policies add what
/// they have sent themselves since (`Candidate::in_flight`), and trust it the less the older it is ([`Load::at`]).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Load {
    /// Calls that run.
    pub running: u32,
    /// Calls that wait for one of those to finish.
    pub queued: u32,
    /// How many may run; 0: unknown.
    pub capacity: u32,
    /// The application's own gauges, in order of names, each name once.
    pub gauges: Vec<Gauge>,
    /// When it came, on this side's clock.
    pub at: Instant,
}

/// One of the application's own figures: blocks of a cache that are free, tokens that wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gauge {
    /// Its name, in the application's words.
    pub name: Box<str>,
    /// Its value, in the application's unit.
    pub value: u64,
}

impl Load {
    /// The value of one of the application's own gauges.
    pub fn gauge(&self, name: &str) -> Option<u64> {
        self.gauges.iter().find(|gauge| *gauge.name == *name).map(|gauge| gauge.value)
    }

    /// Calls that run or wait, in thousandths of what may run: 1,000 is full, more is a queue. `None` if the capacity is unknown.
    pub fn used(&self) -> Option<u32> {
        let calls = u64::from(self.running) + u64::from(self.queued);
        let used = (calls * 1000).checked_div(self.capacity.into())?;
        Some(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Sets a gauge, and says whether it was kept: there is room for [`MAX_GAUGES`], with names of at most [`MAX_GAUGE_NAME`] bytes.
    pub fn set_gauge(&mut self, name: &str, value: u64) -> bool {
        match self.gauges.binary_search_by(|gauge| (*gauge.name).cmp(name)) {
            Ok(index) => {
                if let Some(gauge) = self.gauges.get_mut(index) {
                    gauge.value = value;
                }
                true
            }
            Err(index) => {
                let fits = self.gauges.len() < MAX_GAUGES && name.len() <= MAX_GAUGE_NAME;
                if fits {
                    self.gauges.insert(index, Gauge { name: name.into(), value });
                }
                fits
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_kept_by_name_and_no_more_than_a_report_carries() {
        let mut load = Load::default();
        assert!(load.set_gauge("kv", 1) && load.set_gauge("a", 2) && load.set_gauge("kv", 3));
        assert_eq!((load.gauge("kv"), load.gauge("a"), load.gauge("b")), (Some(3), Some(2), None));
        assert!(load.gauges.is_sorted_by(|a, b| a.name < b.name));
        let kept = (0..20).filter(|n| load.set_gauge(&alloc::format!("gauge {n}"), 0)).count();
        assert_eq!((kept, load.gauges.len()), (MAX_GAUGES - 2, MAX_GAUGES));
        assert!(!Load::default().set_gauge(&"x".repeat(MAX_GAUGE_NAME + 1), 0));
    }

    #[test]
    fn use_counts_what_waits_and_is_unknown_without_a_capacity() {
        let load = Load { running: 30, queued: 15, capacity: 30, ..Load::default() };
        assert_eq!((load.used(), Load { capacity: 0, ..load }.used()), (Some(1500), None));
        assert_eq!(Load { running: u32::MAX, queued: u32::MAX, capacity: 1, ..Load::default() }.used(), Some(u32::MAX));
    }
}
