//! Requests of Dynamo callers: read and acknowledged, refused, or made a call.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use core::time::Duration;

use crate::buf::fifo::Fifo;
use crate::buf::slab::Key;
use crate::dynamo::items::receiver::Receiver;
use crate::dynamo::request::message::Message;
use crate::dynamo::response::sender::Sender;
use crate::overload::queue::Wait;
use crate::protocol::Fault;
use crate::time::Instant;
use crate::wire::codec::Codec;
use crate::wire::dynamo::ack::{Ack, OVERLOADED, SHUTTING_DOWN};
use crate::wire::dynamo::headers::Headers;
use crate::wire::dynamo::typed_failure::Failure;
use crate::wire::mux::message::RejectCode;
use crate::worker::admission::{Comer, Verdict as Admits};
use crate::worker::calls::{EXPIRED, tenant};
use crate::worker::dynamo::failures::refusal;
use crate::worker::dynamo::reading::{Call, Destination, Input, Verdict, read_request, unknown_endpoint};
use crate::worker::job::{Job, Place, Source};
use crate::worker::line::Line;
use crate::worker::machine::Worker;
use crate::worker::memory::Charge;

/// What becomes of a frame that was under way too long while others came.
const HALF_SENT: &str = "Server overloaded: too many half-sent requests";

/// Why a request is refused for which there is no memory.
const HEAVY: &str = "Server overloaded: the requests under way are at their limit of bytes";

impl Worker {
    /// Reads request frames and answers each.
    pub(in crate::worker) fn take_requests(&mut self, link: Key, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let mut rest = bytes;
        while let Some(Line::Requests(server)) = self.links.line(link) {
            let Some(frame) = server.next(&mut rest, now)? else { break };
            let peer = self.links.accepted(link).and_then(|accepted| accepted.addr);
            let message = Message { path: frame.path(), headers: frame.headers(), payload: frame.payload(), peer };
            let text = match self.take_request(&message, Some(link), now) {
                Ok(()) => Cow::Borrowed(""),
                Err(text) => text,
            };
            if let Some(Line::Requests(server)) = self.links.line(link) {
                server.answer(&Ack::from_text(text.as_bytes()), now);
            }
        }
        Ok(())
    }

    /// Counts what is here of a frame that is not whole. Of too much, the frame that has been under way longest is refused.
    pub(in crate::worker) fn on_partial(&mut self, link: Key, now: Instant) {
        let held = match self.links.line(link) {
            Some(Line::Requests(server)) => server.held(),
            _ => 0,
        };
        let Some(accepted) = self.links.accepted_mut(link) else { return };
        self.partials.update(link, &mut accepted.partial, held);
        while let Some(oldest) = self.partials.excess() {
            self.stats.overloaded += 1;
            if let Some(Line::Requests(server)) = self.links.line(oldest) {
                server.refuse(&Ack::from_text(HALF_SENT.as_bytes()), now);
            }
            let Some(accepted) = self.links.accepted_mut(oldest) else { return };
            self.partials.update(oldest, &mut accepted.partial, 0);
            self.links.settle(oldest, None, &mut self.wheel, now);
        }
    }

    /// Takes one request, by whichever transport it came. Once taken, its answer or an error goes over the call-home it asks for.
    ///
    /// # Errors
    /// The text of the ack that refuses it: overload, an unknown path, a drain, or a payload that says nowhere to bring an
    /// error. Nothing else comes of it then.
    pub fn request(&mut self, message: &Message<'_>, now: Instant) -> Result<(), Cow<'static, str>> {
        self.take_request(message, None, now)
    }

    /// Takes a request that came `from` a connection, in whose share it counts.
    fn take_request(
        &mut self,
        message: &Message<'_>,
        from: Option<Key>,
        now: Instant,
    ) -> Result<(), Cow<'static, str>> {
        if self.drain.is_leaving() {
            self.stats.refused += 1;
            return Err(SHUTTING_DOWN.into());
        }
        let path = core::str::from_utf8(message.path).ok();
        let Some((path, endpoint)) = path.and_then(|path| Some((path, *self.paths.get(path)?))) else {
            self.stats.refused += 1;
            return Err(unknown_endpoint(message.path));
        };
        if self.drained.refuses(endpoint) {
            self.stats.refused += 1;
            return Err(SHUTTING_DOWN.into());
        }
        let headers = Headers::read(message.headers);
        let (priority, tenant) = (headers.priority(), tenant(headers.tenant(), from));
        let wait = Wait { priority, tenant, group: endpoint, deadline: None, since: now };
        let comer = Comer { places: self.places(from), wait };
        if !matches!(self.admission.weigh(&comer), Admits::Fits | Admits::Displaces) {
            self.stats.overloaded += 1;
            return Err(OVERLOADED.into());
        }
        let verdict = read_request(message, &headers, path, &self.config);
        match verdict.inspect_err(|_| self.stats.refused += 1)? {
            Verdict::Call(call) if call.remaining_us == Some(0) => {
                self.stats.expired += 1;
                let failure = refusal(RejectCode::Expired, EXPIRED);
                failure.map_or(Ok(()), |failure| self.refuse_at_home(&call.home, call.codec, failure, now))
            }
            Verdict::Call(call) => {
                // A body shares the memory of the payload it came in.
                let body = if matches!(call.input, Input::Body(_)) { message.payload.len() } else { 0 };
                let charge = Charge::new(call.header.len(), body);
                if !self.has_memory(&charge, from) {
                    self.stats.overloaded += 1;
                    return Err(HEAVY.into());
                }
                let deadline = call.remaining_us.map(|micros| now + Duration::from_micros(micros));
                let wait = Wait { deadline, ..wait };
                if self.make_room(&comer, now).is_some() {
                    self.stats.overloaded += 1;
                    return Err(OVERLOADED.into());
                }
                self.stats.repeated += u64::from(call.repeated);
                self.take_call(wait, call, from, charge, now);
                Ok(())
            }
            Verdict::Refusal(home, codec, failure) => {
                self.stats.refused += 1;
                self.refuse_at_home(&home, codec, failure, now)
            }
        }
    }

    /// Tells a caller where it listens that its request never became a call.
    fn refuse_at_home(
        &mut self,
        home: &Destination,
        codec: Codec,
        failure: Failure,
        now: Instant,
    ) -> Result<(), Cow<'static, str>> {
        if self.refusals >= self.config.max_refusals {
            return Err("Server overloaded: too many refused requests".into());
        }
        let mut sender = Sender::new(self.config.responses, codec, &home.subject, now);
        sender.fail(failure, now);
        self.refusals += 1;
        self.dial_home(Line::Answer(Box::new(sender)), true, home.addr, now);
        Ok(())
    }

    /// Dials what the call asks for, the place of its items first, and runs it or has it wait.
    fn take_call(&mut self, wait: Wait, call: Call, from: Option<Key>, charge: Charge, now: Instant) {
        let source = match call.input {
            Input::Body(body) => Source::Here(Fifo::from(body)),
            Input::Stream(from) => {
                let fetcher = Receiver::new(self.config.items, &from.subject, now);
                Source::Fetched(self.dial_home(Line::Items(Box::new(fetcher)), false, from.addr, now))
            }
        };
        let sender = Sender::new(self.config.responses, call.codec, &call.home.subject, now);
        let home = self.dial_home(Line::Answer(Box::new(sender)), false, call.home.addr, now);
        let fetch = source.link();
        let job = self.admit(Job {
            endpoint: wait.group,
            stream: Some(Place::CallHome(home)),
            running: false,
            ticket: None,
            began: None,
            came: now,
            ran: None,
            cause: None,
            span: None,
            from,
            header: call.header,
            source,
            deadline: wait.deadline,
            timer: None,
            charge,
        });
        for link in [Some(home), fetch].into_iter().flatten() {
            if let Some(dialed) = self.links.dialed_mut(link) {
                dialed.job = Some(job);
            }
        }
        self.run_or_queue(job, wait);
        self.settle(home, now);
    }
}
