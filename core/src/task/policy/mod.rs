//! What the failures of tasks lead to: a trait, and a policy per file.
//!
//! | policy | cancels the tracker |
//! |---|---|
//! | [`LogOnlyPolicy`] | never |
//! | [`CancelOnError`] | at the first failure, or at the first whose text holds a pattern |
//! | [`ThresholdCancelPolicy`] | at the n-th failure |
//! | [`RateCancelPolicy`] | when too large a part of what ended lately has failed |
//! | [`TriggerPolicy`] | at the n-th failure, and calls a function first |

mod cancel_on_error;
mod log_only;
mod on_error;
mod rate;
mod threshold;
mod trigger;

pub use cancel_on_error::CancelOnError;
pub use log_only::LogOnlyPolicy;
pub use on_error::{Failure, OnErrorPolicy, Verdict};
pub use rate::{Rate, RateCancelPolicy};
pub use threshold::ThresholdCancelPolicy;
pub use trigger::TriggerPolicy;
