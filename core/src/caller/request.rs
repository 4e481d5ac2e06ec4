//! What a caller is asked and what it says.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::buf::slab::Key;
use crate::caller::error::CallError;
use crate::id::InstanceId;
use crate::mux::event::Opening;
use crate::route::routing::Routing;
use crate::wire::mux::message::Status;

/// One call of this caller.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct CallId(pub(crate) Key);

/// An endpoint this caller calls.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct EndpointKey(pub(crate) Key);

/// What to call with. The request's items are its `body`, or follow with [`Caller::send`](crate::caller::machine::Caller::send).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Request {
    /// The whole request, if it is one item. Such a call can be tried again when it was not delivered.
    pub body: Option<Bytes>,
    /// Request id, metadata, trace context, codec. The path and the deadline are filled in.
    pub opening: Opening,
    /// Time for the whole call; `None`: the configuration's.
    pub timeout: Option<Duration>,
    /// Only this instance will do, whatever the policy.
    pub direct: Option<InstanceId>,
    /// Only these instances will do, of which the policy picks; empty: any.
    pub allow: Vec<InstanceId>,
    /// What the call asks of the policy. It does not travel.
    pub routing: Routing,
    /// Running it twice does no harm: it may also be tried again when it may have been delivered, as long as no item has
    /// come back.
    pub idempotent: bool,
    /// The calls before it, if it is made in place of one or beside one.
    pub earlier: Option<Box<Earlier>>,
}

/// What other calls have done for the same request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Earlier {
    /// Why there is one more.
    pub why: Again,
    /// The tries that those have made together.
    pub attempts: u32,
    /// Where they went, to be avoided while there are others, and in any case by one beside them; the last [`MAX_AVOIDED`] of them count.
    pub avoid: Vec<InstanceId>,
}

/// The most instances that a call remembers to avoid.
pub const MAX_AVOIDED: usize = 8;

/// Why a request is made by one more call. The budget of retries has a say in both.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Again {
    /// So many calls before it broke, and it goes on where they ended. It waits first, as a call does before that retry.
    Broke(u32),
    /// The one before it is slow to begin. It goes out at once, to an instance that is not to be avoided, or ends.
    Slow,
}

/// What the application hears.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Items or the outcome can be read. Not repeated until [`Caller::recv`](crate::caller::machine::Caller::recv) has said `Pending`.
    Readable(CallId),
    /// Request items may be sent (again).
    Writable(CallId),
    /// The worker's sign of life.
    Status(CallId, Status),
    /// The call's request is to be taken with [`Caller::outgoing`](crate::caller::machine::Caller::outgoing) and brought to the worker.
    Outgoing(CallId),
    /// [`Caller::shutdown`](crate::caller::machine::Caller::shutdown) is complete: no call and no connection is left.
    Closed,
}

/// What a reader gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recv {
    /// The next item.
    Item(Bytes),
    /// Nothing yet; an event will tell.
    Pending,
    /// Nothing more.
    End(Result<(), CallError>),
}
