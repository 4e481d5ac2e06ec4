//! The worker's Dynamo side: requests that ask for a call-home, the dials, and the responses they carry.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use core::net::SocketAddr;

use crate::buf::fifo::Fifo;
use crate::buf::slab::Key;
use crate::dynamo::items::receiver::{Receiver, State as FetchState};
use crate::dynamo::request::message::Message;
use crate::dynamo::response::sender::{Event as HomeEvent, Sender, State};
use crate::id::ConnId;
use crate::protocol::{Action, CloseReason, Fault};
use crate::time::{Deadline, Instant, Reason};
use crate::wire::dynamo::ack::{Ack, OVERLOADED, SHUTTING_DOWN};
use crate::wire::mux::message::RejectCode;
use crate::worker::admission::{Places, Verdict as Admits};
use crate::worker::dynamo::dial::{Dial, Home};
use crate::worker::dynamo::partial::Partial;
use crate::worker::dynamo::reading::{Call, Input, Verdict, read_request, unknown_endpoint};
use crate::worker::job::{Cause, Event, Job, Place, Source};
use crate::worker::kept::Kept;
use crate::worker::line::Line;
use crate::worker::machine::Worker;
use crate::worker::visitor::Visitor;

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
            let peer = self.links.get(link).and_then(|link| link.owner.peer);
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

    /// Counts what is here of a frame that is not whole. Of too much, the frame that has been under way longest goes: one
    /// that is really being sent is soon over.
    pub(in crate::worker) fn weigh(&mut self, link: Key, now: Instant) {
        let held = match self.links.line(link) {
            Some(Line::Requests(server)) => server.held(),
            _ => 0,
        };
        if held == 0 {
            return self.weigh_nothing(link);
        }
        let Some(entry) = self.links.get_mut(link) else { return };
        let partials = &mut self.partials;
        let partial = entry.owner.partial.get_or_insert_with(|| Partial { ticket: partials.ages.add(link), bytes: 0 });
        self.partials.bytes += held;
        self.partials.bytes -= core::mem::replace(&mut partial.bytes, held);
        while self.partials.bytes > self.config.max_partial
            && let Some(oldest) = self.partials.ages.oldest()
        {
            self.stats.overloaded += 1;
            if let Some(Line::Requests(server)) = self.links.line(oldest) {
                server.refuse(&Ack::from_text(HALF_SENT.as_bytes()), now);
            }
            self.weigh_nothing(oldest);
            self.links.settle(oldest, None, &mut self.wheel, now);
        }
    }

    /// The link holds no part of a frame any more.
    pub(in crate::worker) fn weigh_nothing(&mut self, link: Key) {
        if let Some(partial) = self.links.get_mut(link).and_then(|link| link.owner.partial.take()) {
            self.partials.ages.remove(partial.ticket);
            self.partials.bytes -= partial.bytes;
        }
    }

    /// Takes one request, by whichever way it came. Once taken, its answer or an error goes over the call-home it asks for.
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
        if self.drain.is_some() {
            self.stats.refused += 1;
            return Err(SHUTTING_DOWN.into());
        }
        let path = core::str::from_utf8(message.path).ok();
        let Some((path, endpoint)) = path.and_then(|path| Some((path, *self.paths.get(path)?))) else {
            self.stats.refused += 1;
            return Err(unknown_endpoint(message.path));
        };
        if self.admission.weigh(self.places(from)) != Admits::Fits {
            self.stats.overloaded += 1;
            return Err(OVERLOADED.into());
        }
        let verdict = read_request(message, path, &self.config);
        match verdict.inspect_err(|_| self.stats.refused += 1)? {
            Verdict::Call(call) => {
                // A body shares the memory of the payload it came in.
                let body = if matches!(call.input, Input::Body(_)) { message.payload.len() } else { 0 };
                let kept = Kept::new(from, call.header.len(), body);
                if !self.can_keep(&kept) {
                    self.stats.overloaded += 1;
                    return Err(HEAVY.into());
                }
                self.take_call(endpoint, call, from, kept, now);
                Ok(())
            }
            Verdict::Refusal(home, codec, failure) => {
                self.stats.refused += 1;
                if self.refusals >= self.config.max_refusals {
                    return Err("Server overloaded: too many refused requests".into());
                }
                let mut sender = Sender::new(self.config.responses, codec, &home.subject, now);
                sender.fail(failure, now);
                self.refusals += 1;
                self.dial_home(Line::Answer(Box::new(sender)), true, home.addr, now);
                Ok(())
            }
        }
    }

    /// Dials what the call asks for, the place of its items first, and runs it or has it wait.
    fn take_call(&mut self, endpoint: u32, call: Call, from: Option<Key>, kept: Kept, now: Instant) {
        self.keep(&kept);
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
            endpoint,
            stream: Some(Place::CallHome(home)),
            running: false,
            from,
            header: call.header,
            source,
            deadline: call.remaining_us.map(|micros| now + core::time::Duration::from_micros(micros)),
            timer: None,
            kept,
        });
        for link in [Some(home), fetch].into_iter().flatten() {
            if let Some(home) = self.links.get_mut(link).and_then(|link| link.owner.home.as_mut()) {
                home.job = Some(job);
            }
        }
        self.run_or_queue(job);
        self.settle(home, now);
    }

    fn dial_home(&mut self, line: Line, refusal: bool, addr: SocketAddr, now: Instant) -> Key {
        let home = Home { job: None, refusal, addr, dial: Dial::Dialing { since: now }, tries: 0 };
        let key = self.insert_home(line, home);
        self.connect(key, addr);
        self.settle(key, now);
        key
    }

    fn insert_home(&mut self, line: Line, home: Home) -> Key {
        let visitor = Visitor {
            late: self.drain.is_some(),
            peer: None,
            home: Some(home),
            places: Places::default(),
            partial: None,
            kept: 0,
        };
        let key = self.links.insert(visitor, |key| ConnId::dialed_home(key.to_u64()));
        if let Some(link) = self.links.get_mut(key) {
            link.line = Some(line);
        }
        key
    }

    fn connect(&mut self, key: Key, addr: SocketAddr) {
        self.stats.dials += 1;
        if let Some(conn) = self.links.get(key).map(|link| link.conn) {
            self.by_conn.insert(conn, key);
            self.links.act(Action::Connect { conn, addr });
        }
    }

    /// A dial has succeeded.
    pub(in crate::worker) fn on_dialed(&mut self, conn: ConnId, now: Instant) {
        let Some(key) = self.by_conn.get(&conn).copied() else { return };
        if let Some(home) = self.links.get_mut(key).and_then(|link| link.owner.home.as_mut()) {
            home.dial = Dial::Done;
        }
        match self.links.line(key) {
            Some(Line::Answer(sender)) => sender.handle_open(now),
            Some(Line::Items(fetcher)) => fetcher.handle_open(now),
            _ => {}
        }
        self.settle(key, now);
    }

    /// A dialed connection is gone, or never came up.
    pub(in crate::worker) fn on_dialed_closed(&mut self, key: Key, why: CloseReason, now: Instant) {
        self.links.close(key);
        let Some(link) = self.links.remove(key, &mut self.wheel) else { return };
        let (Some(line), Some(mut home)) = (link.line, link.owner.home) else { return };
        let (early, up) = (!link.owner.late, is_up(&line));
        let lacking = matches!(why, CloseReason::NoDescriptors | CloseReason::NoPorts);
        if lacking && !up && !is_closing(&line) && home.tries < self.config.redials {
            home.tries += 1;
            home.dial = Dial::Pausing { until: now + self.config.redial_pause };
            return self.dial_again(line, home, !early, now);
        }
        if !up && why != CloseReason::Local {
            self.stats.dial_failures += 1;
        }
        self.refusals -= usize::from(home.refusal);
        match (home.job.take(), line) {
            (Some(job), Line::Items(fetcher)) => self.on_items_closed(job, *fetcher, now),
            (Some(job), _) => self.lose_job(job, now),
            (None, _) => {}
        }
        if let Some(drain) = &mut self.drain {
            drain.links_left -= usize::from(early);
        }
    }

    /// The same stream under a new name, to be dialed once the pause is over.
    fn dial_again(&mut self, line: Line, home: Home, late: bool, now: Instant) {
        let (job, fetches) = (home.job, matches!(line, Line::Items(_)));
        let new = self.insert_home(line, home);
        if let Some(job) = job.and_then(|job| self.jobs.get_mut(job.0)) {
            if fetches {
                job.source = Source::Fetched(new);
            } else {
                job.stream = Some(Place::CallHome(new));
            }
        }
        if let Some(link) = self.links.get_mut(new) {
            link.owner.late = late;
        }
        self.settle(new, now);
    }

    pub(in crate::worker) fn take_answer_events(&mut self, link: Key, now: Instant) {
        loop {
            let Some(Line::Answer(sender)) = self.links.line(link) else { return };
            let Some(event) = sender.poll_event() else { return };
            let home = self.links.get(link).and_then(|link| link.owner.home.as_ref());
            let Some(job) = home.and_then(|home| home.job) else { continue };
            let running = self.jobs.get(job.0).is_some_and(|job| job.running);
            match event {
                HomeEvent::Writable if running => self.events.push_back(Event::Writable(job)),
                HomeEvent::Writable => {}
                HomeEvent::Stop | HomeEvent::Kill => {
                    self.stats.cancelled += 1;
                    if running {
                        let cause = if event == HomeEvent::Stop { Cause::Stop } else { Cause::Kill };
                        self.detach(job, None, cause, now);
                    } else {
                        self.refuse(job, RejectCode::Cancelled, "", now);
                    }
                }
            }
        }
    }

    /// The deadline of a dial, for whoever settles the link.
    pub(in crate::worker) fn dial_deadline(&self, link: Key) -> Option<Deadline> {
        let home = self.links.get(link)?.owner.home.as_ref()?;
        match home.dial {
            Dial::Dialing { since } => Some(Deadline { at: since + self.config.dial_timeout, why: Reason::Connect }),
            Dial::Pausing { until } => Some(Deadline { at: until, why: Reason::Redial }),
            Dial::Done => None,
        }
    }

    /// Whether the link waits to be dialed again: the driver does not know it.
    pub(in crate::worker) fn is_pausing(&self, link: Key) -> bool {
        let home = self.links.get(link).and_then(|link| link.owner.home.as_ref());
        home.is_some_and(|home| matches!(home.dial, Dial::Pausing { .. }))
    }

    /// A timer of a dialed link has fired.
    pub(in crate::worker) fn on_dialed_timeout(&mut self, link: Key, now: Instant) {
        let outcome = match self.links.line(link) {
            Some(Line::Answer(sender)) => sender.handle_timeout(now),
            Some(Line::Items(fetcher)) => fetcher.handle_timeout(now),
            _ => Ok(()),
        };
        self.stats.faults += u64::from(outcome.is_err());
        if self.dial_deadline(link).is_none_or(|deadline| deadline.at > now) {
            return;
        }
        let Some(home) = self.links.get_mut(link).and_then(|link| link.owner.home.as_mut()) else { return };
        let addr = home.addr;
        if matches!(home.dial, Dial::Pausing { .. }) {
            home.dial = Dial::Dialing { since: now };
            return self.connect(link, addr);
        }
        home.dial = Dial::Done;
        let job = home.job.take();
        self.stats.dial_failures += 1;
        let fetches = match self.links.line(link) {
            Some(Line::Items(fetcher)) => {
                fetcher.close(now);
                true
            }
            Some(Line::Answer(sender)) => {
                sender.close(now);
                false
            }
            _ => false,
        };
        match job {
            Some(job) if fetches => self.on_items_unreachable(job, now),
            Some(job) => self.lose_job(job, now),
            None => {}
        }
    }

    /// The application's answer, onto the call's own connection.
    pub(in crate::worker) fn answer(&mut self, link: Key) -> Option<&mut Sender> {
        match self.links.line(link) {
            Some(Line::Answer(sender)) => Some(sender),
            _ => None,
        }
    }

    /// The job has nothing more to do with its connection.
    pub(in crate::worker) fn unbind(&mut self, link: Key) {
        if let Some(home) = self.links.get_mut(link).and_then(|link| link.owner.home.as_mut()) {
            home.job = None;
        }
    }

    /// Removes a link that waits to be dialed again and no longer has a reason to: the driver does not know it.
    pub(in crate::worker) fn drop_pausing(&mut self, link: Key, now: Instant) {
        let closing = self.links.line(link).is_some_and(|line| is_closing(line));
        if closing && self.is_pausing(link) {
            self.on_dialed_closed(link, CloseReason::Local, now);
        }
    }
}

/// Whether a dialed connection has come up.
fn is_up(line: &Line) -> bool {
    match line {
        Line::Answer(sender) => sender.is_up(),
        Line::Items(fetcher) => fetcher.is_up(),
        _ => false,
    }
}

/// Whether a dialed connection is of no more use.
fn is_closing(line: &Line) -> bool {
    match line {
        Line::Answer(sender) => sender.state() == State::Closing,
        Line::Items(fetcher) => fetcher.state() == FetchState::Closing,
        _ => false,
    }
}
