//! ringplane's node as a client of the load generator.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use ringplane_core::caller::request::{EndpointKey, Request};
use ringplane_core::id::InstanceId;
use ringplane_core::local::{Env, LocalCall, LocalNode};
use ringplane_core::route::policy::any::AnyPolicy;

use crate::engine::Result;
use crate::engines::ringplane::dialect::Dialect;
use crate::load::{Call, Client, Runtime};
use crate::scenario::{Scenario, address};

/// The path the server serves.
pub(crate) const PATH: &str = "1/bench/backend/answer";

/// Calls through a node, from its own thread. A connection is an endpoint with one instance, at an address of its own.
pub(crate) struct NodeClient {
    node: Rc<LocalNode>,
    endpoints: Vec<EndpointKey>,
    dialect: Dialect,
}

impl NodeClient {
    /// A client that calls `server` through `node`.
    pub(crate) fn new(node: Rc<LocalNode>, dialect: Dialect, scenario: &Scenario, server: SocketAddr) -> Self {
        let endpoint = |index| {
            let key = node.endpoint(AnyPolicy::default());
            let target = dialect.target(address(server, index), PATH);
            node.set_instances(key, vec![(InstanceId(index as u64 + 1), target)]);
            key
        };
        let endpoints = (0..scenario.all_connections()).map(endpoint).collect();
        Self { node, endpoints, dialect }
    }
}

impl Client for NodeClient {
    type Call = NodeCall;

    async fn call(&self, connection: usize, request: Bytes) -> Result<NodeCall> {
        let endpoint = *self.endpoints.get(connection).ok_or("no such connection")?;
        let request = Request { body: Some(self.dialect.wrap(request)), ..Request::default() };
        Ok(NodeCall { call: self.node.call(endpoint, request)?, dialect: self.dialect })
    }
}

/// A call through a node.
pub(crate) struct NodeCall {
    call: LocalCall,
    dialect: Dialect,
}

impl Call for NodeCall {
    type Item = Bytes;

    async fn next(&mut self) -> Option<Result<Bytes>> {
        let item = self.call.next().await?;
        Some(item.map_err(Into::into).and_then(|item| self.dialect.unwrap(item)))
    }
}

/// Tasks and timers of a driver.
pub(crate) struct EnvRuntime(pub(crate) Env);

impl Runtime for EnvRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task);
    }

    async fn sleep_until(&self, at: Instant) {
        let left = at.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            self.0.sleep(left).await;
        }
    }
}
