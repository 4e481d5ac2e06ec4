//! Requests in frames on a connection of their own, the listener they need first, and their acks.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::buf::slab::Key;
use crate::caller::call::State;
use crate::caller::dispatch::next_attached;
use crate::caller::dynamo::failures::refused;
use crate::caller::dynamo::head::frame_head;
use crate::caller::dynamo::sent::{Feed, Home, Sent, Via};
use crate::caller::error::CallError;
use crate::caller::line::Line;
use crate::caller::machine::Caller;
use crate::caller::phase::Phase;
use crate::caller::pool::{Peer, Speaks};
use crate::caller::request::CallId;
use crate::dynamo::request::client::{Answer, Refusal};
use crate::links::Link;
use crate::protocol::{CloseReason, Fault};
use crate::time::Instant;
use crate::wire::codec::Codec;

impl Caller {
    /// Asks for the listener, once.
    pub(in crate::caller) fn need_listener(&mut self) {
        if let Some(action) = self.call_home.ask(self.config.call_home.bind) {
            self.pool.links.act(action);
        }
    }

    /// The listener is there, or cannot be.
    pub(in crate::caller) fn on_listening(&mut self, outcome: Result<SocketAddr, CloseReason>, now: Instant) {
        match self.call_home.on_listening(outcome, self.config.call_home.advertise) {
            Ok(()) => {
                for link in self.pool.links.keys() {
                    self.settle(link, now);
                }
                self.post_waiting(now);
            }
            Err(reason) => {
                let speaks = |link: Key| Some(self.pool.links.get(link)?.dialed()?.place.speaks);
                let calls = self.calls.iter();
                let stuck: Vec<CallId> = calls
                    .filter(|(_, call)| match call.state {
                        State::Attached { link } => speaks(link) == Some(Speaks::Requests),
                        State::Queued => true,
                        _ => false,
                    })
                    .map(|(call, _)| CallId(call))
                    .collect();
                for call in stuck {
                    self.fail(call, CallError::CannotListen(reason), now);
                }
            }
        }
    }

    /// Sends calls that wait on a request connection, as many as it takes.
    pub(in crate::caller) fn submit_each(&mut self, link: Key, now: Instant) {
        let Some(listener) = self.call_home.addr() else { return self.need_listener() };
        loop {
            let Some(Link { line: Some(Line::Requests(client)), owner: Peer::Dialed(dialed), .. }) =
                self.pool.links.get_mut(link)
            else {
                return;
            };
            if !client.can_submit() {
                return;
            }
            let Some((call, entry, target)) = next_attached(link, dialed, &mut self.calls, &self.endpoints) else {
                return;
            };
            let Some(target) = target else {
                self.on_instance_gone(call, now);
                continue;
            };
            // What the request is written in is what the worker has to know; the record says what it prefers.
            let written_in = entry.opening.codec.as_deref().and_then(Codec::from_name);
            let (path, codec) = (target.path.clone(), written_in.unwrap_or(target.codec));
            let tag = call.0.to_u64();
            let subject = self.call_home.expect(call);
            let feed = entry.body().is_none().then(|| self.call_home.expect(call));
            let body = entry.body().cloned().unwrap_or_default();
            let sent = Sent {
                by: Via::Link(link),
                subject,
                codec,
                home: None,
                phase: Phase::Asked,
                feed: feed.map(|subject| Feed { subject, link: None }),
                lost: None,
            };
            entry.on_step(State::Sent(Box::new(sent)), now);
            entry.on_opened(now);
            if let Some(observer) = &self.observer {
                observer.call_sent(call, now);
            }
            self.stats.sent_home += 1;
            let limit = self.config.requests.max_message;
            let home = Home { listener, subject, feed };
            match frame_head(&entry.opening, &path, codec, &home, &body, limit, now) {
                Ok(head) => client.submit(tag, head, body),
                Err(error) => self.fail(call, error, now),
            }
            self.arm(call);
        }
    }

    /// Reads acks.
    pub(in crate::caller) fn take_acks(&mut self, link: Key, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let mut rest = bytes;
        while let Some(Line::Requests(client)) = self.pool.links.line(link) {
            let Some(answer) = client.next(&mut rest)? else { break };
            self.on_answer(link, answer, now);
        }
        Ok(())
    }

    fn on_answer(&mut self, link: Key, answer: Answer, now: Instant) {
        let call = CallId(Key::from_u64(answer.tag));
        let Some(entry) = self.calls.get(call.0) else { return };
        if matches!(&entry.state, State::Sent(sent) if sent.by == Via::Link(link)) {
            self.on_ack(call, answer.refusal, now);
        }
    }

    /// The worker has said whether it takes the request.
    pub(in crate::caller) fn on_ack(&mut self, call: CallId, refusal: Option<Refusal>, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        // A worker that has brought the response home has taken the call, whatever it says of it now: tried again, it would
        // run twice.
        let taken = matches!(&entry.state, State::Sent(sent) if sent.home.is_some());
        let Some(refusal) = refusal.filter(|_| !taken) else {
            entry.on_accepted(now);
            return self.arm(call);
        };
        let error = refused(refusal);
        if error.is_of_one_that_leaves() {
            self.redirect(call, error, now);
        } else if error.is_retryable() {
            self.on_not_delivered(call, error, None, now);
        } else {
            self.fail(call, error, now);
        }
    }
}
