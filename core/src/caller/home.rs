//! The caller's Dynamo side: request frames, their acks, and the connections on which responses come home.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use crate::buf::slab::Key;
use crate::caller::call::State;
use crate::caller::config::{Config, Dialect};
use crate::caller::error::CallError;
use crate::caller::machine::{CallId, Caller, Event, Loss, Peer, Target};
use crate::id::ConnId;
use crate::links::{Leg, Link};
use crate::mux::connection::Opening;
use crate::mux::stream::Ending;
use crate::protocol::{Action, CloseReason, Closing, Fault};
use crate::request::client::{Answer, Refusal};
use crate::stream::receiver::{Piece, Receiver, State as HomeState};
use crate::stream::registry::{Subject, Unclaimed};
use crate::time::Instant;
use crate::wire::ack::UNKNOWN_ENDPOINT;
use crate::wire::codec::Codec;
use crate::wire::control::{CallHome, ConnectionInfo, Control, RequestType, ResponseType, StreamType};
use crate::wire::failure::Class;
use crate::wire::headers::{self, Headers};
use crate::wire::mux::RejectCode;
use crate::wire::request;
use crate::wire::two_part;
use crate::wire::typed_failure::Failure;

/// Where the responses of this core's calls come home to.
///
/// ```text
///  Down ──first call──▶ Asked ──handle_listening(Ok)──▶ Up
///    ▲                    └──handle_listening(Err): the calls that wait fail
///    └────────────────────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Listener {
    Down,
    Asked,
    Up(SocketAddr),
}

/// A call that has been sent in Dynamo's way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sent {
    /// The request connection.
    pub(super) link: Key,
    pub(super) subject: Subject,
    pub(super) codec: Codec,
    /// The connection that brings its response.
    pub(super) home: Option<Key>,
    /// The worker has said that there is a stream.
    pub(super) started: bool,
}

impl Config {
    /// Whether a call to `target` goes over mux.
    pub(super) fn uses_mux(&self, target: &Target) -> bool {
        match self.dialect {
            Dialect::Auto => target.mux,
            Dialect::Mux => true,
            Dialect::CallHome => false,
        }
    }
}

impl Caller {
    /// Asks for the listener, once.
    pub(super) fn need_listener(&mut self) {
        if self.listener == Listener::Down {
            self.listener = Listener::Asked;
            self.links.act(Action::Listen { addr: self.config.call_home.bind });
        }
    }

    /// The listener is there, or cannot be.
    pub(super) fn listening(&mut self, outcome: Result<SocketAddr, CloseReason>, now: Instant) {
        match outcome {
            Ok(bound) => {
                let ip = self.config.call_home.advertise.unwrap_or(bound.ip());
                self.listener = Listener::Up(SocketAddr::new(ip, bound.port()));
                for link in self.links.keys() {
                    self.settle(link, now);
                }
            }
            Err(reason) => {
                self.listener = Listener::Down;
                let waits = |link| self.links.get(link).is_some_and(|link: &Link<Peer>| !link.owner.mux);
                let calls = self.calls.iter();
                let stuck: Vec<CallId> = calls
                    .filter(|(_, call)| matches!(call.state, State::Attached { link } if waits(link)))
                    .map(|(call, _)| CallId(call))
                    .collect();
                for call in stuck {
                    self.fail(call, CallError::CannotListen(reason), now);
                }
            }
        }
    }

    /// Sends calls that wait on a request connection, as many as it takes.
    pub(super) fn submit_each(&mut self, link: Key, now: Instant) {
        let Listener::Up(listener) = self.listener else { return self.need_listener() };
        loop {
            let Some(Link { leg: Some(Leg::Calls(client)), owner, .. }) = self.links.get_mut(link) else { return };
            if !client.can_submit() {
                return;
            }
            let Some(call) = owner.waiting.pop_front() else { return };
            let Some(entry) = self.calls.get_mut(call.0) else { continue };
            if entry.state != (State::Attached { link }) {
                continue;
            }
            let target = entry.instance.and_then(|id| {
                let (_, target) = self.endpoints.get(entry.endpoint)?.instances.get(id)?;
                Some((target.path.clone(), target.codec))
            });
            let Some((path, codec)) = target else {
                // The instance left while the call waited for its connection; nothing has been sent.
                self.not_delivered(call, CallError::Unreachable(CloseReason::Local), None, now);
                continue;
            };
            let Some(body) = entry.body.clone() else {
                self.fail(call, CallError::NoRequestStreams, now);
                continue;
            };
            let subject = self.registry.insert(call.0.to_u64());
            entry.state = State::Sent(Sent { link, subject, codec, home: None, started: false });
            entry.accepted = false;
            entry.heard = now;
            self.stats.sent_home += 1;
            let limit = self.config.requests.max_message;
            match head(&entry.opening, &path, codec, listener, subject, &body, limit, now) {
                Ok(head) => client.submit(call.0.to_u64(), head, body),
                Err(error) => self.fail(call, error, now),
            }
            self.arm(call);
        }
    }

    /// Reads acks.
    pub(super) fn take_answers(&mut self, link: Key, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let mut rest = bytes;
        while let Some(Leg::Calls(client)) = self.links.leg(link) {
            let Some(answer) = client.next(&mut rest)? else { break };
            self.answered(link, answer, now);
        }
        Ok(())
    }

    fn answered(&mut self, link: Key, answer: Answer, now: Instant) {
        let call = CallId(Key::from_u64(answer.tag));
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if !matches!(&entry.state, State::Sent(sent) if sent.link == link) {
            return;
        }
        let Some(refusal) = answer.refusal else {
            entry.heard = now;
            entry.accepted = true;
            return self.arm(call);
        };
        let error = refused(refusal);
        if error.is_retryable() {
            self.not_delivered(call, error, None, now);
        } else {
            self.fail(call, error, now);
        }
    }

    /// A worker has come to the listener.
    pub(super) fn home_opened(&mut self, conn: ConnId, now: Instant) {
        let peer = Peer { home: true, ..Peer::new(SocketAddr::from(([0, 0, 0, 0], 0)), false, now) };
        let key = self.links.insert(peer, |_| conn);
        self.homes.insert(conn.number(), key);
        if let Some(link) = self.links.get_mut(key) {
            link.leg = Some(Leg::Answers(Box::new(Receiver::new(self.config.home, now))));
            if self.unclaimed >= self.config.max_unclaimed {
                // It takes no seat; the driver closes it.
                link.owner.seated = false;
                if let Some(Leg::Answers(receiver)) = &mut link.leg {
                    receiver.close(Closing::Abort, now);
                }
            } else {
                link.owner.seated = true;
                self.unclaimed += 1;
            }
        }
        self.settle_link(key, now);
    }

    /// Gives back the seat of a connection that has said whose response it brings, or is gone.
    pub(super) fn unseat(&mut self, link: Key) {
        if let Some(link) = self.links.get_mut(link)
            && core::mem::take(&mut link.owner.seated)
        {
            self.unclaimed -= 1;
        }
    }

    /// Reads what a worker brings home.
    pub(super) fn take_home(&mut self, link: Key, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let mut rest = bytes;
        while let Some(Leg::Answers(receiver)) = self.links.leg(link) {
            let Some(piece) = receiver.next(&mut rest, now)? else { break };
            if let Piece::Subject(subject) = &piece {
                self.claim(link, subject, now);
                continue;
            }
            let call = self.links.get(link).and_then(|link| link.owner.call);
            if let Some(call) = call {
                self.brought(call, link, piece, now);
            }
        }
        Ok(())
    }

    fn claim(&mut self, link: Key, subject: &str, now: Instant) {
        self.unseat(link);
        let call = self.registry.claim(subject).map(|tag| CallId(Key::from_u64(tag)));
        if let Ok(call) = call
            && let Some(entry) = self.calls.get_mut(call.0)
            && let State::Sent(sent) = &mut entry.state
            && let Some(Link { leg: Some(Leg::Answers(receiver)), owner, .. }) = self.links.get_mut(link)
        {
            sent.home = Some(link);
            receiver.claim(sent.codec);
            owner.call = Some(call);
            if entry.stopping {
                receiver.stop();
            }
            return;
        }
        if call == Err(Unclaimed::Unknown) {
            self.stats.strangers += 1;
        }
        if let Some(Leg::Answers(receiver)) = self.links.leg(link) {
            receiver.close(Closing::Abort, now);
        }
    }

    /// Asks the worker at the other end to stop.
    pub(super) fn say_stop(&mut self, home: Key, now: Instant) {
        if let Some(Leg::Answers(receiver)) = self.links.leg(home) {
            receiver.stop();
        }
        self.settle_link(home, now);
    }

    /// A piece of a call's response.
    fn brought(&mut self, call: CallId, link: Key, piece: Piece, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        entry.heard = now;
        match piece {
            Piece::Subject(_) => {}
            Piece::Started => {
                entry.accepted = true;
                if let State::Sent(sent) = &mut entry.state {
                    sent.started = true;
                }
                self.arm(call);
            }
            Piece::Item(item) => self.brought_item(call, item, now),
            Piece::End => {
                self.worked(call);
                self.end(call, Ok(()), now);
            }
            Piece::Failed(failure) => {
                self.worked(call);
                self.end(call, Err(failed(&failure)), now);
            }
            Piece::Refused(Some(failure), _) => self.end(call, Err(failed(&failure)), now),
            Piece::Refused(None, text) => {
                let error = CallError::Failed { class: Class::Unavailable, reason: "".into(), message: text.into() };
                self.end(call, Err(error), now);
            }
            Piece::Cut => self.home_lost(link, Loss::Closed(CloseReason::Eof), now),
        }
    }

    fn brought_item(&mut self, call: CallId, item: Bytes, now: Instant) {
        let limit = self.config.call_home.max_unread;
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        entry.unread += item.len().max(1);
        if entry.unread > limit {
            self.fail(call, CallError::SlowReader { limit }, now);
            return;
        }
        entry.accepted = true;
        let tell = entry.left_over.is_empty();
        entry.left_over.push_back(item);
        self.worked(call);
        if tell {
            self.events.push_back(Event::Readable(call));
        }
    }

    /// A response's connection is gone, or of no more use.
    pub(super) fn home_lost(&mut self, link: Key, loss: Loss, now: Instant) {
        self.unseat(link);
        let Some(call) = self.links.get_mut(link).and_then(|link| link.owner.call.take()) else { return };
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if !matches!(&entry.state, State::Sent(sent) if sent.home == Some(link)) {
            return;
        }
        if entry.stopping {
            // A worker that is asked to stop closes at once, without the words that end a stream.
            let stopped = matches!(loss, Loss::Closed(CloseReason::Eof | CloseReason::Reset));
            self.end(call, if stopped { Ok(()) } else { Err(CallError::Cancelled) }, now);
            return;
        }
        let error = match loss {
            Loss::Closed(reason) => CallError::Disconnected { reason, delivered: true },
            Loss::Fault(fault) => CallError::Protocol { fault, delivered: true },
        };
        if let (Some(endpoint), Some(id)) = (self.endpoints.get_mut(entry.endpoint), entry.instance) {
            endpoint.instances.struck(id, now);
        }
        if entry.idempotent && !entry.answered && entry.body.is_some() {
            self.not_delivered(call, error, None, now);
        } else {
            self.end(call, Err(error), now);
        }
    }

    /// The call has left this try: nobody waits for its response any more.
    pub(super) fn forsake(&mut self, call: CallId, sent: &Sent, now: Instant) {
        self.registry.withdraw(sent.subject);
        if let Some(Leg::Calls(client)) = self.links.leg(sent.link) {
            client.withdraw(call.0.to_u64());
        }
        let Some(home) = sent.home else { return };
        if let Some(Link { leg: Some(Leg::Answers(receiver)), owner, .. }) = self.links.get_mut(home) {
            owner.call = None;
            if matches!(receiver.state(), HomeState::Prologue | HomeState::Items) {
                receiver.kill(now);
            }
        }
        self.settle_link(home, now);
    }
}

fn failed(failure: &Failure) -> CallError {
    let class = failure.class();
    let message = failure.diagnostic().unwrap_or(class.name());
    let ending = Ending { class: Some(class), reason: failure.key().name().into(), message: message.into() };
    CallError::from_ending(ending).unwrap_or(CallError::Cancelled)
}

fn refused(refusal: Refusal) -> CallError {
    let code = match refusal.class {
        Class::CapacityExhausted => RejectCode::Overloaded,
        Class::Unavailable if refusal.text.starts_with(UNKNOWN_ENDPOINT) => RejectCode::UnknownEndpoint,
        Class::Unavailable => RejectCode::Draining,
        class => return CallError::Failed { class, reason: "".into(), message: refusal.text },
    };
    CallError::Rejected { code, retry_after: None, message: refusal.text }
}

/// A request frame up to its body.
#[expect(clippy::too_many_arguments, reason = "every one of them is a field of the frame")]
fn head(
    opening: &Opening,
    path: &str,
    codec: Codec,
    listener: SocketAddr,
    subject: Subject,
    body: &Bytes,
    limit: usize,
    now: Instant,
) -> Result<Vec<u8>, CallError> {
    let subject = subject.text();
    let id = if opening.request_id.is_empty() { subject.clone() } else { opening.request_id.clone() };
    let context = id.clone();
    let home = CallHome { address: listener.to_string(), subject, context, stream_type: StreamType::Response };
    let control = Control {
        id,
        request_type: RequestType::SingleIn,
        response_type: ResponseType::ManyOut,
        payload_codec: codec,
        connection_info: ConnectionInfo::new(&home).map_err(|_| CallError::HeaderTooLarge)?,
        metadata: opening.metadata.iter().cloned().collect(),
        frontend_send_ts_ns: None,
        request_stream_connection_info: None,
    };
    let control_bytes = control.write().map_err(|_| CallError::HeaderTooLarge)?;
    let mut headers = Headers::new();
    headers.push(headers::ENDPOINT_PATH, path);
    headers.push(headers::REQUEST_ID, control.id.as_str());
    if let Some(parent) = &opening.traceparent {
        headers.push(headers::TRACEPARENT, parent.as_str());
    }
    if let Some(state) = &opening.tracestate {
        headers.push(headers::TRACESTATE, state.as_str());
    }
    if let Some(deadline) = opening.deadline {
        headers.push(headers::REMAINING, deadline.since(now).as_micros().to_string());
    }
    let headers = headers.write().map_err(|_| CallError::HeaderTooLarge)?;
    let parts = two_part::Head { header_len: control_bytes.len(), body_len: body.len(), checksum: 0 };
    let head = request::Head { path: path.as_bytes(), headers: &headers, payload_len: parts.frame_len() };
    let mut out = vec![0; head.emitted_len()];
    if out.len() + parts.frame_len() > limit {
        let room = limit.saturating_sub(out.len() + two_part::HEAD + control_bytes.len());
        return Err(CallError::TooLarge { limit: room as u64 });
    }
    head.emit(&mut out).map_err(|_| CallError::HeaderTooLarge)?;
    out.extend_from_slice(&parts.to_bytes());
    out.extend_from_slice(&control_bytes);
    Ok(out)
}
