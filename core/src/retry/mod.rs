//! Trying again: how long to wait, and whether the system can afford it.
//!
//! ```text
//!   a try failed, retryable ──▶ Budget::failed ── false ──▶ give up: the whole system is failing, not this call
//!                                    │ true
//!                                    ▼
//!                               Backoff::pause ── None ───▶ give up: this call has had its tries
//!                                    │ Some(pause)
//!                                    ▼
//!                               wait (Reason::Retry), try elsewhere
//! ```
//!
//! A try that is only slow to begin has [a rule of its own](hedge).

pub mod backoff;
pub mod budget;
pub mod hedge;

pub use backoff::Backoff;
pub use budget::Budget;
