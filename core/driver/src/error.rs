//! Why a driver does not take a job.

use std::fmt;

/// Why a job was not taken.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum SubmitError {
    /// The mailbox is full: the driver's thread is behind. Worth a retry, elsewhere or later.
    Full,
    /// The driver has stopped. For good.
    Stopped,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the driver's mailbox is full",
            Self::Stopped => "the driver has stopped",
        })
    }
}

impl std::error::Error for SubmitError {}
