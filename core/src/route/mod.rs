//! Which instance gets the next call: the instances of an endpoint, the marks on those that failed, and the policies that
//! pick one.
//!
//! ```text
//!   discovery snapshot ─▶ Instances::update ─▶ [Candidate] sorted by id ─▶ Pick::pick ─▶ index
//!                              ▲                                                          │
//!        began / ended / succeeded / struck  ◀──────────── outcome of the call ◀──────────┘
//! ```
//! Suspicion ([`down`]) is local and ends by itself; it reorders candidates and never removes one.

pub mod down;
pub mod eligible;
#[cfg(test)]
mod eligible_tests;
#[cfg(feature = "alloc")]
pub mod instances;
#[cfg(feature = "alloc")]
pub mod labels;
#[cfg(feature = "alloc")]
pub mod load;
pub mod policy;

pub use down::DownMark;
pub use eligible::{Ask, Candidate, Eligible, Slate};
#[cfg(feature = "alloc")]
pub use instances::{Instances, Member, Wish};
#[cfg(feature = "alloc")]
pub use labels::Labels;
#[cfg(feature = "alloc")]
pub use load::{Gauge, Load};
pub use policy::{AnyPolicy, NoPick, Pick};
