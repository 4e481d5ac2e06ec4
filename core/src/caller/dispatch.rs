//! From a call to an instance to a connection to a stream.

use alloc::sync::Arc;

use crate::buf::outbox::SendError;
use crate::buf::slab::{Key, Slab};
use crate::caller::call::{Call, Items, State};
use crate::caller::endpoints::{Endpoints, Want};
use crate::caller::error::CallError;
use crate::caller::line::Line;
use crate::caller::machine::Caller;
use crate::caller::phase::Phase;
use crate::caller::pool::{Dialed, Peer, Place, Speaks};
use crate::caller::request::{CallId, Event};
use crate::caller::target::{Target, Transport};
use crate::links::Link;
use crate::mux::event::Ending;
use crate::observer::CallTried;
use crate::route::eligible::Ask;
use crate::route::policy::pick::NoPick;
use crate::time::Instant;
use crate::wire::mux::message::RejectCode;

impl Caller {
    /// Finds an instance and a connection for a call that has neither.
    pub(super) fn dispatch(&mut self, call: CallId, now: Instant) {
        if self.may_wait()
            && let Some(endpoint) = self.calls.get(call.0).map(|entry| entry.endpoint)
        {
            // Those that wait go before it.
            self.serve_front(endpoint, now);
        }
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if entry.is_over() {
            return;
        }
        let (config, endpoint) = (&self.config, entry.endpoint);
        let ask = Ask { room: entry.room(&config.front), ..entry.ask() };
        let want = Want { ask, direct: entry.direct, allow: &entry.allow, avoid: entry.avoid() };
        let target = match self.endpoints.pick(endpoint, &want, &mut self.rng, now) {
            // One more at the same worker is no faster.
            Ok((id, _)) if entry.is_barred(id) => return self.fail(call, CallError::NoneEligible, now),
            Ok((id, target)) => {
                let speaks = if config.uses_mux(target) { Speaks::Mux } else { Speaks::Requests };
                Some((id, Place { addr: target.addr, speaks }, target.transport != Transport::Tcp))
            }
            Err(NoPick::Absent { id }) => return self.fail(call, CallError::UnknownInstance(id), now),
            Err(NoPick::Full) => return self.hold(call, now),
            Err(NoPick::Filtered) => return self.fail(call, CallError::NoneEligible, now),
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
        entry.probe = self.endpoints.on_began(endpoint, &entry.ask(), id, now);
        entry.on_tried(id, now);
        if let Some(observer) = &self.observer {
            let tried = CallTried {
                endpoint: self.endpoints.name(endpoint),
                instance: id,
                policy: if entry.direct.is_some() { "direct" } else { self.endpoints.policy(endpoint) },
                addr: (!by_carrier).then_some(place.addr),
                attempt: entry.attempts(),
                begun: entry.times().begun,
                now,
            };
            entry.on_span(observer.call_tried(call, &tried));
        }
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
        entry.on_step(State::Attached { link }, now);
        let (endpoint, instance) = (entry.endpoint, entry.instance);
        if let Some(dialed) = self.pool.dialed(link) {
            if let Some(instance) = instance {
                dialed.note(endpoint, instance);
            }
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
            let Some((call, entry, target)) = next_attached(link, dialed, &mut self.calls, &self.endpoints) else {
                return;
            };
            let Some(target) = target else {
                self.on_instance_gone(call, now);
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
            entry.on_step(State::Open { link, stream, phase: Phase::Asked }, now);
            entry.on_opened(now);
            if let Some(observer) = &self.observer {
                observer.call_sent(call, now);
            }
            let mut too_large = None;
            match entry.body() {
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

    /// The peer takes no new streams: calls that have none go elsewhere, at once and free of charge the first time an
    /// instance turns them away. The second time is a failed try, or a worker that leaves would be dialed for ever.
    pub(super) fn redirect_waiting(&mut self, link: Key, now: Instant) {
        let Some(dialed) = self.pool.dialed(link) else { return };
        for call in dialed.waiting.take() {
            let Some(entry) = self.calls.get_mut(call.0) else { continue };
            if entry.state != (State::Attached { link }) {
                continue;
            }
            let (code, message) = (RejectCode::Draining, "the worker is leaving".into());
            self.redirect(call, CallError::Rejected { code, retry_after: None, message, at: None }, now);
        }
    }

    /// The call's instance leaves and has not run it, by which `error` tells it: as above.
    pub(super) fn redirect(&mut self, call: CallId, error: CallError, now: Instant) {
        let closing = self.is_closing();
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        let may = !closing && !entry.is_stopping() && entry.items != Items::Taken;
        if may && entry.instance.is_some_and(|id| entry.on_failed_by(id)) {
            self.judge(call, &error, now);
            self.tell_failed(call, &error, now);
            self.move_on(call, now);
        } else {
            self.on_not_delivered(call, error, None, now);
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
}

/// The next of the calls that wait on a link, with what is known of it and where it goes: no target if its instance has left
/// meanwhile.
pub(super) fn next_attached<'a>(
    link: Key,
    dialed: &mut Dialed,
    calls: &'a mut Slab<Call>,
    endpoints: &'a Endpoints,
) -> Option<(CallId, &'a mut Call, Option<&'a Target>)> {
    let waits = |call: &Call| call.state == State::Attached { link };
    let call = loop {
        let call = dialed.waiting.pop()?;
        if calls.get(call.0).is_some_and(waits) {
            break call;
        }
    };
    let entry = calls.get_mut(call.0)?;
    let target = endpoints.target(entry.endpoint, entry.instance);
    Some((call, entry, target))
}
