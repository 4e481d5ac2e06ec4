//! Why discovery failed.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ringplane_core::discovery::error;
#[cfg(feature = "etcd")]
use ringplane_core::discovery::trouble::Cause;

/// Why discovery failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A URL of a kind nobody knows.
    UnknownScheme(String),
    /// A URL of a kind this build does without.
    NotInThisBuild {
        /// The kind.
        scheme: &'static str,
    },
    /// `file:` without a directory.
    NoDirectory,
    /// No `HOST:PORT`.
    HostPort(String),
    /// A record of a kind that is not kept where workers are asked.
    NotKept {
        /// Where such records are elsewhere.
        kind: &'static str,
    },
    /// There is no thread to be had.
    Thread(io::Error),
    /// Touching less than twice per time to live: an instance would be dropped for one late touch.
    Timing {
        /// Time between touches.
        touch: Duration,
        /// Time to live.
        ttl: Duration,
    },
    /// A record that cannot be written down.
    Record(error::Error),
    /// Another live record has this key.
    Exists {
        /// The key.
        key: String,
    },
    /// A model that cannot be beside another one.
    Unfit {
        /// Its key.
        key: String,
        /// The other's.
        other: String,
    },
    /// Others changed the record whenever we were about to.
    Contended {
        /// Its key.
        key: String,
    },
    /// The names of a record do not fit into a file name.
    NameTooLong {
        /// Bytes of the file name they would need; 255 are possible.
        bytes: usize,
    },
    /// Somebody else holds the lock of the directory for longer than a second.
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system failed.
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A registry on the network failed or did not answer.
    Registry {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        what: String,
    },
    /// A registry on the network does not let us: there is no login, a wrong one, or one without the rights. Trying again
    /// does not help.
    Refused {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        what: String,
    },
    /// The backend's thread has ended.
    Stopped,
}

#[cfg(feature = "etcd")]
impl Error {
    /// A call to a registry failed.
    pub(crate) fn failed(doing: &'static str, cause: &Cause) -> Self {
        let what = cause.to_string();
        if cause.is_refusal() { Self::Refused { doing, what } } else { Self::Registry { doing, what } }
    }

    /// A registry was asked again and again for as long as that may last: why it did not do it the last time.
    pub(crate) fn late(doing: &'static str, cause: Option<&Cause>) -> Self {
        let what = cause.map_or_else(|| "no answer in time".to_owned(), |cause| format!("out of time: {cause}"));
        Self::Registry { doing, what }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownScheme(url) => {
                write!(
                    f,
                    "unknown discovery `{url}`; known are mem, mem:NAME, file:DIR, etcd:URL, static:HOST:PORT and dns:NAME:PORT"
                )
            }
            Self::NotInThisBuild { scheme } => {
                write!(f, "discovery through {scheme} is not in this build; build it with `--features {scheme}`")
            }
            Self::NoDirectory => f.write_str("file discovery needs a directory: file:DIR"),
            Self::HostPort(text) => {
                write!(f, "`{text}` is no HOST:PORT, such as 10.0.0.1:7000, worker.example:7000 or [::1]:7000")
            }
            Self::NotKept { kind } => {
                write!(f, "records in {kind} are not kept here: workers at known addresses are asked what they serve")
            }
            Self::Thread(_) => f.write_str("there is no thread to be had"),
            Self::Timing { touch, ttl } => {
                write!(
                    f,
                    "instances that live for {ttl:?} must be touched at least twice in that time, not each {touch:?}"
                )
            }
            Self::Record(_) => f.write_str("the record cannot be written down"),
            Self::Exists { key } => write!(f, "`{key}` is registered already"),
            Self::Unfit { key, other } => {
                write!(f, "the model `{key}` does not go with `{other}`: another model, or names that clash")
            }
            Self::Contended { key } => write!(f, "others changed `{key}` each time it was about to be changed"),
            Self::NameTooLong { bytes } => {
                write!(f, "the record's names need a file name of {bytes} bytes; 255 are possible")
            }
            Self::Locked { path } => write!(f, "`{}` has been locked for more than a second", path.display()),
            Self::Io { doing, path, .. } => write!(f, "cannot {doing} `{}`", path.display()),
            Self::Registry { doing, what } => write!(f, "cannot {doing} the registry: {what}"),
            Self::Refused { doing, what } => write!(f, "the registry refuses; cannot {doing} it: {what}"),
            Self::Stopped => f.write_str("the discovery thread has ended"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Record(error) => Some(error),
            Self::Io { source, .. } | Self::Thread(source) => Some(source),
            _ => None,
        }
    }
}
