//! What a place for discovery can do, what can go wrong there, and the guard of a registration.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ringplane_core::discovery::channel::EventChannel;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::model::Model;
use ringplane_core::discovery::record;
use ringplane_core::discovery::source::EventSource;
#[cfg(feature = "etcd")]
use ringplane_core::discovery::trouble::Cause;
use ringplane_core::id::InstanceId;

use crate::discovery::hub::Watch;

/// A future of a backend.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where records of all kinds are written to and read from. Instances of endpoints are what most callers are after:
/// `register`, `list` and `watch` are about them.
pub trait Backend: Send + Sync + fmt::Debug {
    /// The id that instances registered through this handle should carry. One is enough for all endpoints of a process;
    /// several instances of one endpoint need [`random_instance_id`] each.
    fn instance_id(&self) -> InstanceId;

    /// The instances of endpoints.
    fn endpoints(&self) -> &dyn Place<Instance>;

    /// The models that instances serve.
    fn models(&self) -> &dyn Place<Model>;

    /// Where events are to be had.
    fn channels(&self) -> &dyn Place<EventChannel>;

    /// Who publishes events.
    fn sources(&self) -> &dyn Place<EventSource>;

    /// Lets `instance` be found: [`Place::register`].
    ///
    /// # Errors
    /// As there.
    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, Error>> {
        self.endpoints().register(instance)
    }

    /// The live instances asked for: [`Place::list`].
    ///
    /// # Errors
    /// As there.
    fn list(&self, query: Query) -> BoxFuture<'_, Result<Vec<Instance>, Error>> {
        self.endpoints().list(query)
    }

    /// The instances asked for, and whatever changes about them: [`Place::watch`].
    ///
    /// # Errors
    /// As there.
    fn watch(&self, query: Query) -> BoxFuture<'_, Result<Watch, Error>> {
        self.endpoints().watch(query)
    }
}

/// The records of one kind.
pub trait Place<R: Kind>: Send + Sync {
    /// Lets `record` be found for as long as the registration lives. Once this is done, everybody can see it. A record
    /// that is there already and serves as well, an equal one or a model with other taints, counts as registered and is
    /// what the registration holds.
    ///
    /// # Errors
    /// [`Error::Exists`] if another live record has the same key, [`Error::Unfit`] for a model that the others of its
    /// endpoint cannot be beside, which is looked at before and after it is written; others as the backend finds.
    fn register(&self, record: R) -> BoxFuture<'_, Result<Registration<R>, Error>> {
        Box::pin(async move {
            let Some(neighbours) = record.neighbours() else { return self.claim(record).await };
            check_fit(&record, &self.list(neighbours.clone()).await?)?;
            let registration = self.claim(record).await?;
            let fit = self.list(neighbours).await.and_then(|all| check_fit(registration.record(), &all));
            if let Err(error) = fit {
                // Somebody else came at the same time.
                registration.unregister().await?;
                return Err(error);
            }
            Ok(registration)
        })
    }

    /// [`Place::register`] without a look at its neighbours.
    ///
    /// # Errors
    /// As there.
    fn claim(&self, record: R) -> BoxFuture<'_, Result<Registration<R>, Error>>;

    /// The live records asked for, in the order of their keys.
    ///
    /// # Errors
    /// As the backend finds. Records that cannot be used are left out, and logged once.
    fn list(&self, query: R::Query) -> BoxFuture<'_, Result<Vec<R>, Error>>;

    /// The records asked for, and whatever changes about them from now on.
    ///
    /// # Errors
    /// As the backend finds.
    fn watch(&self, query: R::Query) -> BoxFuture<'_, Result<Watch<R>, Error>>;
}

fn check_fit<R: Kind>(record: &R, all: &[R]) -> Result<(), Error> {
    match all.iter().find(|other| !record.fits(other)) {
        Some(other) => Err(Error::Unfit { key: R::full(&record.key()), other: R::full(&other.key()) }),
        None => Ok(()),
    }
}

/// A record that can be found. Dropping it takes it back.
pub struct Registration<R: Kind = Instance> {
    record: R,
    claim: Box<dyn Claim<R>>,
}

/// From what is stored to what shall be stored; `None` if that is the same.
pub(crate) type Edit<R> = Arc<dyn Fn(&R) -> Result<Option<R>, record::Error> + Send + Sync>;

/// The backend's half of a registration. Its drop takes the record back.
pub(crate) trait Claim<R>: Send + Sync {
    /// Takes the record back and waits until this process sees that it is gone.
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>>;

    /// Changes the record in one step, whoever else does the same; what is stored then.
    fn edit(&self, edit: Edit<R>) -> BoxFuture<'_, Result<R, Error>>;
}

impl<R: Kind> Registration<R> {
    pub(crate) fn new(record: R, claim: impl Claim<R> + 'static) -> Self {
        Self { record, claim: Box::new(claim) }
    }

    /// What is registered.
    pub fn record(&self) -> &R {
        &self.record
    }

    /// Takes the record back. The same as a drop, but says what went wrong. A record somebody else removed counts as
    /// taken back.
    ///
    /// # Errors
    /// As the backend finds; the record then disappears when its time runs out.
    pub async fn unregister(self) -> Result<(), Error> {
        self.claim.release().await
    }
}

impl Registration {
    /// What is registered.
    pub fn instance(&self) -> &Instance {
        &self.record
    }
}

impl Registration<Model> {
    /// Gives the model these taints, besides those of its topology, instead of the ones it has. Writes nothing if it has
    /// them already.
    ///
    /// # Errors
    /// [`Error::Record`] for a taint that only a topology gives, and for an adapter; [`Error::Contended`] if others
    /// were faster eight times; others as the backend finds.
    pub async fn update_taints(&mut self, taints: BTreeSet<String>) -> Result<&Model, Error> {
        let edit = Arc::new(move |stored: &Model| stored.with_taints(&taints));
        self.record = self.claim.edit(edit).await?;
        Ok(&self.record)
    }
}

impl<R: Kind> fmt::Debug for Registration<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("record", &self.record).finish_non_exhaustive()
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
    /// A record that cannot be written down.
    Record(record::Error),
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
            Self::Unfit { key, other } => {
                write!(f, "the model `{key}` does not go with `{other}`: another model, or names that clash")
            }
            Self::Contended { key } => write!(f, "others changed `{key}` each time it was about to be changed"),
            Self::NameTooLong { bytes } => {
                write!(f, "the record's names need a file name of {bytes} bytes; 255 are possible")
            }
            Self::Locked { path } => write!(f, "`{}` has been locked for more than a second", path.display()),
            Self::Io { doing, path, source } => write!(f, "cannot {doing} `{}`: {source}", path.display()),
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
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// An instance id nobody else has: 64 random bits of the operating system.
pub fn random_instance_id() -> InstanceId {
    InstanceId(random_u64())
}

/// A publisher id nobody else has: 53 random bits of the operating system.
pub fn random_publisher_id() -> PublisherId {
    PublisherId(random_u64() & PublisherId::MAX.0)
}

pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        // Before Linux 3.17. The standard library seeds its maps in other ways there.
        _ => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
    }
}
