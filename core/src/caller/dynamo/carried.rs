//! Calls whose request a broker or HTTP brings to the worker; the response comes on a call-home connection, as with frames.
//!
//! The machine names the call that has a request ([`Event::Outgoing`]); the one that drives it takes the request
//! ([`Caller::outgoing`]), brings it there, and reports once what came of that ([`Caller::handle_answer`]). Time bounds,
//! retries and marks stay here.

use alloc::boxed::Box;

use bytes::Bytes;

use crate::caller::call::State;
use crate::caller::dynamo::carrier::{Answer, Request, Ticket};
use crate::caller::dynamo::head::message_head;
use crate::caller::dynamo::sent::{Feed, Home, Sent, Via};
use crate::caller::error::CallError;
use crate::caller::machine::Caller;
use crate::caller::phase::Phase;
use crate::caller::request::{CallId, Event};
use crate::dynamo::request::client::Refusal;
use crate::time::Instant;
use crate::wire::codec::Codec;
use crate::wire::dynamo::ack::{Ack, OVERLOADED, UNKNOWN_ENDPOINT};
use crate::wire::mux::message::RejectCode;

impl Caller {
    /// Has a call wait for its turn.
    pub(in crate::caller) fn queue(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        entry.on_step(State::Queued, now);
        self.window.wait(call, &self.calls);
        self.arm(call);
        self.post_waiting(now);
    }

    /// Names the calls that wait, as long as there is room.
    pub(in crate::caller) fn post_waiting(&mut self, now: Instant) {
        while let Some(call) = self.window.first() {
            let Some(entry) = self.calls.get_mut(call.0).filter(|entry| entry.state == State::Queued) else {
                self.window.skip();
                continue;
            };
            if self.call_home.addr().is_none() {
                return self.need_listener();
            }
            let bytes = entry.body().map_or(0, Bytes::len);
            if !self.window.has_room(bytes) {
                return;
            }
            self.window.skip();
            let Some(target) = self.endpoints.target(entry.endpoint, entry.instance) else {
                self.on_instance_gone(call, now);
                continue;
            };
            // As for requests by frames.
            let written_in = entry.opening.codec.as_deref().and_then(Codec::from_name);
            let codec = written_in.unwrap_or(target.codec);
            let by = Via::Carrier(self.window.post(bytes, &target.transport));
            let subject = self.call_home.expect(call);
            let feed = entry.body().is_none().then(|| Feed { subject: self.call_home.expect(call), link: None });
            let sent = Sent { by, subject, codec, home: None, phase: Phase::Asked, feed, lost: None };
            entry.on_step(State::Sent(Box::new(sent)), now);
            entry.on_opened(now);
            if let Some(observer) = &self.observer {
                observer.call_sent(call, now);
            }
            self.stats.sent_home += 1;
            self.events.push_back(Event::Outgoing(call));
            self.arm(call);
        }
    }

    /// The request of a call that [`Event::Outgoing`] named; `None` if it has become pointless.
    pub fn outgoing(&mut self, call: CallId, now: Instant) -> Option<Request> {
        let listener = self.call_home.addr()?;
        let entry = self.calls.get_mut(call.0)?;
        let State::Sent(sent) = &mut entry.state else { return None };
        let Sent { by: Via::Carrier(posted), subject, codec, feed, .. } = &mut **sent else { return None };
        if !posted.take() {
            return None;
        }
        let ticket = Ticket { call, number: posted.number };
        let timeout = posted.patience;
        let home = Home { listener, subject: *subject, feed: feed.map(|feed| feed.subject) };
        let codec = *codec;
        let Some(transport) = self.endpoints.transport(entry.endpoint, entry.instance) else {
            self.on_instance_gone(call, now);
            return None;
        };
        let body = entry.body().cloned().unwrap_or_default();
        match message_head(&entry.opening, codec, &home, &body, self.config.requests.max_message, now) {
            Ok((headers, head)) => Some(Request { ticket, transport, headers, head: head.into(), body, timeout }),
            Err(error) => {
                self.fail(call, error, now);
                None
            }
        }
    }

    /// What came of a request, once for each that was [taken](Self::outgoing). One that comes too late means nothing.
    pub fn handle_answer(&mut self, ticket: Ticket, answer: Answer, now: Instant) {
        let call = ticket.call;
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        let State::Sent(sent) = &mut entry.state else { return };
        let Sent { by: Via::Carrier(posted), home, .. } = &mut **sent else { return };
        if posted.number != ticket.number || posted.is_answered() {
            return;
        }
        self.window.on_answer(posted);
        // A call that has come home has no more need of what brought it there.
        let taken = home.is_some();
        match answer {
            Answer::Ack(text) => self.on_ack(call, Refusal::of(&Ack::from_text(&text)), now),
            Answer::Http(status, text) => self.on_ack(call, of_status(status, &text), now),
            _ if taken => {}
            Answer::Unreachable(reason) => {
                let unreachable = self.unreachable(call, reason);
                self.on_not_delivered(call, unreachable, None, now);
            }
            Answer::NoResponders => self.on_no_responders(call, now),
            Answer::Lost(reason) => {
                let lost = CallError::Disconnected { reason, delivered: true, at: self.at(call) };
                self.on_answer_lost(call, lost, now);
            }
            // Without its broker nothing is known of the instance.
            Answer::NoBroker { sent: false } => {
                self.on_not_delivered(call, CallError::NoBroker { delivered: false }, None, now);
            }
            Answer::NoBroker { sent: true } => self.on_answer_lost(call, CallError::NoBroker { delivered: true }, now),
            Answer::TimedOut => self.fail(call, CallError::NotAccepted, now),
            Answer::TooLarge(limit) => self.fail(call, CallError::TooLarge { limit }, now),
            Answer::Full => self.on_not_delivered(call, CallError::Overloaded, None, now),
            Answer::NotEquipped(missing) => {
                let transport =
                    self.endpoints.target(entry.endpoint, entry.instance).map_or("", |target| target.transport.name());
                self.on_not_delivered(call, CallError::NotEquipped { transport, missing }, None, now);
            }
        }
        self.post_waiting(now);
    }

    fn on_no_responders(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get(call.0) else { return };
        let (key, instance) = (entry.endpoint, entry.instance);
        if self.endpoints.respell(key, instance) {
            // Nobody has seen the call: it goes to the other spelling at once and free of charge.
            self.leave(call, now);
            let probe = instance
                .zip(self.calls.get(call.0))
                .and_then(|(id, entry)| self.endpoints.on_began(key, &entry.ask(), id, now));
            if let Some(entry) = self.calls.get_mut(call.0) {
                entry.probe = probe;
            }
            return self.queue(call, now);
        }
        self.on_not_delivered(call, CallError::NoResponders, None, now);
    }

    /// The request was sent, and no answer follows.
    fn on_answer_lost(&mut self, call: CallId, error: CallError, now: Instant) {
        let Some(entry) = self.calls.get(call.0) else { return };
        if entry.may_run_twice() {
            self.on_not_delivered(call, error, None, now);
        } else {
            self.fail(call, error, now);
        }
    }
}

/// What a status of HTTP says; the texts of a worker of ours are those of an ack.
fn of_status(status: u16, text: &Bytes) -> Option<Refusal> {
    let said = Refusal::of(&Ack::from_text(text));
    let known = said.as_ref().is_some_and(|refusal| refusal.code.is_some());
    match status {
        200..=299 => None,
        _ if known => said,
        404 => Refusal::of(&Ack::from_text(UNKNOWN_ENDPOINT.trim_ascii_end().as_bytes())),
        429 | 503 => Refusal::of(&Ack::from_text(OVERLOADED.as_bytes())),
        _ => {
            let code = (status == 413).then_some(RejectCode::TooLarge);
            Some(Refusal { code, text: alloc::format!("HTTP status {status}").into() })
        }
    }
}
