//! The one of two that would answer sooner.

use crate::rng::Rng;
use crate::route::eligible::{Ask, Candidate, Eligible};
use crate::route::policy::pick::Pick;
use crate::route::policy::sample::two;
use crate::time::Instant;

/// What an instance costs that has calls in flight and has answered none yet.
const UNPROVEN: u64 = 1 << 63;

/// Draws two different instances by chance and picks the one with the lower cost, the first if both cost the same. The cost is the
/// [latency](crate::route::latency) to the first item times one more than the calls in flight. Beside calls that have failed, which
/// count on for the [penalty](crate::route::penalty)'s time, a failure is a sample of that time. An instance that has not
/// answered yet costs nothing without a call in flight, and with one more than any that has: it gets one probe at a time while
/// others are there.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct PeakEwma;

impl Pick for PeakEwma {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        let (first, second) = two(eligible, rng)?;
        let cost = |index| eligible.at(index).map(|candidate| cost(candidate, eligible.now()));
        Some(if cost(first) <= cost(second) { first } else { second })
    }
}

/// Microseconds of latency times calls.
fn cost(candidate: &Candidate, now: Instant) -> u64 {
    let load = u64::from(candidate.calls(now));
    match candidate.latency.micros(now) {
        // Below the cost of the unproven: 2^32 microseconds times 2^31 calls, which no caller has.
        Some(micros) => (u64::from(micros) * (load + 1)).min(UNPROVEN - 1),
        None if load == 0 => 0,
        None => UNPROVEN | load,
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::id::InstanceId;
    use crate::route::eligible::Slate;

    const PENALTY: Duration = Duration::from_secs(1);

    /// How often each is picked in a thousand tries.
    fn picks(candidates: &[Candidate; 2], now: Instant) -> [u32; 2] {
        let slate = Slate { ask: Ask::default(), candidates, allow: &[], avoid: &[], now };
        let (mut picks, mut rng) = ([0; 2], Rng::new(1));
        (0..1000).for_each(|_| picks[PeakEwma.pick(&slate, &mut rng).unwrap()] += 1);
        picks
    }

    #[test]
    fn a_new_instance_gets_one_call_until_it_has_answered() {
        let mut candidates = [1, 2].map(|id| Candidate::new(InstanceId(id)));
        candidates[0].answered(Duration::from_millis(20), Instant::ZERO);
        assert_eq!(picks(&candidates, Instant::ZERO), [0, 1000]);
        candidates[1].in_flight = 1;
        candidates[0].in_flight = 1000;
        assert_eq!(picks(&candidates, Instant::ZERO), [1000, 0], "it is being probed");
        candidates[1].answered(Duration::from_millis(20), Instant::ZERO);
        assert_eq!(picks(&candidates, Instant::ZERO), [0, 1000]);
    }

    #[test]
    fn a_slow_instance_is_left_alone_until_its_estimate_has_faded() {
        let mut candidates = [1, 2].map(|id| Candidate::new(InstanceId(id)));
        candidates[0].answered(Duration::from_millis(10), Instant::ZERO);
        candidates[1].answered(Duration::from_millis(200), Instant::ZERO);
        assert_eq!(picks(&candidates, Instant::ZERO), [1000, 0]);
        let later = Instant::ZERO + Duration::from_secs(35);
        candidates[0].answered(Duration::from_millis(10), later);
        assert_eq!(picks(&candidates, later), [0, 1000]);
    }

    #[test]
    fn an_instance_that_fails_fast_is_not_a_fast_one() {
        let mut candidates = [1, 2].map(|id| Candidate::new(InstanceId(id)));
        candidates[0].answered(Duration::from_millis(100), Instant::ZERO);
        candidates[1].failed(Duration::from_micros(50), PENALTY, Instant::ZERO);
        assert_eq!(picks(&candidates, Instant::ZERO), [1000, 0]);
        assert_eq!(picks(&candidates, Instant::ZERO + PENALTY * 2), [1000, 0], "its estimate outlasts the penalty");
    }
}
