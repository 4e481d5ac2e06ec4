//! The caller's Dynamo side: request frames, their acks, and the connections on which responses come home.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use crate::buf::gate::BURST;
use crate::buf::outbox::SendError;
use crate::buf::slab::Key;
use crate::caller::call::State;
use crate::caller::dynamo::head::frame_head;
use crate::caller::dynamo::sent::{Feed, Home, Sent, Via};
use crate::caller::error::CallError;
use crate::caller::line::Line;
use crate::caller::machine::Caller;
use crate::caller::pool::{Accepted, Loss, Peer, Speaks};
use crate::caller::request::{CallId, Event};
use crate::dynamo::cost::cost;
use crate::dynamo::items::sender::Sender;
use crate::dynamo::request::client::{Answer, Refusal};
use crate::dynamo::response::receiver::{Piece, Receiver, State as HomeState};
use crate::dynamo::subjects::{Subject, Unclaimed};
use crate::id::ConnId;
use crate::links::Link;
use crate::mux::event::Ending;
use crate::protocol::{CloseReason, Closing, Fault};
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::codec::Codec;
use crate::wire::dynamo::ack::OVERLOAD;
use crate::wire::dynamo::control::StreamType;
use crate::wire::dynamo::failure_key::Key as FailureKey;
use crate::wire::dynamo::typed_failure::Failure;
use crate::wire::dynamo::word::Word;
use crate::wire::mux::message::RejectCode;

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
            // What the request is written in is what the worker has to know; the record says what it prefers.
            let written_in = entry.opening.codec.as_deref().and_then(Codec::from_name);
            let (path, codec) = (target.path.clone(), written_in.unwrap_or(target.codec));
            let tag = call.0.to_u64();
            let subject = self.call_home.expect(call);
            let feed = entry.body.is_none().then(|| self.call_home.expect(call));
            let body = entry.body.clone().unwrap_or_default();
            let sent = Sent {
                by: Via::Link(link),
                subject,
                codec,
                home: None,
                started: false,
                feed: feed.map(|subject| Feed { subject, link: None }),
            };
            entry.state = State::Sent(Box::new(sent));
            entry.accepted = false;
            entry.heard = now;
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
            entry.heard = now;
            entry.accepted = true;
            return self.arm(call);
        };
        let error = refused(refusal);
        if error.is_retryable() {
            self.on_not_delivered(call, error, None, now);
        } else {
            self.fail(call, error, now);
        }
    }

    /// A worker has come to the listener.
    pub(in crate::caller) fn on_call_home(&mut self, conn: ConnId, now: Instant) {
        let key = self.pool.links.insert(Peer::Accepted(Accepted::default()), |_| conn);
        if let Some(link) = self.pool.links.get_mut(key) {
            link.line = Some(Line::Answers(Box::new(Receiver::new(self.config.responses, now))));
            let seat = Some(self.call_home.on_opened(conn.number(), key));
            link.owner = Peer::Accepted(Accepted { call: None, seat });
        }
        // A worker names its subject at once: the connections that have been silent longest are not a worker's.
        while let Some(oldest) = self.call_home.excess(self.config.max_unclaimed) {
            self.leave_unclaimed(oldest);
            self.stats.strangers += 1;
            if let Some(Line::Answers(receiver)) = self.pool.links.line(oldest) {
                receiver.close(Closing::Abort, now);
            }
            self.settle_link(oldest, now);
        }
        self.settle_link(key, now);
    }

    /// Gives back the seat of a connection that has said whose response it brings, or is gone.
    pub(in crate::caller) fn leave_unclaimed(&mut self, link: Key) {
        if let Some(seat) = self.pool.accepted(link).and_then(|home| home.seat.take()) {
            self.call_home.give_back(seat);
        }
    }

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

    fn claim(&mut self, link: Key, subject: &str, stream: StreamType, now: Instant) {
        self.leave_unclaimed(link);
        let call = self.call_home.claim(subject);
        if let Ok(call) = call
            && let Some(entry) = self.calls.get_mut(call.0)
            && let State::Sent(sent) = &mut entry.state
            && let Some(Link { line: Some(line), owner: Peer::Accepted(home), .. }) = self.pool.links.get_mut(link)
            && let Line::Answers(receiver) = line
        {
            let subject = Subject::read(subject);
            match (stream, &mut sent.feed) {
                (StreamType::Response, _) if subject == Some(sent.subject) => {
                    sent.home = Some(link);
                    receiver.claim(sent.codec);
                    home.call = Some(call);
                    if entry.stopping {
                        receiver.stop();
                    }
                    return;
                }
                (StreamType::Request, Some(feed)) if subject == Some(feed.subject) => {
                    feed.link = Some(link);
                    let mut feeder = Sender::new(self.config.items, now);
                    if entry.stopping {
                        feeder.end(Word::Stop);
                    }
                    *line = Line::Items(Box::new(feeder));
                    home.call = Some(call);
                    self.events.push_back(Event::Writable(call));
                    return;
                }
                // One stream under the other's name.
                _ => {}
            }
        }
        if call == Err(Unclaimed::Unknown) {
            self.stats.strangers += 1;
        }
        if let Some(Line::Answers(receiver)) = self.pool.links.line(link) {
            receiver.close(Closing::Abort, now);
        }
    }

    /// Asks the worker to stop, on each of the call's streams that is here.
    pub(in crate::caller) fn say_stop(&mut self, home: Option<Key>, feed: Option<Feed>, now: Instant) {
        for link in [home, feed.and_then(|feed| feed.link)].into_iter().flatten() {
            match self.pool.links.line(link) {
                Some(Line::Answers(receiver)) => receiver.stop(),
                Some(Line::Items(feeder)) => feeder.end(Word::Stop),
                _ => {}
            }
            self.settle_link(link, now);
        }
    }

    /// Queues an item of a request that is a stream.
    pub(in crate::caller) fn feed(&mut self, feed: Option<Feed>, item: Bytes) -> Result<(), SendError> {
        let Some(feed) = feed else { return Err(SendError::Closed) };
        let Some(link) = feed.link else { return Err(SendError::Blocked(item)) };
        self.pool.links.send(link, None, item)
    }

    /// Ends a request that is a stream. `false` while the worker has not come for it.
    pub(in crate::caller) fn finish_feed(&mut self, feed: Option<Feed>) -> bool {
        let Some(feed) = feed else { return true };
        let Some(link) = feed.link else { return false };
        if let Some(Line::Items(feeder)) = self.pool.links.line(link) {
            feeder.end(Word::Sentinel);
        }
        self.pool.links.nudge(link);
        true
    }

    /// A piece of a call's response.
    fn on_piece(&mut self, call: CallId, link: Key, piece: Piece, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        entry.heard = now;
        match piece {
            Piece::Subject(..) => {}
            Piece::Started => {
                entry.accepted = true;
                if let State::Sent(sent) = &mut entry.state {
                    sent.started = true;
                }
                self.arm(call);
            }
            Piece::Item(item) => self.on_item(call, item, now),
            Piece::End => self.complete(call, now),
            Piece::Failed(failure) => {
                self.on_answered(call, now);
                self.end(call, Err(failed(&failure)), now);
            }
            Piece::Refused(failure, text) => self.on_refusing_prologue(call, failure.as_ref(), &text, now),
            Piece::Cut => self.on_response_lost(link, Loss::Closed(CloseReason::Eof), now),
        }
    }

    /// The worker says in place of a stream why there is none. One that has no room never ran the call, and says here what
    /// others say in the ack; the instance is as good as before, all the more if one rank of it is full.
    fn on_refusing_prologue(&mut self, call: CallId, failure: Option<&Failure>, text: &str, now: Instant) {
        if let Some(message) = overload(failure, text) {
            let error = CallError::Rejected { code: RejectCode::Overloaded, retry_after: None, message };
            return self.on_not_delivered(call, error, None, now);
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

    /// A timer of a connection that came home has fired. A complete response does without its sentinel in the end.
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

    /// Ends a call whose response is here but for the sentinel, as one that is over; whether it was such a call.
    pub(in crate::caller) fn end_if_complete(&mut self, call: CallId, now: Instant) -> bool {
        let Some(State::Sent(sent)) = self.calls.get(call.0).map(|call| &call.state) else { return false };
        let complete = sent.home.is_some_and(|home| self.is_complete(home));
        if complete {
            self.complete(call, now);
        }
        complete
    }

    fn on_item(&mut self, call: CallId, item: Bytes, now: Instant) {
        let limit = self.config.call_home.max_unread;
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        // The worker is held back beyond the limit; what comes all the same had left it by then.
        if entry.unread > limit.saturating_add(BURST) {
            self.fail(call, CallError::SlowReader { limit }, now);
            return;
        }
        entry.unread += cost(&item);
        entry.accepted = true;
        let tell = entry.left_over.is_empty();
        entry.left_over.push_back(item);
        self.on_answered(call, now);
        if tell {
            self.events.push_back(Event::Readable(call));
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
        let again = entry.idempotent && !entry.answered && entry.body.is_some();
        self.strike(call, now);
        if again {
            self.on_not_delivered(call, error, None, now);
        } else {
            self.end(call, Err(error), now);
        }
    }

    /// The call has left this try: nobody waits for its response any more.
    pub(in crate::caller) fn abandon(&mut self, call: CallId, sent: &Sent, now: Instant) {
        self.call_home.withdraw(sent.subject);
        match sent.by {
            Via::Link(link) => {
                if let Some(Line::Requests(client)) = self.pool.links.line(link) {
                    client.withdraw(call.0.to_u64());
                }
            }
            Via::Carrier(posted) => self.window.release(&posted),
        }
        if let Some(feed) = sent.feed {
            self.call_home.withdraw(feed.subject);
            if let Some(Link { line: Some(Line::Items(feeder)), owner: Peer::Accepted(home), .. }) =
                feed.link.and_then(|link| self.pool.links.get_mut(link))
            {
                home.call = None;
                // Whoever has the end of the response needs no more items.
                feeder.end(Word::Kill);
            }
            if let Some(link) = feed.link {
                self.settle_link(link, now);
            }
        }
        let Some(home) = sent.home else { return };
        if let Some(Link { line: Some(Line::Answers(receiver)), owner: Peer::Accepted(peer), .. }) =
            self.pool.links.get_mut(home)
        {
            peer.call = None;
            receiver.resume();
            if matches!(receiver.state(), HomeState::Prologue | HomeState::Items) {
                receiver.kill(now);
            }
        }
        self.settle_link(home, now);
    }
}

/// An item of the answer cannot be held here.
pub(in crate::caller) fn no_memory() -> CallError {
    let (key, message) = (FailureKey::CapacityExhausted, "there is no memory for an item of the answer");
    CallError::Failed { class: key.class(), reason: key.name().into(), message: message.into() }
}

fn failed(failure: &Failure) -> CallError {
    let class = failure.class();
    let message = failure.diagnostic().unwrap_or(class.name());
    let ending = Ending { class: Some(class), reason: failure.key().name().into(), message: message.into() };
    CallError::from_ending(ending).unwrap_or(CallError::Cancelled)
}

/// What a prologue says about a worker without room, if that is what it says. Dynamo 1.5 writes no reason, and a relay may
/// keep the text only: it is the ack's behind other words then.
fn overload(failure: Option<&Failure>, text: &str) -> Option<Box<str>> {
    let told = text.contains(OVERLOAD);
    let full = match failure {
        Some(failure) if failure.key() == FailureKey::WorkerOverloaded => true,
        Some(failure) => told && failure.class() == Class::CapacityExhausted,
        None => told,
    };
    let message = failure.and_then(Failure::diagnostic).unwrap_or(text);
    full.then(|| match failure.and_then(Failure::dp_rank) {
        Some(rank) => alloc::format!("{message} (rank {rank})").into(),
        None => message.into(),
    })
}

fn refused(refusal: Refusal) -> CallError {
    let Refusal { code, text } = refusal;
    match code {
        Some(code) => CallError::Rejected { code, retry_after: None, message: text },
        None => CallError::Failed { class: Class::BackendProtocol, reason: "".into(), message: text },
    }
}
