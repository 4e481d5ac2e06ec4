//! What to call, with what.

use std::time::Duration;

use bytes::Bytes;
use ringplane_core::caller::request as caller;
use ringplane_core::id::InstanceId;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::context::TraceContext;
use ringplane_tokio::random::drawn_u64;

use crate::handler::request::Request;
use crate::handler::side::Side;
use crate::trace::current_trace;

/// What to call, with what.
///
/// ```
/// use std::time::Duration;
///
/// use ringplane::{CallRequest, Codec};
///
/// let request = CallRequest::new("demo.backend.generate", r#"{"prompt":"once upon"}"#)
///     .with_codec(Codec::Json)
///     .with_timeout(Duration::from_secs(30))
///     .with_metadata("tenant", "t1")
///     .idempotent();
/// # let _ = request;
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallRequest {
    pub(crate) endpoint: String,
    pub(crate) inner: caller::Request,
    /// It takes no trace from where it is made.
    untraced: bool,
}

impl CallRequest {
    /// A request of one item for `endpoint` (`namespace.component.endpoint`).
    pub fn new(endpoint: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let inner = caller::Request { body: Some(body.into()), ..caller::Request::default() };
        Self { endpoint: endpoint.into(), inner, untraced: false }.with_id(request_id())
    }

    /// A request whose items follow with [`Call::send`](crate::Call::send).
    pub fn streaming(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), inner: caller::Request::default(), untraced: false }.with_id(request_id())
    }

    /// A request of one item for the [`Endpoint`](crate::Endpoint) that it is given to.
    pub fn item(body: impl Into<Bytes>) -> Self {
        Self::new("", body)
    }

    /// A request for the [`Endpoint`](crate::Endpoint) that it is given to, whose items follow with
    /// [`Call::send`](crate::Call::send).
    pub fn items() -> Self {
        Self::streaming("")
    }

    /// The call's id; a random one by default.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.inner.opening.request_id = id.into();
        self
    }

    /// Time for the whole call, the worker's included.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.inner.timeout = Some(timeout);
        self
    }

    /// For a call that a handler makes to answer `request`: it takes no longer than that has left, beside a timeout of its own that
    /// was set before, and is of the same tenant, priority and trace unless it has its own.
    #[must_use]
    pub fn within<S: Side>(mut self, request: &Request<S>) -> Self {
        let left = request.remaining();
        self.inner.timeout = self.inner.timeout.into_iter().chain(left).min();
        let open = request.open();
        if self.inner.opening.priority == 0 {
            self.inner.opening.priority = open.priority;
        }
        if self.inner.opening.tenant.is_none() {
            self.inner.opening.tenant = open.tenant.map(str::to_owned);
        }
        let context = TraceContext::read(open.traceparent, open.tracestate, open.x_request_id);
        self.traced(|| current_trace().or(Some(context)))
    }

    /// A pair handed to the handler unchanged.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.opening.metadata.push((key.into(), value.into()));
        self
    }

    /// The trace that the call belongs to, in place of that of the code that makes it ([`current_trace`]). Carried
    /// byte for byte, with its tries and the calls that are made in its place or beside it.
    ///
    /// ```
    /// use ringplane::{CallRequest, TraceContext};
    ///
    /// # let headers = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    /// // What a client of ours has sent, by whatever protocol.
    /// let context = TraceContext::from_headers(|name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value));
    /// let request = CallRequest::new("demo.backend.generate", "x").with_context(&context);
    /// # let _ = request;
    /// ```
    #[must_use]
    pub fn with_context(mut self, context: &TraceContext) -> Self {
        let opening = &mut self.inner.opening;
        opening.traceparent = context.traceparent().map(str::to_owned);
        opening.tracestate = context.tracestate().map(str::to_owned);
        opening.x_request_id = context.x_request_id().map(str::to_owned);
        self
    }

    /// The call belongs to no trace, though it may be made inside one: for what outlives the request at hand.
    #[must_use]
    pub fn without_trace(mut self) -> Self {
        self.untraced = true;
        self.with_context(&TraceContext::default())
    }

    /// The trace of the code that makes the call, unless the request names one or none.
    pub(crate) fn in_trace(self) -> Self {
        self.traced(current_trace)
    }

    fn traced(self, find: impl FnOnce() -> Option<TraceContext>) -> Self {
        if self.untraced || self.inner.opening.traceparent.is_some() {
            return self;
        }
        let Some(context) = find() else { return self };
        let own = self.inner.opening.x_request_id.clone();
        let mut request = self.with_context(&context);
        if own.is_some() {
            request.inner.opening.x_request_id = own;
        }
        request
    }

    /// The trace of `other`, unless the request names one or none.
    pub(super) fn in_trace_of(mut self, other: &Self) -> Self {
        if !self.untraced && self.inner.opening.traceparent.is_none() {
            let (opening, theirs) = (&mut self.inner.opening, &other.inner.opening);
            opening.traceparent.clone_from(&theirs.traceparent);
            opening.tracestate.clone_from(&theirs.tracestate);
            let own = opening.x_request_id.take();
            opening.x_request_id = own.or_else(|| theirs.x_request_id.clone());
        }
        self
    }

    /// W3C trace context, carried byte for byte and not looked at: what is no `traceparent` arrives as it is.
    #[must_use]
    pub fn with_trace(mut self, traceparent: impl Into<String>, tracestate: Option<String>) -> Self {
        self.inner.opening.traceparent = Some(traceparent.into());
        self.inner.opening.tracestate = tracestate;
        self
    }

    /// The codec the request is written in, which the handler answers in.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.inner.opening.codec = Some(codec.name().to_owned());
        self
    }

    /// The same with another item in place of its own, as for a request that goes on with this one.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.inner.body = Some(body.into());
        self
    }

    /// Its item; `None` if its items follow.
    pub const fn body(&self) -> Option<&Bytes> {
        self.inner.body.as_ref()
    }

    /// The codec that the request names.
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.inner.opening.codec.as_deref().and_then(Codec::from_name)
    }

    /// Only this instance will do, whatever the policy.
    #[must_use]
    pub const fn with_instance(mut self, id: InstanceId) -> Self {
        self.inner.direct = Some(id);
        self
    }

    /// Only these instances will do, of which the policy picks.
    #[must_use]
    pub fn with_allowed(mut self, ids: impl IntoIterator<Item = InstanceId>) -> Self {
        self.inner.allow = ids.into_iter().collect();
        self
    }

    /// For policies: calls with the same value fare better at the same instance.
    #[must_use]
    pub const fn with_affinity(mut self, affinity: u64) -> Self {
        self.inner.routing.affinity = Some(affinity);
        self
    }

    /// For policies: how much work the call is, in a unit of the application's, such as tokens.
    #[must_use]
    pub const fn with_cost(mut self, cost: u64) -> Self {
        self.inner.routing.cost = cost;
        self
    }

    /// For policies: a pair of the application's own, such as the tenant or the adapter. It does not travel. With the bytes at most
    /// 64 pairs and 64 KiB, else the call fails with [`CallError::AttributesTooLarge`](crate::CallError::AttributesTooLarge).
    #[must_use]
    pub fn with_routing_attribute(mut self, name: impl Into<Box<str>>, value: impl Into<Box<str>>) -> Self {
        self.inner.routing.attributes.get_or_insert_default().set(name, value);
        self
    }

    /// For policies: bytes of the application's own, such as the hashes of a prompt's blocks. They do not travel, and are bounded
    /// as [pairs](Self::with_routing_attribute) are.
    ///
    /// ```
    #[doc = include_str!("../../examples/prefix_aware.rs")]
    /// ```
    #[must_use]
    pub fn with_routing_bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        self.inner.routing.attributes.get_or_insert_default().set_bytes(bytes);
        self
    }

    /// Among calls that wait at the worker the higher goes first; 0 is the default.
    #[must_use]
    pub const fn with_priority(mut self, priority: i8) -> Self {
        self.inner.opening.priority = priority;
        self
    }

    /// Whose call it is: tenants whose calls wait at the worker are served in turn, whatever each of them has waiting. By default
    /// all calls on one connection are one tenant's.
    #[must_use]
    pub fn with_tenant(mut self, tenant: impl Into<String>) -> Self {
        self.inner.opening.tenant = Some(tenant.into());
        self
    }

    /// Running the call twice does no harm, so it may be tried again even if it may have been delivered.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.inner.idempotent = true;
        self
    }
}

/// A random id in the shape of a UUID (version 4), as Dynamo's are.
fn request_id() -> String {
    let (high, low) = (drawn_u64(), drawn_u64());
    let high = (high & 0xFFFF_FFFF_FFFF_0FFF) | 0x4000;
    let low = (low & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000;
    let bits = u128::from(high) << 64 | u128::from(low);
    let mut id = String::with_capacity(36);
    for place in 0..32 {
        if matches!(place, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.extend(char::from_digit((bits >> (124 - 4 * place)) as u32 & 0xF, 16));
    }
    id
}
