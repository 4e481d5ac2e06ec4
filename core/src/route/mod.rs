//! Which instance gets the next call: the instances of an endpoint, their health, and the policies that
//! pick one.
//!
//! ```text
//!   discovery snapshot ─▶ Instances::update ─▶ [Candidate] sorted by id ─▶ Pick::pick ─▶ index
//!                              ▲                                                          │
//!        began / on_outcome / ended  ◀──────────────────── outcome of the call ◀──────────┘
//! ```
//! Health ([`health`]) is local and ends by itself; it puts candidates in groups ([`eligible`]) and never removes one.

#[cfg(feature = "alloc")]
pub mod attributes;
#[cfg(feature = "alloc")]
pub mod census;
pub mod eligible;
#[cfg(test)]
mod eligible_tests;
#[cfg(feature = "alloc")]
pub mod facts;
pub mod health;
#[cfg(test)]
mod health_tests;
#[cfg(feature = "alloc")]
pub mod instances;
#[cfg(all(test, feature = "alloc"))]
mod instances_tests;
#[cfg(feature = "alloc")]
pub mod labels;
pub mod latency;
#[cfg(feature = "alloc")]
pub mod load;
pub mod penalty;
pub mod places;
pub mod policy;
#[cfg(feature = "alloc")]
pub mod routing;
pub mod rules;

#[cfg(feature = "alloc")]
pub use attributes::Attributes;
pub use eligible::{Ask, Candidate, Device, Eligible, Slate};
#[cfg(feature = "alloc")]
pub use facts::Facts;
pub use health::{Health, Outcome, State};
#[cfg(feature = "alloc")]
pub use instances::{Instances, Member, Wish};
#[cfg(feature = "alloc")]
pub use labels::Labels;
pub use latency::Latency;
#[cfg(feature = "alloc")]
pub use load::{Gauge, Load};
pub use penalty::Penalty;
pub use places::Places;
pub use policy::{AnyPolicy, NoPick, Pick};
#[cfg(feature = "alloc")]
pub use routing::Routing;
