//! How often hosts are looked up and workers asked, and how long they may take.

use std::time::Duration;

/// Between an answer of a worker and the next question, and between two attempts to reach one.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at the addresses of a name.
pub(super) const LOOKUP: Duration = Duration::from_secs(5);
/// The longest that a dial may take, and that a first look at what there is waits for workers.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
