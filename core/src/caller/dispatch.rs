//! From a call to an instance to a connection to a stream, and back when that fails.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::buf::outbox::SendError;
use crate::buf::slab::Key;
use crate::caller::call::{Call, State};
use crate::caller::dynamo::framed::no_memory;
use crate::caller::dynamo::sent::Via;
use crate::caller::endpoints::Want;
use crate::caller::error::CallError;
use crate::caller::line::Line;
use crate::caller::machine::Caller;
use crate::caller::pool::{Dialed, Loss, Peer, Place, Speaks};
use crate::caller::request::{CallId, Event};
use crate::caller::target::Transport;
use crate::links::Link;
use crate::mux::connection::Connection;
use crate::mux::event::{Ending, Event as MuxEvent, Recv as MuxRecv};
use crate::protocol::{CloseReason, Fault};
use crate::route::policy::pick::NoPick;
use crate::time::Instant;
use crate::wire::mux::message::{CancelMode, RejectCode, Status};

/// The most instances a call remembers to avoid.
const MAX_TRIED: usize = 8;

impl Caller {
    /// Finds an instance and a connection for a call that has neither.
    pub(super) fn dispatch(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if matches!(entry.state, State::Over(_)) {
            return;
        }
        let (config, endpoint) = (&self.config, entry.endpoint);
        let want = Want { ask: entry.ask, direct: entry.direct, allow: &entry.allow, avoid: &entry.tried };
        let target = match self.endpoints.pick(endpoint, &want, &mut self.rng, now) {
            Ok((id, target)) => {
                let speaks = if config.uses_mux(target) { Speaks::Mux } else { Speaks::Requests };
                Some((id, Place { addr: target.addr, speaks }, target.transport != Transport::Tcp))
            }
            Err(NoPick::Absent { id }) => return self.fail(call, CallError::UnknownInstance(id), now),
            Err(_) => None,
        };
        let Some((id, place, by_carrier)) = target else {
            if entry.state != State::Waiting(None) {
                entry.heard = now;
            }
            entry.state = State::Waiting(None);
            self.list(call);
            self.arm(call);
            return;
        };
        self.endpoints.on_began(endpoint, id, now);
        entry.instance = Some(id);
        if by_carrier {
            self.queue(call, now);
        } else {
            self.attach(call, place, now);
        }
    }

    /// Puts a call on a connection to `place`, dialing one if need be.
    fn attach(&mut self, call: CallId, place: Place, now: Instant) {
        let most = self.config.connections_per_address;
        let link = self.pool.least_loaded(place, most).unwrap_or_else(|| {
            self.stats.dials += 1;
            self.pool.dial(place, now)
        });
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        entry.state = State::Attached { link };
        entry.heard = now;
        if let Some(dialed) = self.pool.dialed(link) {
            dialed.attach(call, &self.calls);
        }
        self.open_waiting(link, now);
        self.arm(call);
        self.settle(link, now);
    }

    /// Opens streams for calls that wait for one, as many as the connection takes. Calls that end on the way come back
    /// here; they find the door closed, or thousands of them would use up the stack.
    pub(super) fn open_waiting(&mut self, link: Key, now: Instant) {
        if !self.pool.dialed(link).is_some_and(Dialed::begin_handing) {
            return;
        }
        self.open_each(link, now);
        if self.pool.links.mux(link).is_some_and(|mux| mux.is_exhausted()) {
            self.replace_exhausted(link, now);
        }
        if let Some(dialed) = self.pool.dialed(link) {
            dialed.end_handing();
        }
    }

    /// The connection has used every stream id: those who still wait need another one.
    fn replace_exhausted(&mut self, link: Key, now: Instant) {
        let Some(dialed) = self.pool.dialed(link) else { return };
        for call in dialed.waiting.take() {
            if self.calls.get(call.0).is_some_and(|entry| entry.state == (State::Attached { link })) {
                self.move_on(call, now);
            }
        }
    }

    fn open_each(&mut self, link: Key, now: Instant) {
        if self.pool.dialed(link).is_some_and(|dialed| dialed.place.speaks == Speaks::Requests) {
            return self.submit_each(link, now);
        }
        loop {
            let Some(Link { line: Some(Line::Mux(mux)), owner: Peer::Dialed(dialed), .. }) =
                self.pool.links.get_mut(link)
            else {
                return;
            };
            if !mux.can_open() {
                return;
            }
            let Some(call) = dialed.waiting.pop() else { return };
            let Some(entry) = self.calls.get_mut(call.0) else { continue };
            if entry.state != (State::Attached { link }) {
                continue;
            }
            let Some(target) = self.endpoints.target(entry.endpoint, entry.instance) else {
                // The instance left while the call waited for its connection; nothing has been sent.
                self.on_not_delivered(call, CallError::Unreachable(CloseReason::Local), None, now);
                continue;
            };
            // Shared only while the stream of an earlier try has not been written: as a rule nothing is copied here.
            let opening = Arc::make_mut(&mut entry.opening);
            opening.path = target.path.clone();
            if !opening.fits() {
                self.fail(call, CallError::HeaderTooLarge, now);
                continue;
            }
            let Some(stream) = mux.open(call.0.to_u64(), entry.opening.clone()) else { return };
            entry.state = State::Open { link, stream };
            entry.accepted = false;
            entry.heard = now;
            let mut too_large = None;
            match &entry.body {
                Some(body) => match mux.lend(stream, body.clone()) {
                    Ok(()) => mux.end(stream, Ending::ok()),
                    Err(SendError::TooLarge { limit }) => too_large = Some(limit),
                    Err(_) => {}
                },
                None => self.events.push_back(Event::Writable(call)),
            }
            if let Some(limit) = too_large {
                self.fail(call, CallError::TooLarge { limit }, now);
            }
            self.arm(call);
        }
    }

    pub(super) fn take_mux_events(&mut self, link: Key, now: Instant) {
        while let Some(event) = self.pool.links.mux(link).and_then(Connection::poll_event) {
            match event {
                MuxEvent::Up => self.open_waiting(link, now),
                MuxEvent::Opened(stream) => {
                    if let Some(mux) = self.pool.links.mux(link) {
                        mux.reject(stream, RejectCode::NotServing, 0, "this side only calls");
                    }
                }
                MuxEvent::Readable(tag) => self.on_readable(CallId(Key::from_u64(tag)), now),
                MuxEvent::Writable(tag) => self.events.push_back(Event::Writable(CallId(Key::from_u64(tag)))),
                MuxEvent::Status(tag, status) => self.on_status(CallId(Key::from_u64(tag)), status, now),
                MuxEvent::Rejected { tag, code, retry_after_ms, message } => {
                    let retry_after = (retry_after_ms > 0).then(|| Duration::from_millis(u64::from(retry_after_ms)));
                    let error = match code {
                        RejectCode::Cancelled => CallError::Cancelled,
                        // Both clocks watch the deadline; which of them sees it pass first says nothing of the call.
                        RejectCode::Expired => CallError::DeadlineExceeded,
                        _ => CallError::Rejected { code, retry_after, message },
                    };
                    self.on_rejected(CallId(Key::from_u64(tag)), error, retry_after, now);
                }
                MuxEvent::Starved(tag) => self.fail(CallId(Key::from_u64(tag)), no_memory(), now),
                MuxEvent::GoingAway => self.redirect_waiting(link, now),
                MuxEvent::Cancelled(..) | MuxEvent::Stalled(..) => {}
            }
        }
    }

    fn on_readable(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        entry.heard = now;
        entry.accepted = true;
        self.on_answered(call, now);
        self.events.push_back(Event::Readable(call));
    }

    /// The worker has answered: nothing is wrong with the instance.
    pub(super) fn on_answered(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if !core::mem::replace(&mut entry.answered, true) {
            let (endpoint, instance) = (entry.endpoint, entry.instance);
            if self.endpoints.on_succeeded(endpoint, instance) {
                self.on_instance_up(endpoint, now);
            }
        }
    }

    fn on_status(&mut self, call: CallId, status: Status, now: Instant) {
        if let Some(entry) = self.calls.get_mut(call.0) {
            entry.heard = now;
            entry.accepted = true;
            self.events.push_back(Event::Status(call, status));
        }
    }

    /// The worker refused the call; its stream is gone.
    fn on_rejected(&mut self, call: CallId, error: CallError, retry_after: Option<Duration>, now: Instant) {
        if let Some(entry) = self.calls.get_mut(call.0)
            && let State::Open { link, .. } = entry.state
        {
            entry.state = State::Attached { link };
        }
        if error.is_retryable() {
            self.on_not_delivered(call, error, retry_after, now);
        } else {
            self.fail(call, error, now);
        }
    }

    /// The peer takes no new streams: calls that have none go elsewhere, at once and free of charge the first time an
    /// instance turns them away. The second time is a failed try, or a worker that leaves would be dialed for ever.
    fn redirect_waiting(&mut self, link: Key, now: Instant) {
        let Some(dialed) = self.pool.dialed(link) else { return };
        for call in dialed.waiting.take() {
            let Some(entry) = self.calls.get_mut(call.0) else { continue };
            if entry.state != (State::Attached { link }) {
                continue;
            }
            match entry.instance {
                Some(id) if entry.tried.len() < MAX_TRIED && !entry.tried.contains(&id) => {
                    entry.tried.push(id);
                    self.move_on(call, now);
                }
                _ => {
                    let (code, message) = (RejectCode::Draining, "the worker is leaving".into());
                    self.on_not_delivered(call, CallError::Rejected { code, retry_after: None, message }, None, now);
                }
            }
        }
    }

    /// Off its connection and on to the next, without a pause.
    fn move_on(&mut self, call: CallId, now: Instant) {
        self.leave(call, now);
        if let Some(entry) = self.calls.get_mut(call.0) {
            entry.heard = now;
        }
        self.dispatch(call, now);
    }

    /// The call was not delivered: tries again if tries and budget allow, or if every instance is down and may come back,
    /// else fails with `error`.
    pub(super) fn on_not_delivered(
        &mut self,
        call: CallId,
        error: CallError,
        at_least: Option<Duration>,
        now: Instant,
    ) {
        self.leave(call, now);
        let closing = self.is_closing();
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if let Some(id) = entry.instance.take()
            && entry.tried.len() < MAX_TRIED
        {
            entry.tried.push(id);
        }
        if entry.stopping {
            self.end(call, Err(CallError::Cancelled), now);
            return;
        }
        entry.accepted = false;
        entry.failing.get_or_insert(now);
        let allowed = self.budget.failed() && !closing && !entry.streamed;
        let wait = at_least.unwrap_or(Duration::ZERO);
        match entry.backoff.pause_after(wait, &mut self.rng) {
            Some(pause) if allowed => {
                self.stats.retries += 1;
                entry.state = State::Waiting(Some(now + pause));
                self.arm(call);
            }
            None if allowed && self.strand(call, &error, now) => {}
            _ => self.end(call, Err(error), now),
        }
    }

    /// Marks the call's instance down.
    pub(super) fn strike(&mut self, call: CallId, now: Instant) {
        if let Some(entry) = self.calls.get(call.0) {
            self.endpoints.on_struck(entry.endpoint, entry.instance, now);
        }
    }

    /// Ends the call with `error`: what is left of it on its connection is killed.
    pub(super) fn fail(&mut self, call: CallId, error: CallError, now: Instant) {
        if let Some((link, stream)) = self.calls.get(call.0).and_then(|call| call.stream())
            && let Some(mux) = self.pool.links.mux(link)
            && !mux.cancel(stream, CancelMode::Kill)
        {
            mux.release(stream);
        }
        self.end(call, Err(error), now);
    }

    /// The call has its outcome and its reader is told.
    pub(super) fn end(&mut self, call: CallId, outcome: Result<(), CallError>, now: Instant) {
        let over = self.calls.get(call.0).is_none_or(|call| matches!(call.state, State::Over(_)) || call.released);
        self.conclude(call, outcome, now);
        if !over {
            self.events.push_back(Event::Readable(call));
        }
    }

    /// The call has its outcome.
    pub(super) fn conclude(&mut self, call: CallId, outcome: Result<(), CallError>, now: Instant) {
        if let Some((link, stream)) = self.calls.get(call.0).and_then(|call| call.stream())
            && let Some(mux) = self.pool.links.mux(link)
        {
            mux.release(stream);
        }
        self.leave(call, now);
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if matches!(entry.state, State::Over(_)) {
            return;
        }
        if let Some(timer) = entry.timer.take() {
            self.wheel.cancel(timer);
        }
        if outcome.is_ok() {
            self.stats.succeeded += 1;
            self.budget.succeeded();
        } else {
            self.stats.failed += 1;
        }
        entry.state = State::Over(outcome);
        entry.body = None;
    }

    /// Takes the call off its connection and its instance's count; its state is the caller's to set.
    pub(super) fn leave(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if matches!(entry.state, State::Waiting(_) | State::Over(_)) {
            return;
        }
        let link = entry.link();
        let (endpoint, instance) = (entry.endpoint, entry.instance);
        let state = core::mem::replace(&mut entry.state, State::Waiting(None));
        self.endpoints.on_ended(endpoint, instance);
        if let State::Sent(sent) = &state {
            self.abandon(call, sent, now);
        }
        let Some(link) = link else { return self.post_waiting(now) };
        if let Some(dialed) = self.pool.dialed(link) {
            dialed.detach(now);
        }
        if self.is_closing() {
            self.leave_if_idle(link, now);
        }
        self.open_waiting(link, now);
        self.settle_link(link, now);
    }

    /// A connection has broken its protocol, or fallen silent: what it said before counts, then it is lost.
    pub(super) fn on_fault(&mut self, key: Key, fault: Fault, now: Instant) {
        self.stats.faults += 1;
        self.take_mux_events(key, now);
        self.lose_link(key, Loss::Fault(fault), now);
    }

    /// A link is lost: its calls fail over or fail.
    pub(super) fn lose_link(&mut self, key: Key, loss: Loss, now: Instant) {
        if self.pool.accepted(key).is_some() {
            return self.on_response_lost(key, loss, now);
        }
        if !self.pool.lose(key) {
            return;
        }
        let was_up = self.pool.links.line(key).is_some();
        // A call the worker has taken has no more need of the connection that brought it there.
        let lost = |call: &Call| {
            let taken = call.accepted || matches!(&call.state, State::Sent(sent) if sent.home.is_some());
            call.link() == Some(key) && !(taken && matches!(call.state, State::Sent(_)))
        };
        let orphans: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| lost(call)).map(|(call, _)| CallId(call)).collect();
        for call in orphans {
            self.on_link_lost(call, loss, was_up, now);
        }
    }

    fn on_link_lost(&mut self, call: CallId, loss: Loss, was_up: bool, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        let idempotent = entry.idempotent;
        let mut delivered = false;
        if let State::Sent(sent) = &entry.state
            && let Via::Link(link) = sent.by
            && let Some(Line::Requests(client)) = self.pool.links.line(link)
        {
            delivered = client.was_written(call.0.to_u64());
        }
        if let Some((link, stream)) = entry.stream()
            && let Some(mux) = self.pool.links.mux(link)
        {
            delivered = mux.was_written(stream);
            // Whole items that arrived before the loss are still the reader's, and so is an outcome.
            loop {
                match mux.recv(stream) {
                    MuxRecv::Item(item) => entry.left_over.push_back(item),
                    MuxRecv::Pending => break,
                    MuxRecv::End(ending) => {
                        let outcome = CallError::from_ending(ending).map_or(Ok(()), Err);
                        self.end(call, outcome, now);
                        return;
                    }
                }
            }
        }
        let local = matches!(loss, Loss::Closed(CloseReason::NoDescriptors | CloseReason::NoPorts));
        if !local {
            self.strike(call, now);
        }
        let error = match loss {
            Loss::Closed(reason) if !was_up => CallError::Unreachable(reason),
            Loss::Closed(reason) => CallError::Disconnected { reason, delivered },
            Loss::Fault(fault) => CallError::Protocol { fault, delivered },
        };
        let untouched = self.calls.get(call.0).is_some_and(|entry| !entry.answered && entry.body.is_some());
        if !delivered || (idempotent && untouched) {
            self.on_not_delivered(call, error, None, now);
        } else {
            self.end(call, Err(error), now);
        }
    }
}
