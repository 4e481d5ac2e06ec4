//! Tasks that are kept track of: what their errors lead to, when they may run, whether they are tried again, and the loop of
//! a publisher.
//!
//! Nothing in here runs a task. `ringplane-tokio` does, with these machines over its clock:
//!
//! ```text
//!   spawn ──▶ Gate::ask ──▶ waits ──▶ Gate::poll ──▶ runs ──▶ ok ──────────▶ OnErrorPolicy::on_success (if it watches)
//!                │ full                               ▲  │
//!                ▼                                    │  ├──▶ asks for another try ──▶ Attempts::failed ──▶ Again
//!             rejected                                └──┼──────────────────────────────────────────────────┘
//!                                                        └──▶ failed, panicked ──▶ OnErrorPolicy::on_error ──▶ go on, or
//!                                                                                                             cancel all
//! ```

pub mod pauses;
pub mod policy;
pub mod publisher;
pub mod retry;
pub mod schedule;

pub use policy::{
    CancelOnError, LogOnlyPolicy, OnErrorPolicy, RateCancelPolicy, ThresholdCancelPolicy, TriggerPolicy, Verdict,
};
pub use retry::Retry;
pub use schedule::{RateScheduler, SemaphoreScheduler, TaskScheduler, UnlimitedScheduler};
