//! The worker's Dynamo side: requests that ask for a call-home, the dials, and the streams they carry.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::buf::ages::{Ages, Ticket};
use crate::buf::slab::Key;
use crate::id::ConnId;
use crate::links::Leg;
use crate::mux::stream::Ending;
use crate::protocol::{Action, CloseReason, Fault};
use crate::request::message::Message;
use crate::stream::sender::{Event as HomeEvent, Sender, State};
use crate::time::{Deadline, Instant, Reason};
use crate::wire::ack::{Ack, OVERLOADED, SHUTTING_DOWN, UNKNOWN_ENDPOINT};
use crate::wire::codec::Codec;
use crate::wire::control::{CallHome, Control, RequestType};
use crate::wire::failure::Class;
use crate::wire::failure_key::Key as FailureKey;
use crate::wire::headers::Headers;
use crate::wire::mux::{Open, RejectCode};
use crate::wire::parse::{Format, Limits, Parse};
use crate::wire::two_part::TwoPart;
use crate::wire::typed_failure::{Failure, Public};
use crate::worker::config::Config;
use crate::worker::machine::{Cause, Event, Job, JobId, Place, Visitor, Worker};

/// What a worker keeps beside a connection it dials home.
#[derive(Debug)]
pub(super) struct Home {
    /// Whose response it brings; `None` once that is settled, and for a refusal.
    pub(super) job: Option<JobId>,
    /// It brings a refusal: it counts against `max_refusals`.
    refusal: bool,
    addr: SocketAddr,
    dial: Dial,
    tries: u32,
}

/// ```text
///  Dialing ──up──▶ Done
///    ▲  └──no descriptor, no port──▶ Pausing (a new name, the same stream)
///    └───────────redial_pause──────────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Dial {
    Dialing { since: Instant },
    Pausing { until: Instant },
    Done,
}

/// What has come of a request frame that is not whole.
#[derive(Debug)]
pub(super) struct Partial {
    ticket: Ticket,
    bytes: usize,
}

/// Those parts of frames, and what they add up to.
#[derive(Debug, Default)]
pub(super) struct Partials {
    pub(super) ages: Ages,
    pub(super) bytes: usize,
}

/// What a request turns into.
enum Verdict {
    /// A call.
    Call(Call),
    /// An error prologue.
    Refusal(CallHome, SocketAddr, Codec, Failure),
}

struct Call {
    endpoint: u32,
    home: CallHome,
    addr: SocketAddr,
    codec: Codec,
    header: Bytes,
    remaining_us: Option<u64>,
    body: Bytes,
}

/// What becomes of a frame that was under way too long while others came.
const HALF_SENT: &str = "Server overloaded: too many half-sent requests";
/// Text of a path an ack echoes, in bytes.
const MAX_ECHO: usize = 256;

impl Worker {
    /// Reads request frames and answers each.
    pub(super) fn take_requests(&mut self, link: Key, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let mut rest = bytes;
        while let Some(Leg::Requests(server)) = self.links.leg(link) {
            let Some(frame) = server.next(&mut rest, now)? else { break };
            let peer = self.links.get(link).and_then(|link| link.owner.peer);
            let message = Message { path: frame.path(), headers: frame.headers(), payload: frame.payload(), peer };
            let text = match self.request(&message, now) {
                Ok(()) => Cow::Borrowed(""),
                Err(text) => text,
            };
            if let Some(Leg::Requests(server)) = self.links.leg(link) {
                server.answer(&Ack::from_text(text.as_bytes()), now);
            }
        }
        Ok(())
    }

    /// Counts what is here of a frame that is not whole. Of too much, the frame that has been under way longest goes: one
    /// that is really being sent is soon over.
    pub(super) fn weigh(&mut self, link: Key, now: Instant) {
        let held = match self.links.leg(link) {
            Some(Leg::Requests(server)) => server.held(),
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
            if let Some(Leg::Requests(server)) = self.links.leg(oldest) {
                server.refuse(&Ack::from_text(HALF_SENT.as_bytes()), now);
            }
            self.weigh_nothing(oldest);
            self.links.settle(oldest, None, &mut self.wheel, now);
        }
    }

    /// The link holds no part of a frame any more.
    pub(super) fn weigh_nothing(&mut self, link: Key) {
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
        if self.drain.is_some() {
            self.stats.refused += 1;
            return Err(SHUTTING_DOWN.into());
        }
        let path = core::str::from_utf8(message.path).ok();
        let Some((path, endpoint)) = path.and_then(|path| Some((path, *self.paths.get(path)?))) else {
            self.stats.refused += 1;
            return Err(unknown_endpoint(message.path));
        };
        if self.is_full() {
            self.stats.overloaded += 1;
            return Err(OVERLOADED.into());
        }
        let verdict = read_request(message, path, endpoint, &self.config);
        match verdict.inspect_err(|_| self.stats.refused += 1)? {
            Verdict::Call(call) => {
                self.called(call, now);
                Ok(())
            }
            Verdict::Refusal(home, addr, codec, failure) => {
                self.stats.refused += 1;
                if self.refusals >= self.config.max_refusals {
                    return Err("Server overloaded: too many refused requests".into());
                }
                let mut sender = Sender::new(self.config.home, codec, &home.subject, now);
                sender.fail(failure, now);
                self.refusals += 1;
                self.dial_home(sender, None, addr, now);
                Ok(())
            }
        }
    }

    fn called(&mut self, call: Call, now: Instant) {
        let sender = Sender::new(self.config.home, call.codec, &call.home.subject, now);
        let link = self.dial_home(sender, None, call.addr, now);
        let deadline = call.remaining_us.map(|micros| now + core::time::Duration::from_micros(micros));
        let job = Job {
            endpoint: call.endpoint,
            stream: Some(Place::Home(link)),
            running: false,
            header: call.header,
            body: Some(call.body),
            deadline,
            timer: None,
        };
        let job = self.admit(job);
        if let Some(home) = self.links.get_mut(link).and_then(|link| link.owner.home.as_mut()) {
            home.refusal = false;
            home.job = Some(job);
        }
        self.run_or_queue(job);
        self.settle(link, now);
    }

    /// Dials; without a job it is a refusal that is brought home.
    fn dial_home(&mut self, sender: Sender, job: Option<JobId>, addr: SocketAddr, now: Instant) -> Key {
        let dial = Dial::Dialing { since: now };
        let home = Home { job, refusal: job.is_none(), addr, dial, tries: 0 };
        let key = self.insert_home(Box::new(sender), home);
        self.connect(key, addr);
        self.settle(key, now);
        key
    }

    fn insert_home(&mut self, sender: Box<Sender>, home: Home) -> Key {
        let visitor = Visitor { late: self.drain.is_some(), peer: None, home: Some(home), partial: None };
        let key = self.links.insert(visitor, |key| ConnId::dialed_home(key.to_u64()));
        if let Some(link) = self.links.get_mut(key) {
            link.leg = Some(Leg::Home(sender));
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
    pub(super) fn home_opened(&mut self, conn: ConnId, now: Instant) {
        let Some(key) = self.by_conn.get(&conn).copied() else { return };
        if let Some(home) = self.links.get_mut(key).and_then(|link| link.owner.home.as_mut()) {
            home.dial = Dial::Done;
        }
        if let Some(Leg::Home(sender)) = self.links.leg(key) {
            sender.handle_open(now);
        }
        self.settle(key, now);
    }

    /// A dialed connection is gone, or never came up.
    pub(super) fn home_closed(&mut self, key: Key, why: CloseReason, now: Instant) {
        self.links.close(key);
        let Some(link) = self.links.remove(key, &mut self.wheel) else { return };
        let (Some(Leg::Home(sender)), Some(mut home)) = (link.leg, link.owner.home) else { return };
        let early = !link.owner.late;
        let again = matches!(why, CloseReason::NoDescriptors | CloseReason::NoPorts)
            && !sender.is_up()
            && sender.state() != State::Closing
            && home.tries < self.config.redials;
        if again {
            home.tries += 1;
            home.dial = Dial::Pausing { until: now + self.config.redial_pause };
            let job = home.job;
            let new = self.insert_home(sender, home);
            if let Some(job) = job.and_then(|job| self.jobs.get_mut(job.0)) {
                job.stream = Some(Place::Home(new));
            }
            if let Some(link) = self.links.get_mut(new) {
                link.owner.late = !early;
            }
            return self.settle(new, now);
        }
        if !sender.is_up() && why != CloseReason::Local {
            self.stats.dial_failures += 1;
        }
        self.refusals -= usize::from(home.refusal);
        if let Some(job) = home.job.take() {
            self.lose_job(job, now);
        }
        if let Some(drain) = &mut self.drain {
            drain.links_left -= usize::from(early);
        }
    }

    pub(super) fn take_home_events(&mut self, link: Key, now: Instant) {
        loop {
            let Some(Leg::Home(sender)) = self.links.leg(link) else { return };
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
                        self.detach(job, None, cause);
                    } else {
                        self.refuse(job, RejectCode::Cancelled, "", now);
                    }
                }
            }
        }
    }

    /// The deadline of a dial, for whoever settles the link.
    pub(super) fn dial_deadline(&self, link: Key) -> Option<Deadline> {
        let home = self.links.get(link)?.owner.home.as_ref()?;
        match home.dial {
            Dial::Dialing { since } => Some(Deadline { at: since + self.config.dial_timeout, why: Reason::Connect }),
            Dial::Pausing { until } => Some(Deadline { at: until, why: Reason::Redial }),
            Dial::Done => None,
        }
    }

    /// Whether the link waits to be dialed again: the driver does not know it.
    pub(super) fn is_pausing(&self, link: Key) -> bool {
        let home = self.links.get(link).and_then(|link| link.owner.home.as_ref());
        home.is_some_and(|home| matches!(home.dial, Dial::Pausing { .. }))
    }

    /// A timer of a dialed link has fired.
    pub(super) fn home_timed_out(&mut self, link: Key, now: Instant) {
        if let Some(Leg::Home(sender)) = self.links.leg(link)
            && sender.handle_timeout(now).is_err()
        {
            self.stats.faults += 1;
        }
        if self.dial_deadline(link).is_none_or(|deadline| deadline.at > now) {
            return;
        }
        let Some(home) = self.links.get_mut(link).and_then(|link| link.owner.home.as_mut()) else { return };
        let (addr, job) = (home.addr, home.job);
        if matches!(home.dial, Dial::Pausing { .. }) {
            home.dial = Dial::Dialing { since: now };
            return self.connect(link, addr);
        }
        home.dial = Dial::Done;
        home.job = None;
        self.stats.dial_failures += 1;
        if let Some(Leg::Home(sender)) = self.links.leg(link) {
            sender.close(now);
        }
        if let Some(job) = job {
            self.lose_job(job, now);
        }
    }

    /// The application's answer, onto the call's own connection.
    pub(super) fn home(&mut self, link: Key) -> Option<&mut Sender> {
        match self.links.leg(link) {
            Some(Leg::Home(sender)) => Some(sender),
            _ => None,
        }
    }

    /// The job has nothing more to do with its connection.
    pub(super) fn let_go_home(&mut self, link: Key) {
        if let Some(home) = self.links.get_mut(link).and_then(|link| link.owner.home.as_mut()) {
            home.job = None;
        }
    }
}

impl Worker {
    /// Removes a link that waits to be dialed again and no longer has a reason to: the driver does not know it.
    pub(super) fn drop_pausing(&mut self, link: Key, now: Instant) {
        let closing = self.home(link).is_some_and(|sender| sender.state() == State::Closing);
        if closing && self.is_pausing(link) {
            self.home_closed(link, CloseReason::Local, now);
        }
    }
}

/// The failure that tells `ending`; `None` if it ended well.
pub(super) fn failure_of(ending: &Ending) -> Option<Failure> {
    let class = ending.class?;
    let fallback = FailureKey::ALL.iter().copied().find(|key| key.class() == class).unwrap_or(FailureKey::Unclassified);
    let key = FailureKey::from_name(&ending.reason).filter(|key| key.class() == class).unwrap_or(fallback);
    Some(failure(key, &ending.message))
}

/// A failure whose text the caller's own client may see if the request is to blame.
pub(super) fn failure(key: FailureKey, text: &str) -> Failure {
    let failure = Failure::new(key, text);
    match key.class() {
        Class::InvalidRequest => failure.with_public(Public::Message { message: text.into() }),
        _ => failure,
    }
}

/// What a call hears that is refused after it was acknowledged; `None` if nobody listens.
pub(super) fn refusal(code: RejectCode, message: &str) -> Option<Failure> {
    let key = match code {
        RejectCode::Cancelled => return None,
        RejectCode::Expired => FailureKey::from_name("request.deadline_exceeded"),
        RejectCode::Overloaded => Some(FailureKey::WorkerOverloaded),
        _ => Some(FailureKey::WorkerUnavailable),
    };
    Some(failure(key.unwrap_or(FailureKey::Unclassified), message))
}

fn unknown_endpoint(path: &[u8]) -> Cow<'static, str> {
    let shown = String::from_utf8_lossy(path.get(..MAX_ECHO.min(path.len())).unwrap_or_default());
    let dots = if path.len() > MAX_ECHO { "..." } else { "" };
    alloc::format!("{UNKNOWN_ENDPOINT}{shown}{dots}").into()
}

/// Everything a request says, or the ack's text if it does not say where to bring an answer.
fn read_request(
    message: &Message<'_>,
    path: &str,
    endpoint: u32,
    config: &Config,
) -> Result<Verdict, Cow<'static, str>> {
    let payload = &message.payload;
    let max = config.request.max_message;
    if payload.len() > max {
        let text = alloc::format!("Server unavailable: message too large: {} bytes (max: {max} bytes)", payload.len());
        return Err(text.into());
    }
    let limits = Limits { max_body: max, ..Limits::default() };
    let part = match TwoPart::parse(payload, &limits) {
        Ok(Parse::Complete { value, .. }) => value,
        Ok(Parse::Incomplete { .. }) => return Err("Server unavailable: truncated payload".into()),
        Err(error) => return Err(alloc::format!("Server unavailable: payload: {error}").into()),
    };
    let refused = |error: &dyn core::fmt::Display| Cow::Owned(alloc::format!("Server unavailable: {error}"));
    let (control, home) = match Control::read(part.header) {
        Ok(control) => {
            let home = control.response_stream().map_err(|error| refused(&error))?;
            (Ok(control), home)
        }
        Err(error) => match CallHome::from_broken_control(part.header) {
            Some(home) => (Err(error), home),
            None => return Err(refused(&error)),
        },
    };
    let Some(addr) = home.socket_addr() else {
        return Err("Server unavailable: the call-home address is not an IP address and port".into());
    };
    if !config.may_dial(addr.ip(), message.peer.map(|peer| peer.ip())) {
        return Err("Server unavailable: the call-home address is not the requester's and not on the allow list".into());
    }
    let control = match control {
        Ok(control) => control,
        Err(error) => {
            let text = alloc::format!("control message: {error}");
            return Ok(Verdict::Refusal(home, addr, Codec::Json, failure(FailureKey::InvalidArgument, &text)));
        }
    };
    let codec = control.payload_codec;
    if control.request_type == RequestType::ManyIn {
        let failure = failure(FailureKey::NotImplemented, "calls with a stream of request items are not served here");
        return Ok(Verdict::Refusal(home, addr, codec, failure));
    }
    if part.body.is_empty() {
        let failure = failure(FailureKey::InvalidArgument, "the request has no body");
        return Ok(Verdict::Refusal(home, addr, codec, failure));
    }
    let headers = Headers::read(message.headers);
    let remaining_us = headers.remaining_us();
    let Some(header) = open_header(path, &control, &headers, remaining_us) else {
        let failure = failure(FailureKey::InvalidArgument, "an id, a header or a metadata entry is too long");
        return Ok(Verdict::Refusal(home, addr, codec, failure));
    };
    let body = payload.slice_ref(part.body);
    Ok(Verdict::Call(Call { endpoint, home, addr, codec, header, remaining_us, body }))
}

/// The same words a mux call opens with, so that the application reads both alike.
fn open_header(path: &str, control: &Control, headers: &Headers<'_>, remaining_us: Option<u64>) -> Option<Bytes> {
    let open = Open {
        path,
        request_id: &control.id,
        remaining_us,
        traceparent: headers.traceparent(),
        tracestate: headers.tracestate(),
        codec: Some(control.payload_codec.name()),
        fields: &[],
    };
    let metadata = control.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let mut bytes = Vec::new();
    open.write(metadata, |part| bytes.extend_from_slice(part)).ok()?;
    Some(bytes.into())
}

impl Config {
    /// Whether a requester at `peer` may have this worker dial `addr`. A requester on this host may name any address: it
    /// could dial it as well as we can. Others only their own, and what is allowed.
    pub(super) fn may_dial(&self, addr: IpAddr, peer: Option<IpAddr>) -> bool {
        let canonical = addr.to_canonical();
        let requester = peer.is_some_and(|peer| peer.is_loopback() || peer.to_canonical() == canonical);
        requester || self.call_home.iter().flatten().any(|prefix| prefix.contains(canonical))
    }
}
