//! Every way a call can end badly, who is to blame, and whether trying again makes sense.

use alloc::boxed::Box;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use crate::id::InstanceId;
use crate::mux::event::Ending;
use crate::protocol::{Blame, CloseReason, Fault};
use crate::wire::class::Class;
use crate::wire::dynamo::failure_key::Key;
use crate::wire::mux::message::RejectCode;

/// The outcome of a call that did not end well. Exactly one per call.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CallError {
    /// No instance of the endpoint appeared in time.
    NoInstances,
    /// The filters of the routing policy rule out every instance that is known: all are busy, or none is for this call. Of a call
    /// made beside another: there is none but the one where that is.
    NoneEligible,
    /// Every instance is full, and so is the queue of those that wait for a free place, or the call has waited there for as long as
    /// it may. Not delivered. Only where calls [wait](crate::caller::front::Config).
    NoPlace {
        /// How long it has waited; nothing if it was refused at once.
        waited: Duration,
        /// When to come back: by then the queue has moved on by its length, as it moves now.
        retry_after: Option<Duration>,
    },
    /// Too many calls of the endpoint have been refused for want of room for this one to be made. Only where calls are
    /// [throttled](crate::overload::throttle::Config).
    Throttled,
    /// The instance asked for does not exist.
    UnknownInstance(InstanceId),
    /// No connection could be made; the call never left.
    Unreachable {
        /// Why.
        reason: CloseReason,
        /// To whom.
        at: Option<Box<At>>,
    },
    /// The worker refused the call; it never ran.
    Rejected {
        /// Why.
        code: RejectCode,
        /// The worker's advice on when to come back.
        retry_after: Option<Duration>,
        /// For people.
        message: Box<str>,
        /// Who refused it; `None` within this caller.
        at: Option<Box<At>>,
    },
    /// The connection was lost. `delivered`: the worker may have seen the call.
    Disconnected {
        /// How.
        reason: CloseReason,
        /// Whether the worker may have seen the call.
        delivered: bool,
        /// To whom.
        at: Option<Box<At>>,
    },
    /// The broker knows nobody who takes requests at the instance's subject. Not delivered.
    NoResponders,
    /// There was no connection to the broker, or it was lost before the worker's ack.
    NoBroker {
        /// Whether the worker may have seen the call.
        delivered: bool,
    },
    /// The connection was ended because one side broke the protocol, or the peer fell silent. `delivered` as above.
    Protocol {
        /// What was broken.
        fault: Fault,
        /// Whether the worker may have seen the call.
        delivered: bool,
    },
    /// The worker gave no sign of life in time.
    NotAccepted,
    /// The worker took the call but brought no response home in time.
    NoResponse,
    /// No item and no sign of life for too long.
    Idle,
    /// The call's own deadline passed.
    DeadlineExceeded,
    /// The call was cancelled here.
    Cancelled,
    /// The handler failed.
    Failed {
        /// What kind of failure.
        class: Class,
        /// The reason's catalogue key; may be empty.
        reason: Box<str>,
        /// For people.
        message: Box<str>,
    },
    /// An item of the request is larger than the worker takes.
    TooLarge {
        /// What it takes, in bytes.
        limit: u64,
    },
    /// An item of the response is larger than this caller takes.
    ItemTooLarge {
        /// Its size, in bytes.
        declared: u64,
        /// What this caller takes, in bytes.
        limit: u64,
    },
    /// Path, ids, trace context and metadata together exceed 64 KiB.
    HeaderTooLarge,
    /// What the request says to the routing policy exceeds its [bounds](crate::route::attributes).
    AttributesTooLarge,
    /// More of the response is here and unread than may be, in bytes.
    SlowReader {
        /// The bound.
        limit: usize,
    },
    /// The listener for responses cannot be had.
    CannotListen(CloseReason),
    /// The worker takes requests by a transport that this caller is not equipped for.
    NotEquipped {
        /// `nats` or `http`.
        transport: &'static str,
        /// What is missing.
        missing: Missing,
    },
    /// This caller has as many calls under way as it may.
    Overloaded,
    /// A call made in place of another, or beside it, is one more than the budget of retries allows.
    NoBudget,
    /// This caller has been shut down.
    Closed,
}

/// The instance that a call was sent to.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct At {
    /// Which one.
    pub instance: InstanceId,
    /// Where it was dialed; `None` if it has left discovery meanwhile, or takes requests by a broker or by HTTP.
    pub addr: Option<SocketAddr>,
    /// The tries that the call had made by then, this one and those of calls before it included.
    pub attempts: u32,
}

/// Where the last try of a call went, behind what became of it: nothing if that is not known.
struct Last<'a>(&'a Option<Box<At>>);

impl fmt::Display for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(at) if at.attempts > 1 => write!(f, " ({at}, the last of {} tries)", at.attempts),
            Some(at) => write!(f, " ({at})"),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance {}", self.instance)?;
        self.addr.map_or(Ok(()), |addr| write!(f, " at {addr}"))
    }
}

/// What kind of end a call had. Unlike errors these are all there are, so that code that reacts to each of them, with a status
/// or an exit code, is told by the compiler.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// There is no instance, or not the one asked for.
    NoInstance,
    /// This side cannot make such calls as it is set up.
    Local,
    /// The worker cannot be reached, is leaving, does not serve the endpoint or refuses the call.
    Unavailable,
    /// The worker or this caller has no room.
    NoRoom,
    /// Time ran out: a deadline's, or a silent worker's.
    TimedOut,
    /// The call was cancelled.
    Cancelled,
    /// The handler failed.
    Handler,
    /// The connection was lost, or the worker fell silent or broke the protocol.
    Lost,
    /// An item or the call's header is too large.
    TooLarge,
    /// This caller has been shut down.
    Closed,
}

/// What a caller lacks to bring a request to a worker.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// It was built without the feature of the transport's name.
    Feature,
    /// It was not told which server to use.
    Configuration,
}

impl CallError {
    /// The side that is to blame.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::NoInstances
            | Self::Unreachable { .. }
            | Self::Disconnected { .. }
            | Self::NoResponders
            | Self::NoneEligible
            | Self::NoPlace { .. }
            | Self::Throttled
            | Self::NoBroker { .. } => Blame::Network,
            Self::Protocol { fault, .. } => fault.blame(),
            Self::Rejected { .. } | Self::NotAccepted | Self::NoResponse | Self::Idle | Self::Failed { .. } => {
                Blame::Peer
            }
            Self::UnknownInstance(_)
            | Self::DeadlineExceeded
            | Self::Cancelled
            | Self::TooLarge { .. }
            | Self::ItemTooLarge { .. }
            | Self::HeaderTooLarge
            | Self::AttributesTooLarge
            | Self::SlowReader { .. }
            | Self::CannotListen(_)
            | Self::NotEquipped { .. }
            | Self::Overloaded
            | Self::NoBudget
            | Self::Closed => Blame::Local,
        }
    }

    /// Whether a worker that leaves has refused the call.
    pub(super) const fn is_of_one_that_leaves(&self) -> bool {
        matches!(self, Self::Rejected { code: RejectCode::Draining, .. })
    }

    /// Whether the same call may be made again without any risk that it runs twice, with a chance to fare better.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::NoInstances
            | Self::NoneEligible
            | Self::NoPlace { .. }
            | Self::Throttled
            | Self::Unreachable { .. }
            | Self::NoResponders
            | Self::CannotListen(_)
            | Self::Overloaded => true,
            Self::Rejected { code, .. } => match code {
                RejectCode::Overloaded | RejectCode::UnknownEndpoint | RejectCode::Draining | RejectCode::Other => true,
                RejectCode::Expired | RejectCode::TooLarge | RejectCode::NotServing | RejectCode::Cancelled => false,
            },
            Self::Disconnected { delivered, .. } | Self::NoBroker { delivered } | Self::Protocol { delivered, .. } => {
                !*delivered
            }
            _ => false,
        }
    }

    /// Whether the same request, or what is left of it, may fare better at another worker, for an application to which it
    /// does no harm that two have worked on it. That is so if the worker refused it, was lost or fell silent, or said that it
    /// leaves; not for what a handler answers, what this side decides, and what every worker would say as well.
    pub fn is_migratable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::NoResponders
            | Self::NoBroker { .. }
            | Self::Disconnected { .. }
            | Self::NotAccepted
            | Self::NoResponse
            | Self::Idle => true,
            Self::Protocol { fault, .. } => fault.blame() != Blame::Local,
            Self::Rejected { .. } => self.is_retryable(),
            // The words of a worker that leaves or cannot go on, Dynamo's too; a handler that chooses them means the same.
            Self::Failed { reason, .. } => {
                [Key::EngineShutdown, Key::StreamIncomplete, Key::WorkerUnavailable, Key::WorkerOverloaded]
                    .iter()
                    .any(|key| key.name() == &**reason)
            }
            _ => false,
        }
    }

    /// With where the try went that it is about, if it has a place for that and does not say so yet.
    pub(super) fn located(mut self, last: impl FnOnce() -> Option<Box<At>>) -> Self {
        if let Self::Rejected { at, .. } | Self::Unreachable { at, .. } | Self::Disconnected { at, .. } = &mut self
            && at.is_none()
        {
            *at = last();
        }
        self
    }

    /// The canonical class, as Dynamo names it.
    pub const fn class(&self) -> Class {
        match self {
            Self::NoInstances
            | Self::Unreachable { .. }
            | Self::Disconnected { .. }
            | Self::NoResponders
            | Self::NoBroker { .. }
            | Self::CannotListen(_)
            | Self::NotEquipped { .. }
            | Self::Closed => Class::Unavailable,
            Self::UnknownInstance(_) => Class::NotFound,
            Self::Rejected { code, .. } => match code {
                RejectCode::Overloaded => Class::CapacityExhausted,
                RejectCode::Expired => Class::DeadlineExceeded,
                RejectCode::TooLarge => Class::PayloadTooLarge,
                RejectCode::Cancelled => Class::Cancelled,
                _ => Class::Unavailable,
            },
            Self::Protocol { .. } => Class::BackendProtocol,
            Self::NotAccepted | Self::NoResponse | Self::Idle | Self::DeadlineExceeded => Class::DeadlineExceeded,
            Self::Cancelled => Class::Cancelled,
            Self::Failed { class, .. } => *class,
            Self::TooLarge { .. } | Self::ItemTooLarge { .. } | Self::HeaderTooLarge | Self::AttributesTooLarge => {
                Class::PayloadTooLarge
            }
            Self::Overloaded
            | Self::NoBudget
            | Self::NoneEligible
            | Self::NoPlace { .. }
            | Self::Throttled
            | Self::SlowReader { .. } => Class::CapacityExhausted,
        }
    }

    /// The reason's key in Dynamo's catalogue, of the error's [class](Self::class). A handler that calls on and fails by
    /// this error tells it to its own caller: it is about the worker behind, not about the call that the handler answers.
    /// Empty if the worker gave none.
    pub fn reason(&self) -> &str {
        let key = match self {
            Self::Failed { reason, .. } => return reason,
            Self::NoInstances | Self::CannotListen(_) | Self::NotEquipped { .. } | Self::Closed => {
                Key::BackendUnavailable
            }
            Self::Unreachable { .. } | Self::NoResponders | Self::NoBroker { delivered: false } => {
                Key::BackendCannotConnect
            }
            Self::Disconnected { .. } | Self::NoBroker { .. } => Key::BackendDisconnected,
            Self::UnknownInstance(_) => Key::NotFound,
            Self::Rejected { code, .. } => match code {
                RejectCode::Overloaded => Key::WorkerOverloaded,
                RejectCode::Expired => Key::BackendResponseTimeout,
                RejectCode::TooLarge => Key::PayloadTooLarge,
                RejectCode::Cancelled => Key::BackendCancelled,
                _ => Key::WorkerUnavailable,
            },
            Self::Protocol { .. } => Key::BackendProtocol,
            Self::NotAccepted | Self::NoResponse | Self::Idle | Self::DeadlineExceeded => Key::BackendResponseTimeout,
            Self::Cancelled => Key::BackendCancelled,
            Self::TooLarge { .. } | Self::ItemTooLarge { .. } | Self::HeaderTooLarge | Self::AttributesTooLarge => {
                Key::PayloadTooLarge
            }
            Self::Overloaded | Self::NoBudget | Self::NoneEligible | Self::NoPlace { .. } | Self::Throttled => {
                Key::PoolExhausted
            }
            Self::SlowReader { .. } => Key::CapacityExhausted,
        };
        key.name()
    }

    /// The kind of end it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NoInstances | Self::UnknownInstance(_) => Kind::NoInstance,
            Self::NotEquipped { .. } | Self::CannotListen(_) => Kind::Local,
            Self::Unreachable { .. } | Self::NoResponders | Self::NoBroker { delivered: false } => Kind::Unavailable,
            Self::Rejected { code, .. } => match code {
                RejectCode::UnknownEndpoint | RejectCode::Draining | RejectCode::NotServing | RejectCode::Other => {
                    Kind::Unavailable
                }
                RejectCode::Overloaded => Kind::NoRoom,
                RejectCode::Expired => Kind::TimedOut,
                RejectCode::TooLarge => Kind::TooLarge,
                RejectCode::Cancelled => Kind::Cancelled,
            },
            Self::Overloaded
            | Self::NoBudget
            | Self::NoneEligible
            | Self::NoPlace { .. }
            | Self::Throttled
            | Self::SlowReader { .. } => Kind::NoRoom,
            Self::NotAccepted | Self::NoResponse | Self::Idle | Self::DeadlineExceeded => Kind::TimedOut,
            Self::Cancelled => Kind::Cancelled,
            Self::Failed { class, .. } => match class {
                // A worker that leaves ends its calls like this.
                Class::Unavailable => Kind::Unavailable,
                Class::BackendProtocol => Kind::Lost,
                Class::PayloadTooLarge => Kind::TooLarge,
                Class::InvalidRequest
                | Class::Unauthenticated
                | Class::PermissionDenied
                | Class::NotFound
                | Class::Conflict
                | Class::UnsupportedMedia
                | Class::RateLimited
                | Class::CapacityExhausted
                | Class::Cancelled
                | Class::DeadlineExceeded
                | Class::NotImplemented
                | Class::Internal => Kind::Handler,
            },
            Self::Disconnected { .. } | Self::NoBroker { delivered: true } | Self::Protocol { .. } => Kind::Lost,
            Self::TooLarge { .. } | Self::ItemTooLarge { .. } | Self::HeaderTooLarge | Self::AttributesTooLarge => {
                Kind::TooLarge
            }
            Self::Closed => Kind::Closed,
        }
    }

    /// The error of an ending, if it is one.
    pub(crate) fn from_ending(ending: Ending) -> Option<Self> {
        let class = ending.class?;
        Some(match class {
            // A handler whose own backend was cancelled has failed; nobody cancelled this call.
            Class::Cancelled if &*ending.reason != "backend.cancelled" => Self::Cancelled,
            Class::DeadlineExceeded if &*ending.reason == "request.deadline_exceeded" => Self::DeadlineExceeded,
            _ => Self::Failed { class, reason: ending.reason, message: ending.message },
        })
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = |delivered: &bool| if *delivered { "the worker may have seen the call" } else { "not delivered" };
        match self {
            Self::NoInstances => f.write_str("no instance of the endpoint is known"),
            Self::UnknownInstance(id) => write!(f, "instance {id} is not known"),
            Self::Unreachable { at, .. } => write!(f, "the worker cannot be reached{}", Last(at)),
            // Its own words say it all.
            Self::Rejected { code: RejectCode::Other, message, at, .. } => {
                write!(f, "the worker refused the call: {message}{}", Last(at))
            }
            Self::Rejected { code, message, at, .. } => {
                write!(f, "the worker refused the call ({code:?}): {message}{}", Last(at))
            }
            Self::Disconnected { delivered, at, .. } => {
                write!(f, "connection lost{}; {}", Last(at), seen(delivered))
            }
            Self::NoResponders => f.write_str("the worker cannot be reached: nobody listens to its subject"),
            Self::NoBroker { delivered: false } => {
                f.write_str("the worker cannot be reached: no connection to the broker")
            }
            Self::NoBroker { delivered } => {
                write!(f, "connection lost: no connection to the broker; {}", seen(delivered))
            }
            Self::Protocol { delivered, .. } => write!(f, "connection ended; {}", seen(delivered)),
            Self::NotAccepted => f.write_str("the worker gave no sign of life in time"),
            Self::NoResponse => f.write_str("the worker took the call but brought no response in time"),
            Self::Idle => f.write_str("no item and no sign of life for too long"),
            Self::DeadlineExceeded => f.write_str("the call's deadline passed"),
            Self::Cancelled => f.write_str("the call was cancelled"),
            Self::Failed { class, reason, message } if reason.is_empty() => write!(f, "{}: {message}", class.name()),
            Self::Failed { class, reason, message } => write!(f, "{} ({reason}): {message}", class.name()),
            Self::TooLarge { limit } => write!(f, "an item is larger than the {limit} bytes the worker takes"),
            Self::ItemTooLarge { declared, limit } => {
                write!(f, "an item of the response has {declared} bytes, and this caller takes {limit} (`max_item`)")
            }
            Self::NoneEligible => f.write_str("the routing policy's filters rule out every instance that is known"),
            Self::NoPlace { waited, retry_after } => no_place(*waited, *retry_after, f),
            Self::Throttled => f.write_str("too many calls of this endpoint are refused for one more to be made"),
            Self::AttributesTooLarge => {
                f.write_str("attributes for the routing policy exceed 64 pairs or 64 KiB together")
            }
            Self::HeaderTooLarge => f.write_str("path, ids and metadata together exceed 64 KiB"),
            Self::SlowReader { limit } => write!(f, "more than {limit} bytes of the response are unread"),
            Self::CannotListen(_) => f.write_str("no listener for responses"),
            Self::NotEquipped { transport, missing: Missing::Feature } => {
                write!(
                    f,
                    "the worker takes requests by {transport} only; build with the feature `{transport}` to call it"
                )
            }
            Self::NotEquipped { transport, missing: Missing::Configuration } => {
                write!(f, "the worker takes requests by {transport} only, and no {transport} server is configured here")
            }
            Self::Overloaded => f.write_str("this caller has too many calls under way"),
            Self::NoBudget => f.write_str("too many calls have failed for this one to be made again"),
            Self::Closed => f.write_str("this caller has been shut down"),
        }
    }
}

fn no_place(waited: Duration, retry_after: Option<Duration>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("every instance is full")?;
    if waited.is_zero() {
        f.write_str(", and so is the queue of calls that wait")?;
    } else {
        write!(f, "; no place was free for {waited:.1?}")?;
    }
    retry_after.map_or(Ok(()), |after| write!(f, "; come back in {after:.1?}"))
}

impl core::error::Error for CallError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Unreachable { reason, .. } | Self::CannotListen(reason) | Self::Disconnected { reason, .. } => {
                Some(reason)
            }
            Self::Protocol { fault, .. } => Some(fault),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::error::Error as _;
    use std::string::ToString;

    use super::*;
    use crate::chain::Chain;

    #[test]
    fn the_cause_of_a_lost_connection_is_its_source_and_not_in_its_text() {
        let reset = CallError::Disconnected { reason: CloseReason::Reset, delivered: true, at: None };
        assert_eq!(reset.to_string(), "connection lost; the worker may have seen the call");
        assert_eq!(reset.source().and_then(|source| source.downcast_ref()), Some(&CloseReason::Reset));
        let silent = CallError::Protocol { fault: Fault::Silent, delivered: false };
        assert_eq!(Chain(&silent).to_string(), "connection ended; not delivered: the peer stays silent");
        let refused = |at| CallError::Unreachable { reason: CloseReason::Refused, at };
        assert_eq!(Chain(&refused(None)).to_string(), "the worker cannot be reached: connection refused");
        assert!(CallError::Idle.source().is_none());
    }

    #[test]
    fn a_worker_that_is_lost_or_cannot_be_reached_is_named_with_its_address() {
        let tried = |addr, attempts| Some(Box::new(At { instance: InstanceId(0xab), addr, attempts }));
        let at = |addr| tried(addr, 1);
        let addr = SocketAddr::from(([127, 0, 0, 1], 80));
        let refused = CallError::Unreachable { reason: CloseReason::Refused, at: at(Some(addr)) };
        assert_eq!(refused.to_string(), "the worker cannot be reached (instance ab at 127.0.0.1:80)");
        let lost = CallError::Disconnected { reason: CloseReason::Eof, delivered: false, at: at(None) };
        assert_eq!(lost.to_string(), "connection lost (instance ab); not delivered");
        let (code, message) = (RejectCode::Overloaded, "full".into());
        let refused = CallError::Rejected { code, retry_after: None, message, at: tried(Some(addr), 3) };
        let text = "the worker refused the call (Overloaded): full (instance ab at 127.0.0.1:80, the last of 3 tries)";
        assert_eq!(refused.to_string(), text);
    }

    #[test]
    fn every_reason_is_one_of_the_catalogue_and_of_its_errors_class() {
        let rejected = |code| CallError::Rejected { code, retry_after: None, message: "".into(), at: None };
        let codes = [
            RejectCode::Overloaded,
            RejectCode::UnknownEndpoint,
            RejectCode::Draining,
            RejectCode::Expired,
            RejectCode::TooLarge,
            RejectCode::NotServing,
            RejectCode::Cancelled,
            RejectCode::Other,
        ];
        let others = [
            CallError::NoInstances,
            CallError::NoResponders,
            CallError::NoBroker { delivered: false },
            CallError::NoBroker { delivered: true },
            CallError::UnknownInstance(InstanceId(1)),
            CallError::Unreachable { reason: CloseReason::Refused, at: None },
            CallError::Disconnected { reason: CloseReason::Eof, delivered: true, at: None },
            CallError::Protocol { fault: Fault::Silent, delivered: true },
            CallError::NotAccepted,
            CallError::NoResponse,
            CallError::Idle,
            CallError::DeadlineExceeded,
            CallError::Cancelled,
            CallError::TooLarge { limit: 1 },
            CallError::ItemTooLarge { declared: 2, limit: 1 },
            CallError::HeaderTooLarge,
            CallError::AttributesTooLarge,
            CallError::NoneEligible,
            CallError::NoPlace { waited: Duration::ZERO, retry_after: None },
            CallError::Throttled,
            CallError::SlowReader { limit: 1 },
            CallError::CannotListen(CloseReason::NoPorts),
            CallError::NotEquipped { transport: "nats", missing: Missing::Feature },
            CallError::Overloaded,
            CallError::NoBudget,
            CallError::Closed,
        ];
        for error in codes.into_iter().map(rejected).chain(others) {
            let key = Key::from_name(error.reason());
            assert_eq!(key.map(Key::class), Some(error.class()), "{error}: {}", error.reason());
        }
    }
}
