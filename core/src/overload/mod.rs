//! What to do when there is more work than room: who waits, whose turn is next, who is turned away and for how long.
//!
//! | file | holds |
//! |---|---|
//! | `gradient` | how many may run, found by what running more of them costs |
//! | `queue` | those that wait, in order: priority, tenants in turn, the earliest deadline, age |
//! | `standing` | whether the oldest have waited too long, so that the newest are served first |
//! | `throttle` | whether a call is worth making, by what became of those before it |
//! | `rate` | how fast places become free, and so when to come back |

pub mod gradient;
pub mod queue;
pub mod rate;
mod standing;
pub mod throttle;

pub use gradient::Gradient;
pub use queue::{Queue, Ticket, Wait};
pub use rate::Rate;
pub use throttle::Throttle;
