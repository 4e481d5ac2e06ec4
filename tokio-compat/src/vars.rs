//! What is wrong with a variable of the environment, for all services that are configured by some.

use std::fmt;

/// A variable that cannot be followed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// It holds something else than it may.
    Malformed {
        /// Which variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The same of a variable whose value is nobody's business.
    Secret {
        /// Which variable.
        name: &'static str,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// It means nothing without another.
    Lacks {
        /// The variable that is set.
        name: &'static str,
        /// The one that is not.
        lacks: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { name, value, wanted } => write!(f, "{name} is `{value}`, not {wanted}"),
            Self::Secret { name, wrong } => write!(f, "{name} holds {wrong}"),
            Self::Lacks { name, lacks } => write!(f, "{name} is set without {lacks}"),
        }
    }
}

impl std::error::Error for Error {}
