//! An endpoint of a client, to be called often.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringplane_core::caller::view::InstanceView;
use ringplane_core::id::InstanceId;
use ringplane_core::local::LocalCall;
use ringplane_core::route::policy::any::AnyPolicy;

use crate::client::call::Call;
use crate::client::client::Client;
use crate::client::request::CallRequest;
use crate::error::Error;
use crate::runtime::cores::Core;
use crate::runtime::known::Known;

impl Client {
    /// As [`Endpoint::set_fact`], for the endpoint of this name.
    ///
    /// # Errors
    /// As [`endpoint`](Self::endpoint).
    pub async fn set_fact(
        &self,
        endpoint: &str,
        instance: InstanceId,
        name: &str,
        value: i64,
        lasting: Duration,
    ) -> Result<bool, Error> {
        self.endpoint(endpoint)?.set_fact(instance, name, value, lasting).await
    }

    /// An endpoint (`namespace.component.endpoint`) to be called: its name is read and its instances are watched from here
    /// on, so that its calls look nothing up.
    ///
    /// # Errors
    /// [`Error::Name`] for a malformed name, [`Error::Stopped`] if the client has been shut down or its threads have ended,
    /// [`Error::Call`] with [`Overloaded`](crate::CallError::Overloaded) if as many are
    /// kept as may be (`max_endpoints`). One that is let go while the client lives is found again by asking once more.
    pub fn endpoint(&self, name: &str) -> Result<Endpoint, Error> {
        Ok(Endpoint { client: self.clone(), known: self.known(name)? })
    }

    /// As [`endpoint`](Self::endpoint), with a way to pick instances that is not the client's
    /// ([`ClientBuilder::router`](crate::ClientBuilder::router)) but this endpoint's own. Each core has one of it for this
    /// endpoint and its clones, which also knows on its own which instances are avoided and how many calls each has.
    ///
    /// Each time that one is asked for it is another, which is watched until nobody holds it or the client ends: ask once, and
    /// clone.
    ///
    /// # Errors
    /// As [`endpoint`](Self::endpoint).
    pub fn endpoint_with(&self, name: &str, policy: impl Into<AnyPolicy>) -> Result<Endpoint, Error> {
        Ok(Endpoint { client: self.clone(), known: self.known_with(name, policy.into())? })
    }
}

/// An endpoint of a [`Client`], asked for [once](Client::endpoint): a call looks nothing up, waits for nothing and takes no
/// lock that others hold. Clones are cheap. It keeps the client's threads as a clone of the client does.
///
/// ```
#[doc = include_str!("../../examples/calling_on.rs")]
/// ```
#[derive(Clone)]
pub struct Endpoint {
    pub(super) client: Client,
    pub(super) known: Arc<Known>,
}

impl Endpoint {
    /// As [`Client::instances`], of this endpoint.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the client's threads have ended.
    pub async fn instances(&self) -> Result<Vec<InstanceView>, Error> {
        self.client.see(self.known.clone()).await
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Makes a call from any thread, to this endpoint, whichever the request names. Its outcome, good or bad, comes through
    /// the stream.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the client has been shut down or its threads have ended.
    pub fn call(&self, request: CallRequest) -> Result<Call, Error> {
        self.client.call_known(self.known.clone(), request)
    }

    /// Tells the policies of this endpoint what the application knows of an instance: `name` is `value` for `lasting`. They see it
    /// as [`Candidate::figure`](ringplane_core::route::Candidate::figure). Whether every core has kept it:
    /// not one that does not know the instance yet, nor more than 32 facts of one instance, nor a name of more than 64 bytes.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the threads have ended.
    pub async fn set_fact(
        &self,
        instance: InstanceId,
        name: &str,
        value: i64,
        lasting: Duration,
    ) -> Result<bool, Error> {
        let group = self.client.group();
        let (tell, mut told) = tokio::sync::mpsc::channel(group.len());
        let (known, name) = (self.known.clone(), Arc::<str>::from(name));
        group
            .each(move |core| {
                let kept = core.node.set_fact(core.key(&known), instance, (&name, value), lasting);
                let _ = tell.try_send(kept);
            })
            .await?;
        let mut all = true;
        for _ in 0..group.len() {
            all &= told.recv().await.ok_or(Error::Stopped)?;
        }
        Ok(all)
    }

    /// The way to call without crossing a thread, if this is one of the client's own.
    pub fn local(&self) -> Option<LocalEndpoint> {
        Some(LocalEndpoint { core: self.client.core()?, endpoint: self.clone() })
    }
}

/// An endpoint on one of its client's own threads: what a handler calls on with.
///
/// ```
#[doc = include_str!("../../examples/calling_on.rs")]
/// ```
#[derive(Clone)]
pub struct LocalEndpoint {
    core: Rc<Core>,
    endpoint: Endpoint,
}

impl fmt::Debug for LocalEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEndpoint").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl LocalEndpoint {
    /// Makes a call from this thread, to this endpoint, whichever the request names.
    ///
    /// # Errors
    /// As [`Endpoint::call`], and [`Error::Call`] if the call cannot be begun.
    pub fn call(&self, request: CallRequest) -> Result<LocalCall, Error> {
        self.endpoint.client.call_here(&self.core, &self.endpoint.known, request)
    }
}
