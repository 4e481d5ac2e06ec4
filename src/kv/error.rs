//! Why something is not published.

use std::fmt;

use ringplane_core::event::kv::announcer::Untold;
use ringplane_core::task::publisher::End;

/// Why routers do not hear of something.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// A store that routers could make nothing of. The other events of its batch are published.
    Untold {
        /// Its place in the batch, from 0; of several the first.
        event: usize,
        /// Why.
        why: Untold,
    },
    /// More waits to be published than may.
    Busy,
    /// The publisher has ended, after too many errors in a row.
    Ended(End),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untold { event, .. } => write!(f, "event {event} of the batch is not for routers"),
            Self::Busy => f.write_str("too much waits to be published"),
            Self::Ended(End::Errors(errors)) => write!(f, "the publisher has ended after {errors} errors in a row"),
            Self::Ended(_) => f.write_str("the publisher has ended"),
        }
    }
}

impl std::error::Error for PublishError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Untold { why, .. } = self { Some(why) } else { None }
    }
}
