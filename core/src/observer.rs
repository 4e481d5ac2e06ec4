//! What calls and requests do, told to those that watch: the one place from which spans, histograms and hooks are made.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use crate::caller::error::{At, CallError};
use crate::caller::request::{Again, CallId};
use crate::id::InstanceId;
use crate::mux::event::Ending;
use crate::time::Instant;
use crate::wire::mux::message::{Open, RejectCode};
use crate::wire::trace_context::TraceParent;
use crate::worker::job::{Cause, JobId};

/// Watches the calls that a core makes and the requests that it serves.
///
/// Each method is called on the core's thread where the thing happens, and does nothing unless it is written. The machine is
/// borrowed meanwhile: a method takes notes and returns. It may make no call on its own core and take nothing from the handles of
/// [`local`](crate::local), or it panics. Ids are unique on their core for as long as the thing is there, and times are those of
/// the core's clock ([`Instant`]).
///
/// ```text
///  call_begun ─▶ (call_tried ─▶ call_sent? ─▶ try_failed)* ─▶ call_tried? ─▶ call_sent? ─▶ call_answered? ─▶ call_waited* ─▶ call_ended
///  request_admitted ─▶ request_running? ─▶ request_ended
/// ```
pub trait Observer {
    /// A call begins. The answer, if there is one, is the parent that its tries name in place of the request's: the span of the
    /// call.
    fn call_begun(&self, _call: CallId, _begun: &CallBegun<'_>) -> Option<TraceParent> {
        None
    }

    /// A call could not begin: it has no id, and the error is all that its caller gets.
    fn call_refused(&self, _endpoint: &str, _error: &CallError) {}

    /// A call is sent to an instance. The answer, if there is one, is the parent that this try names: the span of the try. To be
    /// given for each try of a call or for none.
    fn call_tried(&self, _call: CallId, _tried: &CallTried<'_>) -> Option<TraceParent> {
        None
    }

    /// The try has a connection, and its request is queued there; or it is with its carrier.
    fn call_sent(&self, _call: CallId, _now: Instant) {}

    /// A try has failed, and the call goes on: after a pause, or at another instance at once.
    fn try_failed(&self, _call: CallId, _error: &CallError, _now: Instant) {}

    /// The first item has come, or the end of a call that has none.
    fn call_answered(&self, _call: CallId, _times: &CallTimes, _now: Instant) {}

    /// The reader of a call had taken all that had come, and more is there, or the end: it has waited so long. Not said of the first
    /// item; items that come before the reader asks for them are not told of.
    fn call_waited(&self, _call: CallId, _endpoint: &str, _time: Duration) {}

    /// A call has its outcome, and its last try with it. Said once for each that has begun.
    fn call_ended(&self, _call: CallId, _ended: &CallEnded<'_>) {}

    /// A request has a place: it runs, or waits for its turn.
    fn request_admitted(&self, _request: JobId, _admitted: &RequestAdmitted<'_>) {}

    /// A request is handed to its handler. The answer, if there is one, is the parent of what the handler does in place of the
    /// caller's: the span of the request.
    fn request_running(&self, _request: JobId, _running: &RequestRunning<'_>) -> Option<TraceParent> {
        None
    }

    /// A request is over for this side. Said once for each that was admitted.
    fn request_ended(&self, _request: JobId, _ended: &RequestEnded<'_>) {}
}

impl fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// A call that begins.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CallBegun<'a> {
    /// The endpoint's name, see [`Caller::name`](crate::caller::machine::Caller::name).
    pub endpoint: &'a str,
    /// The request's id.
    pub id: &'a str,
    /// W3C `traceparent`, as the request has it.
    pub traceparent: Option<&'a str>,
    /// W3C `tracestate`, likewise.
    pub tracestate: Option<&'a str>,
    /// The correlation id of a client, likewise.
    pub x_request_id: Option<&'a str>,
    /// Bytes of the request; `None` if its items follow.
    pub bytes: Option<usize>,
    /// Why the same request is called once more, and how many tries there have been.
    pub again: Option<(Again, u32)>,
    /// Now.
    pub now: Instant,
}

/// A call that is sent to an instance.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CallTried<'a> {
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// Which instance.
    pub instance: InstanceId,
    /// The routing policy that has picked it, see [`AnyPolicy::name`](crate::route::policy::any::AnyPolicy::name); `direct` for a
    /// call that names its instance.
    pub policy: &'static str,
    /// Where it is dialed; `None` if a broker or HTTP brings the request there.
    pub addr: Option<SocketAddr>,
    /// Which try it is, from 1; those of calls before it count.
    pub attempt: u32,
    /// When the call began.
    pub begun: Instant,
    /// Now.
    pub now: Instant,
}

/// How far a call has got, and when. What is of a try is of the last one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CallTimes {
    /// When it began.
    pub begun: Instant,
    /// When it was sent to an instance.
    pub tried: Option<Instant>,
    /// When its request was queued on a connection.
    pub sent: Option<Instant>,
    /// When the worker gave its first sign of life: an ack, a status, an item.
    pub accepted: Option<Instant>,
    /// When the first item came, or the end in its place.
    pub answered: Option<Instant>,
}

/// A call that has its outcome.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CallEnded<'a> {
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// The outcome.
    pub outcome: Result<(), &'a CallError>,
    /// Whether it was asked to stop before.
    pub stopped: bool,
    /// Whether nobody reads it any more: it was dropped before its end.
    pub left: bool,
    /// Tries, those of calls before it included.
    pub attempts: u32,
    /// Where it was tried last.
    pub at: Option<At>,
    /// How far it has got.
    pub times: CallTimes,
    /// Now.
    pub now: Instant,
}

/// A request that has a place.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RequestAdmitted<'a> {
    /// The endpoint's name, see [`Worker::name`](crate::worker::machine::Worker::name).
    pub endpoint: &'a str,
    /// What it was opened with, trace context included.
    pub open: Open<'a>,
    /// When its caller gives up.
    pub deadline: Option<Instant>,
    /// Now.
    pub now: Instant,
}

/// A request whose handler begins.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RequestRunning<'a> {
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// When it was admitted: it has waited since.
    pub admitted: Instant,
    /// Now.
    pub now: Instant,
}

/// A request that is over.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RequestEnded<'a> {
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// What its handler ended it with; `None` if it has never run.
    pub ending: Option<&'a Ending>,
    /// Why it was cancelled, if it was; unless it was asked to stop, nobody heard how it ended.
    pub cause: Option<Cause>,
    /// What its caller was told of one that has never run; `None` too if it was told nothing, or that by its answer.
    pub refused: Option<RejectCode>,
    /// When it was admitted.
    pub admitted: Instant,
    /// When it was handed to its handler.
    pub running: Option<Instant>,
    /// Now.
    pub now: Instant,
}

/// Several observers as one, each of which is told in turn. Where an answer counts, it is that of the last that gives one.
#[derive(Debug)]
pub struct Several(pub Vec<Rc<dyn Observer>>);

impl Observer for Several {
    fn call_begun(&self, call: CallId, begun: &CallBegun<'_>) -> Option<TraceParent> {
        last(&self.0, |one| one.call_begun(call, begun))
    }

    fn call_refused(&self, endpoint: &str, error: &CallError) {
        self.0.iter().for_each(|one| one.call_refused(endpoint, error));
    }

    fn call_tried(&self, call: CallId, tried: &CallTried<'_>) -> Option<TraceParent> {
        last(&self.0, |one| one.call_tried(call, tried))
    }

    fn call_sent(&self, call: CallId, now: Instant) {
        self.0.iter().for_each(|one| one.call_sent(call, now));
    }

    fn try_failed(&self, call: CallId, error: &CallError, now: Instant) {
        self.0.iter().for_each(|one| one.try_failed(call, error, now));
    }

    fn call_answered(&self, call: CallId, times: &CallTimes, now: Instant) {
        self.0.iter().for_each(|one| one.call_answered(call, times, now));
    }

    fn call_waited(&self, call: CallId, endpoint: &str, time: Duration) {
        self.0.iter().for_each(|one| one.call_waited(call, endpoint, time));
    }

    fn call_ended(&self, call: CallId, ended: &CallEnded<'_>) {
        self.0.iter().for_each(|one| one.call_ended(call, ended));
    }

    fn request_admitted(&self, request: JobId, admitted: &RequestAdmitted<'_>) {
        self.0.iter().for_each(|one| one.request_admitted(request, admitted));
    }

    fn request_running(&self, request: JobId, running: &RequestRunning<'_>) -> Option<TraceParent> {
        last(&self.0, |one| one.request_running(request, running))
    }

    fn request_ended(&self, request: JobId, ended: &RequestEnded<'_>) {
        self.0.iter().for_each(|one| one.request_ended(request, ended));
    }
}

fn last(all: &[Rc<dyn Observer>], tell: impl Fn(&dyn Observer) -> Option<TraceParent>) -> Option<TraceParent> {
    all.iter().fold(None, |before, one| tell(&**one).or(before))
}
