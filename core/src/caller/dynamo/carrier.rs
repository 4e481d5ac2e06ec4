//! A request that a broker or HTTP brings to the worker, and what comes of it.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::caller::error::Missing;
use crate::caller::request::CallId;
use crate::caller::target::Transport;
use crate::protocol::CloseReason;

/// What bounds the requests that carriers bring.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Requests that a carrier has and that are not acked; more wait. Default 1024.
    pub max_unacked: usize,
    /// Bytes of their bodies; one larger request goes alone. Default 256 MiB.
    pub max_unacked_bytes: usize,
    /// From handing a request over to its ack, by NATS. Default 10 s, as Dynamo's.
    pub nats_timeout: Duration,
    /// The same by HTTP. Default 5 s, as Dynamo's.
    pub http_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_unacked: 1024,
            max_unacked_bytes: 256 << 20,
            nats_timeout: Duration::from_secs(10),
            http_timeout: Duration::from_secs(5),
        }
    }
}

/// One try of one call: what its answer is addressed to.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    pub(in crate::caller) call: CallId,
    pub(in crate::caller) number: u64,
}

/// Headers of a request, each name once.
pub type Fields = Vec<(&'static str, String)>;

/// A request to be brought to a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// What the answer is addressed to.
    pub ticket: Ticket,
    /// Where to. Of a NATS subject's spellings the one to use stands as `subject`.
    pub transport: Transport,
    /// Headers as Dynamo names them, but for the time of sending, which this machine does not know.
    pub headers: Fields,
    /// Its two-part frame up to the body.
    pub head: Bytes,
    /// The rest of that.
    pub body: Bytes,
    /// Time for all of it, until the ack.
    pub timeout: Duration,
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The worker's ack; an empty text accepts.
    Ack(Bytes),
    /// The worker's ack by HTTP: status and text.
    Http(u16, Bytes),
    /// It was certainly not delivered.
    Unreachable(CloseReason),
    /// It was not delivered: the broker knows nobody who takes requests at that subject.
    NoResponders,
    /// There is no connection to the broker.
    NoBroker {
        /// The request was on its way when it was lost, and no answer will follow.
        sent: bool,
    },
    /// It was sent, and no answer will follow.
    Lost(CloseReason),
    /// No answer in time.
    TimedOut,
    /// It is larger than the transport carries, and was not sent; the largest body that would fit, in bytes.
    TooLarge(u64),
    /// There is no room to hand it over.
    Full,
    /// There is no such transport here.
    NotEquipped(Missing),
}
