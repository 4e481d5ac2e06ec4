//! Every policy under its configuration name.

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use core::fmt;

use crate::id::InstanceId;
use crate::rng::Rng;
#[cfg(feature = "alloc")]
use crate::route::eligible::Candidate;
use crate::route::eligible::{Ask, Eligible, Slate};
#[cfg(feature = "alloc")]
use crate::route::policy::custom::Custom;
use crate::route::policy::device_aware::DeviceAware;
use crate::route::policy::direct::Direct;
use crate::route::policy::least_loaded::LeastLoaded;
use crate::route::policy::peak_ewma::PeakEwma;
#[cfg(feature = "alloc")]
use crate::route::policy::pick::News;
use crate::route::policy::pick::{NoPick, Pick};
use crate::route::policy::power_of_two::PowerOfTwo;
use crate::route::policy::random::Random;
use crate::route::policy::ring_hash::RingHash;
use crate::route::policy::round_robin::RoundRobin;
#[cfg(feature = "alloc")]
use crate::route::policy::sticky::{self, Sticky};
use crate::route::policy::weighted::Weighted;
#[cfg(feature = "alloc")]
use crate::time::Instant;

/// Any of the policies, chosen at run time.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AnyPolicy {
    /// `round-robin`
    RoundRobin(RoundRobin),
    /// `random`
    Random(Random),
    /// `direct:HEX`
    Direct(Direct),
    /// `power-of-two`
    PowerOfTwo(PowerOfTwo),
    /// `least-loaded`
    LeastLoaded(LeastLoaded),
    /// `peak-ewma`
    PeakEwma(PeakEwma),
    /// `weighted`
    Weighted(Weighted),
    /// `device-aware-weighted`
    DeviceAware(DeviceAware),
    /// `ring-hash`
    RingHash(RingHash),
    /// `sticky`
    #[cfg(feature = "alloc")]
    Sticky(Box<Sticky<PowerOfTwo>>),
    /// The application's own; a configuration cannot name it.
    #[cfg(feature = "alloc")]
    Custom(Custom),
}

/// One row of [`ALL`].
#[derive(Copy, Clone, Debug)]
pub struct Name {
    /// The name in configurations.
    pub name: &'static str,
    /// What follows the name after a colon, if anything must.
    pub argument: Option<&'static str>,
    /// What it does, for help texts.
    pub summary: &'static str,
    make: fn(&str) -> Option<AnyPolicy>,
}

/// Every policy once. Tests, benches and help texts iterate this table.
pub const ALL: [Name; if cfg!(feature = "alloc") { 10 } else { 9 }] = [
    Name {
        name: "round-robin",
        argument: None,
        summary: "everybody in turn, in order of ids",
        make: |_| Some(AnyPolicy::RoundRobin(RoundRobin::new())),
    },
    Name { name: "random", argument: None, summary: "uniformly random", make: |_| Some(AnyPolicy::Random(Random)) },
    Name {
        name: "power-of-two",
        argument: None,
        summary: "two by chance, and of them the one with fewer calls in flight",
        make: |_| Some(AnyPolicy::PowerOfTwo(PowerOfTwo)),
    },
    Name {
        name: "least-loaded",
        argument: None,
        summary: "the fewest calls in flight of all",
        make: |_| Some(AnyPolicy::LeastLoaded(LeastLoaded)),
    },
    Name {
        name: "peak-ewma",
        argument: None,
        summary: "two by chance, and of them the one that would answer sooner",
        make: |_| Some(AnyPolicy::PeakEwma(PeakEwma)),
    },
    Name {
        name: "weighted",
        argument: None,
        summary: "by chance, in shares of weight by calls in flight",
        make: |_| Some(AnyPolicy::Weighted(Weighted)),
    },
    Name {
        name: "device-aware-weighted",
        argument: None,
        summary: "accelerators first, processors for their share of the load",
        make: |_| Some(AnyPolicy::DeviceAware(DeviceAware::default())),
    },
    Name {
        name: "ring-hash",
        argument: None,
        summary: "calls of one affinity at one instance, as long as that is not overloaded",
        make: |_| Some(AnyPolicy::RingHash(RingHash::default())),
    },
    #[cfg(feature = "alloc")]
    Name {
        name: "sticky",
        argument: None,
        summary: "calls of one affinity where the last of them went, others as power-of-two",
        make: |_| Some(AnyPolicy::Sticky(Box::new(Sticky::new(sticky::Config::default(), PowerOfTwo)))),
    },
    Name {
        name: "direct",
        argument: Some("HEX"),
        summary: "the instance with this id or nobody",
        make: |id| InstanceId::from_hex(id).map(|id| AnyPolicy::Direct(Direct(id))),
    },
];

/// A text that names no policy.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NameError {
    /// No policy of this name.
    Unknown,
    /// The policy takes no argument.
    NoArgument {
        /// The policy's name.
        policy: &'static str,
    },
    /// The policy's argument is missing or malformed.
    Argument {
        /// The policy's name.
        policy: &'static str,
        /// What it wants.
        wanted: &'static str,
    },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => {
                f.write_str("no such routing policy; there are")?;
                ALL.iter().try_for_each(|row| write!(f, " {row}"))
            }
            Self::NoArgument { policy } => write!(f, "the routing policy {policy} takes no argument"),
            Self::Argument { policy, wanted } => write!(f, "the routing policy is written {policy}:{wanted}"),
        }
    }
}

impl core::error::Error for NameError {}

impl fmt::Display for Name {
    /// As it is written in a configuration: `name` or `name:ARGUMENT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.argument.map_or(Ok(()), |argument| write!(f, ":{argument}"))
    }
}

impl AnyPolicy {
    /// The policy a configuration names: see [`ALL`].
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with the text.
    pub fn from_name(text: &str) -> Result<Self, NameError> {
        let (name, argument) = text.split_once(':').map_or((text, None), |(name, argument)| (name, Some(argument)));
        let row = ALL.iter().find(|row| row.name == name).ok_or(NameError::Unknown)?;
        if row.argument.is_none() && argument.is_some() {
            return Err(NameError::NoArgument { policy: row.name });
        }
        let wanted = row.argument.unwrap_or_default();
        (row.make)(argument.unwrap_or_default()).ok_or(NameError::Argument { policy: row.name, wanted })
    }

    /// Its name in configurations, without an argument; `custom` for the application's own, which these cannot name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RoundRobin(_) => "round-robin",
            Self::Random(_) => "random",
            Self::Direct(_) => "direct",
            Self::PowerOfTwo(_) => "power-of-two",
            Self::LeastLoaded(_) => "least-loaded",
            Self::PeakEwma(_) => "peak-ewma",
            Self::Weighted(_) => "weighted",
            Self::DeviceAware(_) => "device-aware-weighted",
            Self::RingHash(_) => "ring-hash",
            #[cfg(feature = "alloc")]
            Self::Sticky(_) => "sticky",
            #[cfg(feature = "alloc")]
            Self::Custom(_) => "custom",
        }
    }
}

#[cfg(feature = "alloc")]
impl From<Sticky<PowerOfTwo>> for AnyPolicy {
    fn from(sticky: Sticky<PowerOfTwo>) -> Self {
        Self::Sticky(Box::new(sticky))
    }
}

impl Default for AnyPolicy {
    /// `round-robin`, as in Dynamo.
    fn default() -> Self {
        Self::RoundRobin(RoundRobin::new())
    }
}

#[cfg(feature = "alloc")]
impl From<Custom> for AnyPolicy {
    fn from(custom: Custom) -> Self {
        Self::Custom(custom)
    }
}

impl fmt::Display for AnyPolicy {
    /// The text [`AnyPolicy::from_name`] reads; `custom` for one of the application's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(Direct(id)) => write!(f, "direct:{id}"),
            _ => f.write_str(self.name()),
        }
    }
}

impl Pick for AnyPolicy {
    fn choose(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        match self {
            Self::RoundRobin(policy) => policy.choose(ask, eligible, rng),
            Self::Random(policy) => policy.choose(ask, eligible, rng),
            Self::Direct(policy) => policy.choose(ask, eligible, rng),
            Self::PowerOfTwo(policy) => policy.choose(ask, eligible, rng),
            Self::LeastLoaded(policy) => policy.choose(ask, eligible, rng),
            Self::PeakEwma(policy) => policy.choose(ask, eligible, rng),
            Self::Weighted(policy) => policy.choose(ask, eligible, rng),
            Self::DeviceAware(policy) => policy.choose(ask, eligible, rng),
            Self::RingHash(policy) => policy.choose(ask, eligible, rng),
            #[cfg(feature = "alloc")]
            Self::Sticky(policy) => policy.choose(ask, eligible, rng),
            #[cfg(feature = "alloc")]
            Self::Custom(policy) => policy.choose(ask, eligible, rng),
        }
    }

    fn pick(&mut self, slate: &Slate<'_>, rng: &mut Rng) -> Result<usize, NoPick> {
        match self {
            Self::RoundRobin(policy) => policy.pick(slate, rng),
            Self::Random(policy) => policy.pick(slate, rng),
            Self::Direct(policy) => policy.pick(slate, rng),
            Self::PowerOfTwo(policy) => policy.pick(slate, rng),
            Self::LeastLoaded(policy) => policy.pick(slate, rng),
            Self::PeakEwma(policy) => policy.pick(slate, rng),
            Self::Weighted(policy) => policy.pick(slate, rng),
            Self::DeviceAware(policy) => policy.pick(slate, rng),
            Self::RingHash(policy) => policy.pick(slate, rng),
            #[cfg(feature = "alloc")]
            Self::Sticky(policy) => policy.pick(slate, rng),
            #[cfg(feature = "alloc")]
            Self::Custom(policy) => policy.pick(slate, rng),
        }
    }

    #[cfg(feature = "alloc")]
    fn begin(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>) {
        if let Self::Custom(policy) = self {
            policy.begin(ask, eligible);
        }
    }

    #[cfg(feature = "alloc")]
    fn allows(&self, ask: &Ask<'_>, candidate: &Candidate, now: Instant) -> bool {
        match self {
            Self::Custom(policy) => policy.allows(ask, candidate, now),
            _ => true,
        }
    }

    /// Those of this crate keep no books.
    #[cfg(feature = "alloc")]
    fn handle_news(&mut self, ask: &Ask<'_>, instance: InstanceId, news: News, now: Instant) {
        if let Self::Custom(policy) = self {
            policy.handle_news(ask, instance, news, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_name_in_the_table_makes_a_policy_that_writes_itself_the_same_way() {
        for row in ALL {
            let text = row.to_string().replace("HEX", "c0ffee");
            let policy = AnyPolicy::from_name(&text);
            assert_eq!(policy.as_ref().map(AnyPolicy::name), Ok(row.name));
            assert_eq!(policy.map(|policy| policy.to_string()), Ok(text));
        }
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn texts_that_name_no_policy_say_what_is_wrong() {
        let direct = NameError::Argument { policy: "direct", wanted: "HEX" };
        let unknown = "no such routing policy; there are round-robin random power-of-two least-loaded peak-ewma weighted \
                       device-aware-weighted ring-hash sticky direct:HEX";
        for (text, error, shown) in [
            ("", NameError::Unknown, unknown),
            ("Random", NameError::Unknown, unknown),
            ("random:1", NameError::NoArgument { policy: "random" }, "the routing policy random takes no argument"),
            ("direct", direct, "the routing policy is written direct:HEX"),
            ("direct:", direct, "the routing policy is written direct:HEX"),
            ("direct:xyz", direct, "the routing policy is written direct:HEX"),
        ] {
            assert_eq!(AnyPolicy::from_name(text), Err(error), "{text}");
            assert_eq!(error.to_string(), shown);
        }
    }
}
