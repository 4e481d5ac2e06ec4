//! How a try ends, and how a call does: tried again, failed over, or with its outcome.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::buf::slab::Key;
use crate::caller::call::{Call, Items, State};
use crate::caller::dynamo::sent::Via;
use crate::caller::error::{At, CallError};
use crate::caller::line::Line;
use crate::caller::machine::Caller;
use crate::caller::pool::Loss;
use crate::caller::request::{CallId, Event};
use crate::caller::target::Transport;
use crate::mux::connection::State as MuxState;
use crate::mux::event::Recv as MuxRecv;
use crate::observer::CallEnded;
use crate::protocol::{CloseReason, Fault};
use crate::time::Instant;
use crate::wire::mux::message::CancelMode;

impl Caller {
    /// The instance left while the call waited to be sent there; nothing has been sent.
    pub(super) fn on_instance_gone(&mut self, call: CallId, now: Instant) {
        let unreachable = self.unreachable(call, CloseReason::Local);
        self.on_not_delivered(call, unreachable, None, now);
    }

    /// No connection to the call's instance could be made.
    pub(super) fn unreachable(&self, call: CallId, reason: CloseReason) -> CallError {
        CallError::Unreachable { reason, at: self.at(call) }
    }

    /// The instance that the call is at, or, once it is over, was tried at last, and where that is; `None` while it waits for one, if
    /// it was sent to none, and for a call that is unknown.
    pub fn instance(&self, call: CallId) -> Option<At> {
        let is_there = |entry: &Call| entry.instance.is_some() || entry.is_over();
        if self.calls.get(call.0).is_some_and(is_there) { self.last(call) } else { None }
    }

    /// Where the call was tried last, also while it waits for its next try.
    fn last(&self, call: CallId) -> Option<At> {
        let entry = self.calls.get(call.0)?;
        let target = self.endpoints.target(entry.endpoint, entry.last);
        let target = target.filter(|target| target.transport == Transport::Tcp);
        Some(At { instance: entry.last?, addr: target.map(|target| target.addr), attempts: entry.attempts() })
    }

    /// The same, for an error.
    pub(super) fn at(&self, call: CallId) -> Option<Box<At>> {
        self.last(call).map(Box::new)
    }

    /// The call was not delivered: tries again if tries and budget allow, or if every instance is down and may come back,
    /// else fails with `error`. An instance that asks not to be tried again for `wish` is not; the call waits for that only if
    /// it has nowhere else to go, and then for the first instance that may be tried again.
    pub(super) fn on_not_delivered(&mut self, call: CallId, error: CallError, wish: Option<Duration>, now: Instant) {
        let error = error.located(|| self.at(call));
        self.judge(call, &error, now);
        self.leave(call, now);
        let closing = self.is_closing();
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if let Some(id) = entry.instance.take() {
            entry.on_failed_by(id);
        }
        if entry.is_stopping() {
            self.end(call, Err(CallError::Cancelled), now);
            return;
        }
        entry.failing.get_or_insert(now);
        let affordable = self.budget.failed();
        self.stats.unaffordable += u64::from(!affordable);
        let allowed = affordable && !closing && entry.items != Items::Taken;
        let relief = || self.endpoints.relief(entry.endpoint, |id| entry.may_go_to(id), now);
        let wait = wish.map_or(Duration::ZERO, |_| relief());
        match entry.backoff.pause_after(wait, &mut self.rng) {
            Some(pause) if allowed => {
                self.on_retry(call, now);
                self.tell_failed(call, &error, now);
                self.wait(call, now + pause);
            }
            None if allowed && self.strand(call, &error, now) => self.tell_failed(call, &error, now),
            _ => self.end(call, Err(error), now),
        }
    }

    /// The call is tried at `at`.
    pub(super) fn wait(&mut self, call: CallId, at: Instant) {
        if let Some(entry) = self.calls.get_mut(call.0) {
            entry.state = State::Waiting(Some(at));
        }
        self.arm(call);
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
        let awaited = self.calls.get(call.0).is_some_and(Call::is_awaited);
        self.conclude(call, outcome, now);
        if awaited {
            self.events.push_back(Event::Readable(call));
        }
    }

    /// The call has its outcome.
    pub(super) fn conclude(&mut self, call: CallId, outcome: Result<(), CallError>, now: Instant) {
        if let Err(error) = &outcome
            && self.calls.get(call.0).is_some_and(|entry| !entry.is_over())
        {
            self.judge(call, error, now);
        }
        if let Some((link, stream)) = self.calls.get(call.0).and_then(|call| call.stream())
            && let Some(mux) = self.pool.links.mux(link)
        {
            mux.release(stream);
        }
        let outcome = outcome.map_err(|error| error.located(|| self.at(call)));
        self.leave(call, now);
        if self.observer.is_some() {
            self.tell_ended(call, &outcome, now);
        }
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if entry.is_over() {
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
        entry.on_outcome(outcome);
    }

    #[cold]
    fn tell_ended(&self, call: CallId, outcome: &Result<(), CallError>, now: Instant) {
        let Some((observer, entry)) = self.observer.as_ref().zip(self.calls.get(call.0)) else { return };
        if entry.is_over() {
            return;
        }
        let ended = CallEnded {
            endpoint: self.endpoints.name(entry.endpoint),
            outcome: outcome.as_ref().copied(),
            stopped: entry.is_stopping(),
            left: entry.is_left(),
            attempts: entry.attempts(),
            at: self.last(call),
            times: entry.times(),
            now,
        };
        observer.call_ended(call, &ended);
    }

    /// A try has failed, and the call goes on.
    pub(super) fn tell_failed(&self, call: CallId, error: &CallError, now: Instant) {
        if let Some(observer) = &self.observer {
            observer.try_failed(call, error, now);
        }
    }

    /// Takes the call off its connection and its instance's count; its state is the caller's to set.
    pub(super) fn leave(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        match entry.state {
            State::Waiting(_) | State::Over(_) => return,
            State::Crowded => {
                entry.state = State::Waiting(None);
                let Some(turn) = entry.turn else { return };
                return self.endpoints.withdraw(entry.endpoint, turn.ticket);
            }
            _ => {}
        }
        let link = entry.link();
        let (endpoint, instance, probe) = (entry.endpoint, entry.instance, entry.probe.take());
        let state = core::mem::replace(&mut entry.state, State::Waiting(None));
        self.endpoints.on_ended(endpoint, &entry.ask(), instance, probe, now);
        if let State::Sent(sent) = &state {
            self.abandon(call, sent, now);
        }
        let Some(link) = link else {
            self.post_waiting(now);
            return self.on_place_freed(endpoint, now);
        };
        if let Some(dialed) = self.pool.dialed(link) {
            dialed.detach(now);
        }
        if self.is_closing() {
            self.leave_if_idle(link, now);
        }
        self.open_waiting(link, now);
        self.settle_link(link, now);
        self.on_place_freed(endpoint, now);
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
        let lost = |call: &Call| call.link() == Some(key) && !call.is_taken();
        let orphans: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| lost(call)).map(|(call, _)| CallId(call)).collect();
        if orphans.is_empty() {
            self.on_idle_link_lost(key, loss, now);
        }
        for call in orphans {
            self.on_link_lost(call, loss, was_up, now);
        }
        self.doubt_taken(key, loss, now);
    }

    /// The calls that their worker has taken and not come home with are given a moment for that: a worker that was killed took
    /// their connection along and will never come.
    fn doubt_taken(&mut self, key: Key, loss: Loss, now: Instant) {
        let mut bereft = Vec::new();
        for (call, entry) in self.calls.iter_mut() {
            if let State::Sent(sent) = &mut entry.state
                && sent.link() == Some(key)
                && sent.is_awaited_home()
            {
                sent.lost = Some((loss, now));
                bereft.push(CallId(call));
            }
        }
        bereft.into_iter().for_each(|call| self.arm(call));
    }

    /// The worker has taken the call, lost the connection that brought it there, and not come home since.
    pub(super) fn on_lost_with_worker(&mut self, call: CallId, loss: Loss, now: Instant) {
        let Some(entry) = self.calls.get(call.0) else { return };
        let (stopping, again) = (entry.is_stopping(), entry.may_run_twice());
        let error = match loss {
            _ if stopping => CallError::Cancelled,
            Loss::Closed(reason) => CallError::Disconnected { reason, delivered: true, at: self.at(call) },
            Loss::Fault(fault) => CallError::Protocol { fault, delivered: true },
        };
        if again {
            self.on_not_delivered(call, error, None, now);
        } else {
            self.fail(call, error, now);
        }
    }

    /// Nobody was on the link. A worker that closes a connection says goodbye first; one that did not is gone, and calls need
    /// not find that out one by one.
    fn on_idle_link_lost(&mut self, key: Key, loss: Loss, now: Instant) {
        let up = self.pool.links.mux(key).is_some_and(|mux| mux.state() == MuxState::Up);
        let up = up || matches!(loss, Loss::Fault(_));
        let place = self.pool.dialed(key).map(|dialed| dialed.place.addr);
        if let Some(addr) = place.filter(|_| up && !self.closing) {
            self.endpoints.on_place_lost(addr, now, &mut self.rng);
        }
    }

    fn on_link_lost(&mut self, call: CallId, loss: Loss, was_up: bool, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
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
        let error = match loss {
            Loss::Closed(reason) if !was_up => self.unreachable(call, reason),
            Loss::Closed(reason) => CallError::Disconnected { reason, delivered, at: self.at(call) },
            Loss::Fault(fault) => CallError::Protocol { fault, delivered },
        };
        if !delivered || self.calls.get(call.0).is_some_and(Call::may_run_twice) {
            self.on_not_delivered(call, error, None, now);
        } else {
            self.end(call, Err(error), now);
        }
    }
}
