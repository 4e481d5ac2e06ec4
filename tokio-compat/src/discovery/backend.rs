//! What a place for discovery can do, what can go wrong there, and the guard of a registration.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::record;
use ringplane_core::id::InstanceId;

use crate::discovery::hub::Watch;

/// A future of a backend.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A place where instances are written to and read from.
pub trait Backend: Send + Sync + fmt::Debug {
    /// The id that instances registered through this handle should carry. One is enough for all endpoints of a process;
    /// several instances of one endpoint need [`random_instance_id`] each.
    fn instance_id(&self) -> InstanceId;

    /// Lets `instance` be found for as long as the registration lives. Once this is done, everybody can see it.
    ///
    /// # Errors
    /// [`Error::Exists`] if a live instance has the same key; others as the backend finds.
    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, Error>>;

    /// The live instances asked for, in the order of their keys.
    ///
    /// # Errors
    /// As the backend finds. Records that cannot be used are left out, and logged once.
    fn list(&self, query: Query) -> BoxFuture<'_, Result<Vec<Instance>, Error>>;

    /// The instances asked for, and whatever changes about them from now on.
    ///
    /// # Errors
    /// As the backend finds.
    fn watch(&self, query: Query) -> BoxFuture<'_, Result<Watch, Error>>;
}

/// An instance that can be found. Dropping it takes it back.
pub struct Registration {
    instance: Instance,
    claim: Box<dyn Claim>,
}

/// The backend's half of a registration. Its drop takes the instance back.
pub(crate) trait Claim: Send + Sync {
    /// Takes the instance back and waits until this process sees that it is gone.
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>>;
}

impl Registration {
    pub(crate) fn new(instance: Instance, claim: impl Claim + 'static) -> Self {
        Self { instance, claim: Box::new(claim) }
    }

    /// What is registered.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Takes the instance back. The same as a drop, but says what went wrong. An instance somebody else removed counts
    /// as taken back.
    ///
    /// # Errors
    /// As the backend finds; the instance then disappears when its time runs out.
    pub async fn unregister(self) -> Result<(), Error> {
        self.claim.release().await
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("instance", &self.instance).finish_non_exhaustive()
    }
}

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
    /// Touching less than twice per time to live: an instance would be dropped for one late touch.
    Timing {
        /// Time between touches.
        touch: Duration,
        /// Time to live.
        ttl: Duration,
    },
    /// An instance that cannot be written down.
    Record(record::Error),
    /// A live instance has this key.
    Exists {
        /// The key.
        key: String,
    },
    /// The names of an endpoint do not fit into a file name.
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
    /// The backend's thread has ended.
    Stopped,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownScheme(url) => {
                write!(f, "unknown discovery `{url}`; known are mem, mem:NAME, file:DIR and etcd:URL")
            }
            Self::NotInThisBuild { scheme } => {
                write!(f, "discovery through {scheme} is not in this build; build it with `--features {scheme}`")
            }
            Self::NoDirectory => f.write_str("file discovery needs a directory: file:DIR"),
            Self::Timing { touch, ttl } => {
                write!(
                    f,
                    "instances that live for {ttl:?} must be touched at least twice in that time, not each {touch:?}"
                )
            }
            Self::Record(error) => error.fmt(f),
            Self::Exists { key } => write!(f, "`{key}` is registered already"),
            Self::NameTooLong { bytes } => {
                write!(f, "the endpoint's names need a file name of {bytes} bytes; 255 are possible")
            }
            Self::Locked { path } => write!(f, "`{}` has been locked for more than a second", path.display()),
            Self::Io { doing, path, source } => write!(f, "cannot {doing} `{}`: {source}", path.display()),
            Self::Registry { doing, what } => write!(f, "cannot {doing} the registry: {what}"),
            Self::Stopped => f.write_str("the discovery thread has ended"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Record(error) => Some(error),
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// An instance id nobody else has: 64 random bits of the operating system.
pub fn random_instance_id() -> InstanceId {
    InstanceId(random_u64())
}

pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        // Before Linux 3.17. The standard library seeds its maps in other ways there.
        _ => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
    }
}
