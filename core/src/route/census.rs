//! What the health of instances comes to: counts of what happened, and how many are in which state.

use crate::route::health::State;
use crate::stats::counters;

counters! {
    /// What happened to the health of instances; merged by addition.
    pub struct Stats {
        /// Instances marked down because they were lost.
        pub suspected,
        /// Instances ejected because they were silent several times in a row.
        pub ejected_silent,
        /// Instances ejected because they lost far more calls than the others did.
        pub ejected_failing,
        /// Instances not ejected because the others would have been too few.
        pub spared,
        /// Times that ejections were taken back because too few instances were left.
        pub panics,
        /// Calls sent to see what an instance in doubt is worth.
        pub probes,
        /// Instances that answered again.
        pub readmitted,
        /// Times that others were preferred to an instance because it had no room.
        pub leases,
        /// Instances that said that they take no new calls.
        pub leaving,
    }
}

counters! {
    /// Instances by what holds of them at this moment, each counted once.
    pub struct Sizes {
        /// Nothing is held against them.
        pub routable,
        /// They were lost.
        pub suspect,
        /// They are ejected.
        pub ejected,
        /// They said that they take no new calls.
        pub leaving,
        /// Their mark has ended and no call has gone there since.
        pub half_open,
        /// A call is there to see whether they answer.
        pub probed,
        /// They had no room.
        pub overloaded,
        /// They answer again and get a growing part of the calls.
        pub warming,
    }
}

impl Stats {
    /// Nothing.
    pub(super) const NONE: Self = Self {
        suspected: 0,
        ejected_silent: 0,
        ejected_failing: 0,
        spared: 0,
        panics: 0,
        probes: 0,
        readmitted: 0,
        leases: 0,
        leaving: 0,
    };
}

impl Sizes {
    pub(super) const fn count(&mut self, state: State) {
        match state {
            State::Routable => self.routable += 1,
            State::Suspect => self.suspect += 1,
            State::Silent | State::Failing => self.ejected += 1,
            State::Leaving => self.leaving += 1,
            State::HalfOpen => self.half_open += 1,
            State::Probed => self.probed += 1,
            State::Overloaded => self.overloaded += 1,
            State::Warming => self.warming += 1,
        }
    }
}
