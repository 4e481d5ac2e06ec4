//! Endpoints of a worker whose requests and answers are values.

use ringplane_core::local::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use crate::handler::side::Remote;
use crate::handler::typed::{Typed, TypedResponder};
use crate::worker::builder::WorkerBuilder;

impl WorkerBuilder {
    /// Serves `endpoint` with a closure that takes the request as a value and answers with values, in the codec that the call
    /// names or else the [endpoint's](Self::codec). It runs on the core that received the request. A request that is no such
    /// value ends with a failure that says what is wrong where.
    ///
    /// ```
    #[doc = include_str!("../../examples/typed.rs")]
    /// ```
    #[must_use]
    pub fn typed_endpoint<T, U, F, Fut>(self, endpoint: impl Into<String>, handler: F) -> Self
    where
        F: Fn(T, TypedResponder<U>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + 'static,
        T: DeserializeOwned + 'static,
        U: Serialize + ?Sized + 'static,
    {
        self.endpoint(endpoint, Typed::new(handler))
    }

    /// As [`typed_endpoint`](Self::typed_endpoint), on a runtime of the user's own, as [`endpoint_on`](Self::endpoint_on).
    ///
    /// ```
    #[doc = include_str!("../../examples/typed_on.rs")]
    /// ```
    #[must_use]
    pub fn typed_endpoint_on<T, U, F, Fut>(self, runtime: Handle, endpoint: impl Into<String>, handler: F) -> Self
    where
        F: Fn(T, TypedResponder<U, Remote>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
        T: DeserializeOwned + Send + 'static,
        U: Serialize + ?Sized + 'static,
    {
        self.endpoint_on(runtime, endpoint, Typed::new(handler))
    }
}
