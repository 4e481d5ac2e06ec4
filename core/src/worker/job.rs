//! One call at the worker: where it came from, and what the application hears of it.

use bytes::Bytes;

use crate::buf::fifo::Fifo;
use crate::buf::slab::Key;
use crate::buf::wheel::TimerId;
use crate::overload::queue::Ticket;
use crate::time::Instant;
use crate::wire::trace_context::TraceParent;
use crate::worker::memory::Charge;

/// One call at the worker.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct JobId(pub(crate) Key);

/// What the application hears.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A call was admitted: run it. `endpoint` is the number given to [`Worker::serve`](crate::worker::machine::Worker::serve).
    Request {
        /// The call.
        job: JobId,
        /// Whose it is.
        endpoint: u32,
    },
    /// Items of the request, or its end, can be read.
    Readable(JobId),
    /// A writer that was turned away may try again.
    Writable(JobId),
    /// The call is to end.
    Cancelled(JobId, Cause),
    /// After [`Worker::drain_endpoint`](crate::worker::machine::Worker::drain_endpoint): every call of the endpoint has ended, or
    /// `drain_timeout` has passed.
    EndpointDrained {
        /// Which one.
        endpoint: u32,
        /// How many calls that bound ended.
        cut_off: u64,
    },
    /// After [`Worker::drain`](crate::worker::machine::Worker::drain): every call has ended and every connection of before has closed with its last words
    /// written; or `drain_timeout` has passed. Said once.
    Drained,
}

/// Why a call is cancelled.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// The caller wants it to finish early; what it still sends is read.
    Stop,
    /// The caller has left it; nothing it sends is read.
    Kill,
    /// Its deadline passed, or its caller kept it waiting for too long.
    Deadline,
    /// Its connection is gone.
    Disconnected,
    /// The worker's drain took too long.
    Drain,
}

impl Cause {
    /// Whether anything the call still sends will be read.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Stop)
    }
}

/// One call.
///
/// ```text
///  Queued ──slot free──▶ Running ──finish()──▶ gone
///    ├──cancelled, expired, disconnected──▶ gone (never ran)
///                           └──killed, expired, disconnected──▶ Detached ──finish()──▶ gone
/// ```
/// A detached call has no stream any more; it keeps its running slot until the application lets go of it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) endpoint: u32,
    /// Where it came from and its answer goes; `None` once detached.
    pub(super) stream: Option<Place>,
    pub(super) running: bool,
    /// Its place in the queue, while it waits.
    pub(super) ticket: Option<Ticket>,
    /// When it began, if that is of interest, until it has its first item.
    pub(super) began: Option<Instant>,
    /// When it was admitted.
    pub(super) came: Instant,
    /// When it was handed over.
    pub(super) ran: Option<Instant>,
    /// Why it was cancelled.
    pub(super) cause: Option<Cause>,
    /// What it does is done under this span, in place of the caller's.
    pub(super) span: Option<TraceParent>,
    /// The connection that brought it, in whose share it counts.
    pub(super) from: Option<Key>,
    pub(super) header: Bytes,
    pub(super) source: Source,
    pub(super) deadline: Option<Instant>,
    pub(super) timer: Option<TimerId>,
    /// What it holds that no credit covers.
    pub(super) charge: Charge,
}

/// Where a call came from and its answer goes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// A connection and a stream on it.
    Mux(Key, Key),
    /// A call-home connection of its own.
    CallHome(Key),
}

impl Place {
    pub(super) const fn link(self) -> Key {
        match self {
            Self::Mux(link, _) | Self::CallHome(link) => link,
        }
    }

    pub(super) const fn stream(self) -> Option<Key> {
        match self {
            Self::Mux(_, stream) => Some(stream),
            Self::CallHome(_) => None,
        }
    }
}

/// Where the items of a request come from.
#[derive(Debug)]
pub(super) enum Source {
    /// The mux stream it came on.
    Mux,
    /// Nowhere: those that are left are here, with the end behind them.
    Here(Fifo<Bytes>),
    /// A call-home connection of their own.
    Fetched(Key),
}

impl Source {
    /// The connection that is there for nothing else.
    pub(super) const fn link(&self) -> Option<Key> {
        match self {
            Self::Fetched(link) => Some(*link),
            Self::Mux | Self::Here(_) => None,
        }
    }
}
