//! What a call's response does to it: its pieces, its end, the loss of its connection.

use core::time::Duration;

use bytes::Bytes;

use crate::buf::gate::BURST;
use crate::buf::slab::Key;
use crate::caller::call::State;
use crate::caller::dynamo::failures::{failed, leaving, no_memory, overload};
use crate::caller::error::CallError;
use crate::caller::line::Line;
use crate::caller::machine::Caller;
use crate::caller::phase::Phase;
use crate::caller::pool::Loss;
use crate::caller::request::{CallId, Event};
use crate::dynamo::cost::cost;
use crate::dynamo::response::receiver::{Piece, State as HomeState};
use crate::protocol::{CloseReason, Fault};
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::dynamo::typed_failure::Failure;
use crate::wire::mux::message::RejectCode;

impl Caller {
    /// Reads what a worker brings home.
    pub(in crate::caller) fn take_response(&mut self, link: Key, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let mut rest = bytes;
        while let Some(Line::Answers(receiver)) = self.pool.links.line(link) {
            let Some(piece) = receiver.next(&mut rest, now)? else { break };
            if let Piece::Subject(subject, stream) = &piece {
                self.claim(link, subject, *stream, now);
                continue;
            }
            let call = self.pool.call(link);
            if let Some(call) = call {
                self.on_piece(call, link, piece, now);
            }
        }
        if let Some(call) = self.pool.call(link) {
            self.weigh_unread(call, link);
        }
        Ok(())
    }

    /// Looks whether the worker is to be held back.
    fn weigh_unread(&mut self, call: CallId, link: Key) {
        let Some(unread) = self.calls.get(call.0).map(|call| call.unread) else { return };
        if let Some(Line::Answers(receiver)) = self.pool.links.line(link) {
            receiver.weigh(unread, self.config.call_home.max_unread);
        }
    }

    /// Enough of its items have been read: a worker that was held back may go on.
    pub(in crate::caller) fn relieve(&mut self, call: CallId) {
        if let Some(State::Sent(sent)) = self.calls.get(call.0).map(|call| &call.state)
            && let Some(home) = sent.home
        {
            self.weigh_unread(call, home);
            self.pool.links.relieve(home);
        }
    }

    /// A piece of a call's response.
    fn on_piece(&mut self, call: CallId, link: Key, piece: Piece, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        let heard = core::mem::replace(&mut entry.heard, now);
        match piece {
            Piece::Subject(..) => {}
            Piece::Started => {
                entry.on_sign(Phase::Started, now);
                self.arm(call);
            }
            Piece::Item(item) => self.on_item(call, item, heard, now),
            Piece::End => self.complete(call, now),
            Piece::Failed(failure) => {
                self.on_answered(call, now);
                self.end(call, Err(failed(&failure)), now);
            }
            Piece::Refused(failure, text) => self.on_refusing_prologue(call, failure.as_ref(), &text, now),
            Piece::Cut => self.on_response_lost(link, Loss::Closed(CloseReason::Eof), now),
        }
    }

    fn on_item(&mut self, call: CallId, item: Bytes, heard: Instant, now: Instant) {
        let limit = self.config.call_home.max_unread;
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        // The worker is held back beyond the limit; what comes all the same had left it by then.
        if entry.unread > limit.saturating_add(BURST) {
            self.fail(call, CallError::SlowReader { limit }, now);
            return;
        }
        entry.unread += cost(&item);
        entry.on_sign(Phase::Accepted, now);
        let tell = entry.left_over.is_empty();
        entry.left_over.push_back(item);
        if tell {
            self.tell_waited(call, heard, now);
        }
        self.on_answered(call, now);
        if tell {
            self.events.push_back(Event::Readable(call));
        }
    }

    /// The worker says in place of a stream why there is none. One that has no room never ran the call, and says here what
    /// others say in the ack; the instance is as good as before, all the more if one rank of it is full.
    fn on_refusing_prologue(&mut self, call: CallId, failure: Option<&Failure>, text: &str, now: Instant) {
        if let Some(message) = overload(failure, text) {
            // Other ranks of it may have room at once.
            let retry_after = failure.and_then(Failure::dp_rank).map(|_| Duration::ZERO);
            let error = CallError::Rejected { code: RejectCode::Overloaded, retry_after, message, at: None };
            return self.on_not_delivered(call, error, None, now);
        }
        // One that leaves has not run it either, if it had the call wait for its turn.
        if let Some(message) = leaving(failure, text) {
            let error = CallError::Rejected { code: RejectCode::Draining, retry_after: None, message, at: None };
            return self.redirect(call, error, now);
        }
        let error = match failure {
            Some(failure) => failed(failure),
            None => CallError::Failed { class: Class::Unavailable, reason: "".into(), message: text.into() },
        };
        self.end(call, Err(error), now);
    }

    /// All of the response is here, and nothing follows it.
    fn complete(&mut self, call: CallId, now: Instant) {
        self.on_answered(call, now);
        self.end(call, Ok(()), now);
    }

    /// Whether the link has brought a whole response, of which at most the sentinel is missing.
    fn is_complete(&mut self, link: Key) -> bool {
        matches!(self.pool.links.line(link), Some(Line::Answers(receiver)) if receiver.is_complete())
    }

    /// Ends a call whose response is here but for the sentinel, as one that is over; whether it was such a call.
    pub(in crate::caller) fn end_if_complete(&mut self, call: CallId, now: Instant) -> bool {
        let Some(State::Sent(sent)) = self.calls.get(call.0).map(|call| &call.state) else { return false };
        let complete = sent.home.is_some_and(|home| self.is_complete(home));
        if complete {
            self.complete(call, now);
        }
        complete
    }

    /// A timer of a response's connection has fired. A complete response does without its sentinel in the end.
    pub(in crate::caller) fn on_response_timeout(&mut self, link: Key, now: Instant) {
        let Some(Line::Answers(receiver)) = self.pool.links.line(link) else { return };
        receiver.handle_timeout(now);
        if receiver.state() != HomeState::Closing {
            return;
        }
        self.leave_unclaimed(link);
        if self.is_complete(link)
            && let Some(call) = self.pool.call(link)
        {
            self.complete(call, now);
        }
    }

    /// A response's connection is gone, or of no more use.
    pub(in crate::caller) fn on_response_lost(&mut self, link: Key, loss: Loss, now: Instant) {
        self.leave_unclaimed(link);
        let Some(call) = self.pool.accepted(link).and_then(|home| home.call.take()) else { return };
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if !matches!(&entry.state, State::Sent(sent) if sent.home == Some(link)) {
            return;
        }
        match loss {
            Loss::Closed(_) if self.is_complete(link) => return self.complete(call, now),
            // The worker does well; this caller cannot take its answer from any other either.
            Loss::Fault(Fault::ItemTooLarge { declared, limit }) => {
                return self.end(call, Err(CallError::ItemTooLarge { declared, limit }), now);
            }
            Loss::Fault(Fault::NoMemory) => return self.end(call, Err(no_memory()), now),
            _ => {}
        }
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if entry.is_stopping() {
            // A worker that is asked to stop closes at once, without the words that end a stream.
            let stopped = matches!(loss, Loss::Closed(CloseReason::Eof | CloseReason::Reset));
            self.end(call, if stopped { Ok(()) } else { Err(CallError::Cancelled) }, now);
            return;
        }
        let again = entry.may_run_twice();
        let error = match loss {
            Loss::Closed(reason) => CallError::Disconnected { reason, delivered: true, at: self.at(call) },
            Loss::Fault(fault) => CallError::Protocol { fault, delivered: true },
        };
        if again {
            self.on_not_delivered(call, error, None, now);
        } else {
            self.end(call, Err(error), now);
        }
    }
}
