//! Calls that ended, over the time of a load, in so many steps at the most.

use std::time::Duration;

/// The first width of a step.
const WIDTH: Duration = Duration::from_millis(100);
/// The most steps: of more, each two become one that is twice as wide.
const MOST: usize = 240;

/// Calls that ended within one step.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Step {
    pub(super) done: u64,
    pub(super) failed: u64,
}

/// The steps from the beginning of a load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Timeline {
    width: Duration,
    steps: Vec<Step>,
}

impl Timeline {
    pub(super) const fn new() -> Self {
        Self { width: WIDTH, steps: Vec::new() }
    }

    /// A call ended so long after the beginning.
    pub(super) fn add(&mut self, at: Duration, ended_well: bool) {
        while self.place(at) >= MOST {
            self.steps = self.steps.chunks(2).map(join).collect();
            self.width *= 2;
        }
        let place = self.place(at);
        if self.steps.len() <= place {
            self.steps.resize(place + 1, Step::default());
        }
        let step = &mut self.steps[place];
        *if ended_well { &mut step.done } else { &mut step.failed } += 1;
    }

    /// How many ended a second, by the number `of` a step: the middle of each step and its rate. The last step ends with the load.
    pub(super) fn rates(&self, elapsed: Duration, of: impl Fn(&Step) -> u64) -> Vec<(f64, f64)> {
        let width = self.width.as_secs_f64();
        let rate = |(number, step): (usize, &Step)| {
            let begin = number as f64 * width;
            let end = (begin + width).min(elapsed.as_secs_f64());
            // What is left of the last one may be too little to say anything.
            (end - begin >= width / 4.0).then(|| (f64::midpoint(begin, end), of(step) as f64 / (end - begin)))
        };
        self.steps.iter().enumerate().filter_map(rate).collect()
    }

    fn place(&self, at: Duration) -> usize {
        usize::try_from(at.as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX)
    }
}

fn join(steps: &[Step]) -> Step {
    let sum = |of: fn(&Step) -> u64| steps.iter().map(of).sum();
    Step { done: sum(|step| step.done), failed: sum(|step| step.failed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_load_has_wider_steps_and_no_call_is_lost() {
        let mut timeline = Timeline::new();
        for second in 0..100 {
            timeline.add(Duration::from_secs(second), second % 4 > 0);
        }
        assert!(timeline.steps.len() <= MOST && timeline.width == Duration::from_millis(800), "{timeline:?}");
        timeline.add(Duration::from_secs(86_400), true);
        assert!(timeline.steps.len() <= MOST, "{}", timeline.steps.len());
        assert_eq!(join(&timeline.steps), Step { done: 76, failed: 25 });
    }

    #[test]
    fn rates_are_of_whole_steps_and_of_a_last_one_that_is_long_enough() {
        let mut timeline = Timeline::new();
        for millis in [0, 10, 110, 205] {
            timeline.add(Duration::from_millis(millis), true);
        }
        let rates = |millis| timeline.rates(Duration::from_millis(millis), |step| step.done);
        let close = |(a, b): &(f64, f64), (c, d): (f64, f64)| (a - c).abs() < 1e-9 && (b - d).abs() < 1e-6;
        let [one, two] = &rates(210)[..] else { panic!("{:?}", rates(210)) };
        assert!(close(one, (0.05, 20.0)) && close(two, (0.15, 10.0)), "{one:?} {two:?}");
        assert!(rates(250).last().is_some_and(|last| close(last, (0.225, 20.0))), "{:?}", rates(250));
    }
}
