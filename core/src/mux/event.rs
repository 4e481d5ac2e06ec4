//! What passes between a connection and its owner: what a stream is opened with, what happens on it, how it ends.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::buf::slab::Key;
use crate::stats::counters;
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::mux::message::{CancelMode, End, RejectCode, Status};

/// Which side of the connection this is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Dialed; its streams are odd.
    Dialer,
    /// Accepted; its streams are even.
    Acceptor,
}

/// What a stream is opened with. Shared, because a call that is retried opens again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opening {
    /// The instance's path, which all calls to it share.
    pub path: Arc<str>,
    /// The call's id.
    pub request_id: String,
    /// When the caller gives up.
    pub deadline: Option<Instant>,
    /// W3C `traceparent`, verbatim.
    pub traceparent: Option<String>,
    /// W3C `tracestate`, verbatim.
    pub tracestate: Option<String>,
    /// Name of the payload's codec.
    pub codec: Option<String>,
    /// Among calls that wait at the worker the higher goes first. Default 0.
    pub priority: i8,
    /// Whose call it is: tenants whose calls wait at the worker are served in turn. Default: the connection's.
    pub tenant: Option<String>,
    /// Tries of the same request before this one.
    pub attempts: u32,
    /// The correlation id that a client of the caller's has sent, any text.
    pub x_request_id: Option<String>,
    /// Pairs handed to the handler unchanged.
    pub metadata: Vec<(String, String)>,
}

impl Opening {
    /// Whether the open frame can carry all of it: 65 535 bytes with the fields' heads.
    pub fn fits(&self) -> bool {
        // The time left, the priority and the tries before.
        let mut len = 11 + 4 + 7;
        let maybe = [&self.traceparent, &self.tracestate, &self.codec, &self.tenant, &self.x_request_id];
        let maybe = maybe.map(Option::as_deref);
        for text in [Some(&*self.path), Some(self.request_id.as_str())].into_iter().chain(maybe).flatten() {
            len += 3 + text.len();
        }
        len += self.metadata.iter().map(|(key, value)| 5 + key.len() + value.len()).sum::<usize>();
        len <= usize::from(u16::MAX)
    }
}

/// What happened on the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The peer has introduced itself; streams may be opened.
    Up,
    /// The peer opened a stream. Give it a tag with `Connection::set_tag`.
    Opened(Key),
    /// Items or the outcome can be read. Not repeated until `Connection::recv` has said `Pending`.
    Readable(u64),
    /// A writer that was turned away may try again.
    Writable(u64),
    /// The peer's sign of life.
    Status(u64, Status),
    /// The peer cancels its stream.
    Cancelled(u64, CancelMode),
    /// The peer refused the stream; it is gone and never ran.
    Rejected {
        /// The owner's name of the stream.
        tag: u64,
        /// Why.
        code: RejectCode,
        /// Not before this many milliseconds; 0 = no advice.
        retry_after_ms: u32,
        /// For people.
        message: Box<str>,
    },
    /// A stream the peer opened stood still for too long and is being ended, which the peer is told.
    Stalled(u64, Stall),
    /// There is no memory for an item of the stream: nothing more can be read from it, and what still arrives is dropped. Its
    /// owner ends it.
    Starved(u64),
    /// The peer takes no new streams.
    GoingAway,
    /// The peer has said how much it has to do: the header of the frame, to be read with
    /// [`Load::parse`](crate::wire::mux::load::Load::parse). Only the last word counts.
    Load(Box<[u8]>),
}

/// What a stream waited for in vain.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Stall {
    /// Its reader waited for an item, or the end, of what the opener sends.
    Items,
    /// A queued item waited for the opener's credit.
    Credit,
}

/// What a reader gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recv {
    /// The next item.
    Item(Bytes),
    /// Nothing yet; an event will tell.
    Pending,
    /// Nothing more.
    End(Ending),
}

/// How a direction ended; owned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ending {
    /// What went wrong; `None` means well.
    pub class: Option<Class>,
    /// The reason's catalogue key; may be empty.
    pub reason: Box<str>,
    /// A message for people; may be empty.
    pub message: Box<str>,
}

impl Ending {
    /// It ended well.
    pub fn ok() -> Self {
        Self::default()
    }

    /// It ended badly.
    pub fn failed(class: Class, reason: &str, message: &str) -> Self {
        Self { class: Some(class), reason: reason.into(), message: message.into() }
    }

    /// The wire form.
    pub(super) fn view(&self) -> End<'_> {
        End { class: self.class, reason: &self.reason, message: &self.message }
    }
}

impl From<End<'_>> for Ending {
    fn from(end: End<'_>) -> Self {
        Self { class: end.class, reason: end.reason.into(), message: end.message.into() }
    }
}

counters! {
    /// Counters of one connection; merged by addition.
    pub struct Stats {
        /// Frames read.
        pub frames_in,
        /// Frames written.
        pub frames_out,
        /// Items read.
        pub items_in,
        /// Items written.
        pub items_out,
        /// Body bytes read.
        pub bytes_in,
        /// Body bytes written.
        pub bytes_out,
        /// Streams opened by either side.
        pub streams,
        /// Times that a stream had something to write and no credit for it, of its own or of its connection.
        pub credit_stalls,
    }
}

/// An event on its way to the owner. Those of a stream find its tag when they are taken: a stream may be opened and
/// cancelled in one breath, before the owner has named it.
#[derive(Debug)]
pub(super) enum Queued {
    /// One without a stream, or of a stream that is gone.
    Whole(Event),
    /// See [`Event::Load`].
    Load,
    /// See [`Event::Readable`].
    Readable(Key),
    /// See [`Event::Writable`].
    Writable(Key),
    /// See [`Event::Status`].
    Status(Key, Status),
    /// See [`Event::Cancelled`].
    Cancelled(Key, CancelMode),
    /// See [`Event::Starved`].
    Starved(Key),
}
