//! When a task may run: a trait, a scheduler per file, and the gate where tasks wait for it.
//!
//! | scheduler | lets in |
//! |---|---|
//! | [`UnlimitedScheduler`] | every task at once |
//! | [`SemaphoreScheduler`] | so many at a time |
//! | [`RateScheduler`] | so many in a time |

mod gate;
mod rate;
mod scheduler;
mod semaphore;
mod unlimited;

pub use gate::{Asked, Gate, MAX_WAITING, Polled, Ticket};
pub use rate::RateScheduler;
pub use scheduler::{Room, TaskScheduler};
pub use semaphore::SemaphoreScheduler;
pub use unlimited::UnlimitedScheduler;
