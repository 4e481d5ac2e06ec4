//! Accelerators first, processors for what they can carry beside them.

use crate::rng::Rng;
use crate::route::eligible::{Ask, Candidate, Device, Eligible};
use crate::route::policy::pick::Pick;
use crate::route::policy::sample::least;

/// Dynamo's `device-aware-weighted`, for pools of instances with an accelerator and of some that compute on processors.
///
/// While both kinds are there, processors get as many calls as accelerators have, less by the ratio, counted per instance:
/// one with a processor is picked while `in flight on processors < accelerators' in flight * processors / (ratio *
/// accelerators)`, rounded down; an accelerator otherwise, so an idle pool begins there. Of one kind the least loaded is picked,
/// as by [`LeastLoaded`](crate::route::policy::least_loaded::LeastLoaded). An instance whose record names no device counts as an
/// accelerator.
///
/// Dynamo looks for hits of its embedding cache before; instances do not report these to us.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct DeviceAware {
    /// Calls that an accelerator carries for each of a processor. Default 8, as Dynamo's
    /// `DYN_ENCODER_CUDA_TO_CPU_RATIO`; 0 counts as 1.
    pub ratio: u32,
}

impl Default for DeviceAware {
    fn default() -> Self {
        Self { ratio: 8 }
    }
}

impl Pick for DeviceAware {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        let now = eligible.now();
        let sums = |wanted: Device| {
            let those = eligible.iter().filter(move |(_, candidate)| candidate.device == wanted);
            those
                .fold((0u64, 0u64), |(count, load), (_, candidate)| (count + 1, load + u64::from(candidate.calls(now))))
        };
        let ((processors, on_processors), (accelerators, on_accelerators)) =
            (sums(Device::Processor), sums(Device::Accelerator));
        let ratio = u64::from(self.ratio.max(1));
        let device = match ratio.saturating_mul(accelerators) {
            0 => Device::Processor,
            _ if processors == 0 => Device::Accelerator,
            shares if on_processors < on_accelerators.saturating_mul(processors) / shares => Device::Processor,
            _ => Device::Accelerator,
        };
        let load = |candidate: &Candidate| (candidate.device == device).then(|| candidate.calls(now));
        least(eligible, load, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::InstanceId;
    use crate::route::eligible::Slate;
    use crate::time::Instant;

    const CPU: Device = Device::Processor;
    const GPU: Device = Device::Accelerator;

    /// The index that is picked of instances with these devices and calls in flight.
    fn picked(ratio: u32, instances: &[(Device, u32)]) -> usize {
        let candidate = |&(device, in_flight): &_| Candidate { device, in_flight, ..Candidate::new(InstanceId(1)) };
        let candidates: std::vec::Vec<_> = instances.iter().map(candidate).collect();
        let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        DeviceAware { ratio }.pick(&slate, &mut Rng::new(1)).unwrap()
    }

    #[test]
    fn processors_get_what_the_ratio_leaves_them() {
        assert_eq!(picked(8, &[(CPU, 0), (GPU, 0)]), 1, "an idle pool begins with an accelerator");
        assert_eq!(picked(8, &[(CPU, 0), (GPU, 7)]), 1);
        assert_eq!(picked(8, &[(CPU, 0), (GPU, 8)]), 0);
        assert_eq!(picked(8, &[(CPU, 1), (GPU, 8)]), 1);
        assert_eq!(picked(8, &[(CPU, 1), (CPU, 0), (GPU, 8), (GPU, 9)]), 1);
        assert_eq!(picked(0, &[(CPU, 0), (GPU, 1)]), 0, "a ratio of 0 is one of 1");
        assert_eq!(picked(u32::MAX, &[(CPU, 0), (GPU, 100)]), 1);
    }

    #[test]
    fn of_one_kind_the_least_loaded_is_picked() {
        assert_eq!(picked(8, &[(CPU, 3), (CPU, 2)]), 1);
        assert_eq!(picked(8, &[(GPU, 3), (GPU, 2)]), 1);
    }
}
