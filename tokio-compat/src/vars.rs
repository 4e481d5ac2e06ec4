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

/// Whether it is one of Dynamo's words for yes.
#[cfg(any(feature = "logs", feature = "otel"))]
pub(crate) fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes")
}

/// With its `%XX` resolved; `None` if it is wrongly encoded or no text.
#[cfg(any(feature = "nats", feature = "otel"))]
pub(crate) fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, more @ ..] = rest {
        if *first == b'%' {
            let (digits, more) = more.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = more;
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).ok()
}
