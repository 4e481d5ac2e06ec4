//! One call and its states.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::buf::slab::Key;
use crate::buf::wheel::TimerId;
use crate::caller::dynamo::sent::Sent;
use crate::caller::error::CallError;
use crate::id::InstanceId;
use crate::mux::event::Opening;
use crate::retry::backoff::Backoff;
use crate::route::policy::pick::Ask;
use crate::time::Instant;

/// One call.
///
/// ```text
///  Waiting ──instance picked──▶ Attached ──stream opened──▶ Open ──outcome──▶ Over ──released──▶ gone
///     ▲                            │                          │                ▲
///     └──not delivered, may retry──┴──not delivered / refused─┘                │
///     Attached ──request frame queued──▶ Sent ──outcome──▶ Over   (Dynamo's protocol)
///     Waiting ──instance by NATS or HTTP──▶ Queued ──room──▶ Sent (Dynamo's protocol)
///     any state ──deadline, cancel, failure without retry──────────────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Call {
    pub(super) endpoint: Key,
    pub(super) direct: Option<InstanceId>,
    /// The only instances that will do; empty: any.
    pub(super) allow: Vec<InstanceId>,
    pub(super) ask: Ask,
    /// What a stream is opened with, without the path.
    pub(super) opening: Arc<Opening>,
    /// A request of one item, kept until the outcome so that the call can be tried again.
    pub(super) body: Option<Bytes>,
    pub(super) idempotent: bool,
    /// Its stream has taken items or the end of a streaming request, which cannot be sent again.
    pub(super) streamed: bool,
    /// Asked to stop: it is not tried again.
    pub(super) stopping: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) state: State,
    /// The instance it was sent to, counted there as in flight.
    pub(super) instance: Option<InstanceId>,
    /// Instances that failed it, to be avoided; at most as many as there are tries.
    pub(super) tried: Vec<InstanceId>,
    pub(super) backoff: Backoff,
    /// When its first try failed.
    pub(super) failing: Option<Instant>,
    /// It has used its tries and waits for an instance to come back; how the last one failed.
    pub(super) stranded: Option<Box<CallError>>,
    /// It is among those that wait for news of its endpoint's instances.
    pub(super) listed: bool,
    pub(super) timer: Option<TimerId>,
    /// The worker has given a sign of life.
    pub(super) accepted: bool,
    /// An item has arrived, so the call has had an effect.
    pub(super) answered: bool,
    /// Last sign of life, or when the present state began.
    pub(super) heard: Instant,
    /// Bytes of the items in `left_over` that came in Dynamo's protocol.
    pub(super) unread: usize,
    /// Complete items that outlived their mux connection, bounded by its window, or came home, bounded by the configuration.
    pub(super) left_over: VecDeque<Bytes>,
    /// Nobody reads any more.
    pub(super) released: bool,
}

/// Where a call stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// For an instance (`None`), or for the next try: after a pause, or because every instance is down.
    Waiting(Option<Instant>),
    /// For its connection to be able to open a stream.
    Attached { link: Key },
    /// For room with the carrier that brings requests to its instance.
    Queued,
    /// On a stream.
    Open { link: Key, stream: Key },
    /// On a request connection or with a carrier, or its response is coming in.
    Sent(Box<Sent>),
    /// It has its outcome.
    Over(Result<(), CallError>),
}

impl Call {
    /// Whether the instance is one that will do.
    pub(super) fn may_go_to(&self, id: InstanceId) -> bool {
        self.direct.is_none_or(|direct| direct == id) && (self.allow.is_empty() || self.allow.contains(&id))
    }

    /// The link it stands on.
    pub(super) fn link(&self) -> Option<Key> {
        match self.state {
            State::Attached { link } | State::Open { link, .. } => Some(link),
            State::Sent(ref sent) => sent.link(),
            State::Queued | State::Waiting(_) | State::Over(_) => None,
        }
    }

    /// The stream it has.
    pub(super) const fn stream(&self) -> Option<(Key, Key)> {
        match self.state {
            State::Open { link, stream } => Some((link, stream)),
            _ => None,
        }
    }
}
