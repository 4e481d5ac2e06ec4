//! What a place for discovery can do, and the guard of a registration.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use ringplane_core::discovery::channel::EventChannel;
use ringplane_core::discovery::error;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::model::Model;
use ringplane_core::discovery::source::EventSource;
use ringplane_core::id::InstanceId;

use crate::discovery::counters::Counters;
use crate::discovery::error::Error;
use crate::discovery::hub::Watch;
use crate::random::random_u64;

/// A future of a backend.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where records of all kinds are written to and read from: a place for each kind, which `dyn Backend` has a method for.
pub trait Backend: Place<Instance> + Place<Model> + Place<EventChannel> + Place<EventSource> + fmt::Debug {
    /// The id that instances registered through this handle should carry. One is enough for all endpoints of a process;
    /// several instances of one endpoint need [`random_instance_id`] each.
    fn instance_id(&self) -> InstanceId;

    /// What the handles of this backend have counted together since it was opened. Waits for nothing.
    fn counters(&self) -> Counters;
}

impl<'a> dyn Backend + 'a {
    /// The instances of endpoints.
    pub fn endpoints(&self) -> &(dyn Place<Instance> + 'a) {
        self
    }

    /// The models that instances serve.
    pub fn models(&self) -> &(dyn Place<Model> + 'a) {
        self
    }

    /// Where to subscribe to events.
    pub fn channels(&self) -> &(dyn Place<EventChannel> + 'a) {
        self
    }

    /// The publishers of events.
    pub fn sources(&self) -> &(dyn Place<EventSource> + 'a) {
        self
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
pub(crate) type Edit<R> = Arc<dyn Fn(&R) -> Result<Option<R>, error::Error> + Send + Sync>;

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

/// An instance id nobody else has: 64 random bits of the operating system.
pub fn random_instance_id() -> InstanceId {
    InstanceId(random_u64())
}

/// A publisher id nobody else has: 53 random bits of the operating system.
pub fn random_publisher_id() -> PublisherId {
    PublisherId(random_u64() & PublisherId::MAX.0)
}
