//! What a connection writes, in which order: the farewell alone; else greeting, pings and credit; then control frames of
//! streams, which overtake data; then data, stream by stream in turn.

use alloc::vec::Vec;
use core::mem;

use crate::buf::room::Flight;
use crate::buf::send_queue::SendQueue;
use crate::buf::slab::Key;
use crate::id::StreamId;
use crate::mux::connection::{Connection, State, list};
use crate::mux::credit::is_announced;
use crate::mux::event::{Ending, Opening, Queued, Stats};
use crate::mux::stream::{Front, Stream, Writing};
use crate::time::Instant;
use crate::wire::checksum::Crc32c;
use crate::wire::class::Class;
use crate::wire::mux::frame::{Head, ITEM_COST, Kind, MAX_FRAGMENT, Preface, flags};
use crate::wire::mux::message::{GoAway, Hello, Open, Reject};

/// Body bytes one stream may write before the next one gets its turn.
const QUANTUM: usize = 16 << 10;

/// Why a stream stopped writing.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Pause {
    /// Its turn is over.
    Turn,
    /// It waits for something the peer will send, or has nothing left.
    Waiting,
    /// It waits for connection credit.
    Blocked,
    /// Its last frame is out.
    Finished,
}

impl Connection {
    /// Appends what is due to `out`, up to its limit; whether anything was.
    pub fn poll_transmit(&mut self, out: &mut SendQueue, now: Instant) -> bool {
        let before = out.len();
        self.write_connection(out);
        while self.state != State::Closing && !out.is_full() {
            if let Some(key) = self.urgent.pop_front() {
                self.write_control(key, out);
            } else if let Some(key) = self.ready.pop_front() {
                self.write_data(key, out, now);
            } else {
                break;
            }
        }
        let written = out.len() - before;
        if written > 0 {
            self.liveness.on_handed_out(written, now);
            self.flight.on_handed_out(written);
        }
        written > 0
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) would write something.
    pub fn wants_transmit(&self) -> bool {
        self.greeting_due
            || (self.farewell.is_some() && self.greeted)
            || self.hello_due
            || (self.state != State::Closing
                && (self.credit_due
                    || self.liveness.is_ping_due()
                    || !self.pongs.is_empty()
                    || (self.report.is_some() && self.peer.is_some())
                    || !self.urgent.is_empty()
                    || !self.ready.is_empty()))
    }

    fn write_connection(&mut self, out: &mut SendQueue) {
        if mem::take(&mut self.greeting_due) {
            out.push(&Preface::OURS.to_bytes());
            self.greeted = true;
        }
        if mem::take(&mut self.hello_due) {
            let hello = Hello {
                stream_window: self.config.stream_window,
                connection_window: self.config.connection_window,
                max_item: self.config.max_item,
                max_streams: self.config.max_streams,
            };
            self.frame(out, Kind::Hello, 0, StreamId::CONNECTION, &hello.to_bytes());
        }
        if self.greeted
            && let Some((code, message)) = self.farewell.take()
        {
            let goaway = GoAway { code, last: StreamId(self.peer_last), message };
            let mut header = mem::take(&mut self.scratch);
            goaway.write(|bytes| header.extend_from_slice(bytes));
            self.frame(out, Kind::GoAway, 0, StreamId::CONNECTION, &header);
            self.give_back(header);
        }
        if self.state == State::Closing {
            return;
        }
        if let Some(token) = self.liveness.take_ping() {
            self.frame(out, Kind::Ping, 0, StreamId::CONNECTION, &token.to_be_bytes());
        }
        while let Some(token) = self.pongs.pop_front() {
            self.frame(out, Kind::Pong, 0, StreamId::CONNECTION, &token.to_be_bytes());
        }
        if self.peer.is_some()
            && let Some(header) = self.report.take()
        {
            self.frame(out, Kind::Load, flags::OPTIONAL, StreamId::CONNECTION, &header);
        }
        if mem::take(&mut self.credit_due) && self.window.is_due() {
            let grant = self.window.grant();
            self.frame(out, Kind::Credit, 0, StreamId::CONNECTION, &grant.to_be_bytes());
        }
    }

    fn write_control(&mut self, key: Key, out: &mut SendQueue) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.listed.urgent = false;
        let (id, due) = (stream.id, &mut stream.due);
        let (cancel, reserve, reject) = (due.cancel.take(), due.reserve.take(), due.reject.take());
        let credit = mem::take(&mut due.credit).then(|| stream.window.grant());
        // An item that goes out now says "running" as well as a status frame would.
        let status = if stream.listed.ready { None } else { stream.due.status.take() };
        if let Some(reject) = reject {
            let (code, retry_after_ms, message) = *reject;
            let reject = Reject { code, retry_after_ms, message: &message };
            let mut header = mem::take(&mut self.scratch);
            reject.write(|bytes| header.extend_from_slice(bytes));
            self.frame(out, Kind::Reject, 0, id, &header);
            self.give_back(header);
            self.remove(key);
            return;
        }
        if let Some(mode) = cancel {
            self.frame(out, Kind::Cancel, 0, id, &[mode as u8]);
        }
        if let Some(status) = status {
            self.frame(out, Kind::Status, 0, id, &status.to_bytes());
        }
        if let Some(grant) = reserve {
            self.frame(out, Kind::Credit, flags::RESERVED, id, &grant.to_be_bytes());
        }
        if let Some(grant) = credit {
            self.frame(out, Kind::Credit, 0, id, &grant.to_be_bytes());
        }
    }

    fn write_data(&mut self, key: Key, out: &mut SendQueue, now: Instant) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.listed.ready = false;
        if let Some(opening) = stream.opening.take() {
            let id = stream.id;
            self.write_open(id, &opening, out, now);
        }
        let before = out.len();
        let pause = self.write_items(key, out);
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.moved |= out.len() > before;
        if stream.outbox.take_room(self.config.send_buffer) {
            self.events.push_back(Queued::Writable(key));
        }
        if stream.due.status.is_some() {
            self.list_urgent(key);
        }
        match pause {
            Pause::Turn => self.list_ready(key),
            Pause::Waiting => {}
            Pause::Blocked => {
                if let Some(stream) = self.streams.get_mut(key) {
                    stream.listed.blocked = true;
                    list(&mut self.blocked, &self.streams, key);
                }
            }
            Pause::Finished => {
                if self.streams.get(key).is_some_and(|stream| !stream.ours) {
                    self.remove(key);
                }
            }
        }
    }

    fn write_open(&mut self, id: StreamId, opening: &Opening, out: &mut SendQueue, now: Instant) {
        let open = Open {
            path: &opening.path,
            request_id: &opening.request_id,
            remaining_us: opening.deadline.map(|at| u64::try_from(at.since(now).as_micros()).unwrap_or(u64::MAX)),
            traceparent: opening.traceparent.as_deref(),
            tracestate: opening.tracestate.as_deref(),
            codec: opening.codec.as_deref(),
            priority: opening.priority,
            tenant: opening.tenant.as_deref(),
            attempts: opening.attempts,
            x_request_id: opening.x_request_id.as_deref(),
            ..Open::default()
        };
        let metadata = opening.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut header = mem::take(&mut self.scratch);
        let fits = open.write(metadata, |bytes| header.extend_from_slice(bytes)).is_ok();
        debug_assert!(
            fits && header.len() <= usize::from(u16::MAX),
            "Opening::fits is checked before a stream is opened"
        );
        self.frame(out, Kind::Open, 0, id, &header);
        self.give_back(header);
    }

    fn write_items(&mut self, key: Key, out: &mut SendQueue) -> Pause {
        let window = self.peer.map_or(0, |peer| peer.stream_window);
        let start = out.len();
        loop {
            let Some(stream) = self.streams.get_mut(key) else { return Pause::Waiting };
            let Some(price) = stream.first_cost() else { return self.write_end(key, out) };
            if out.len() - start >= QUANTUM || out.is_full() {
                return Pause::Turn;
            }
            if stream.front == Front::Unpaid {
                let announce = is_announced(price, window);
                let price = if announce { ITEM_COST.into() } else { price };
                if !stream.allowance.covers(price) {
                    self.stats.credit_stalls += 1;
                    return Pause::Waiting;
                }
                if !self.allowance.covers(price) {
                    self.stats.credit_stalls += 1;
                    return Pause::Blocked;
                }
                stream.allowance.spend(price);
                self.allowance.spend(price);
                stream.front = if announce { Front::Announced } else { Front::Paid { at: 0 } };
                if announce {
                    let (id, total) = (stream.id, item_len(stream));
                    self.frame(out, Kind::Item, flags::MORE, id, &total.to_be_bytes());
                    return Pause::Waiting;
                }
            }
            let held = stream.outbox.held();
            let done = match stream.front {
                Front::Paid { at } => write_fragment(stream, at, 0, self.config.crc, &mut self.stats, out),
                Front::Reserved { at } => {
                    write_fragment(stream, at, flags::RESERVED, self.config.crc, &mut self.stats, out)
                }
                Front::Unpaid | Front::Announced | Front::Truncated => return Pause::Waiting,
            };
            match held - stream.outbox.held() {
                copied @ ..=Flight::COPIED => self.queued -= copied,
                item => self.flight.add(item),
            }
            if done {
                return Pause::Finished;
            }
        }
    }

    /// Every queued item is out: the outcome, if it is known.
    fn write_end(&mut self, key: Key, out: &mut SendQueue) -> Pause {
        let Some(stream) = self.streams.get_mut(key) else { return Pause::Waiting };
        let mut ending = match &mut stream.writing {
            Writing::Open | Writing::Muted => return Pause::Waiting,
            Writing::Done | Writing::Killed => return Pause::Finished,
            Writing::Ending(ending) => mem::take(ending),
        };
        if stream.front == Front::Truncated && ending.class.is_none() {
            ending = Ending::failed(Class::Cancelled, "request.cancelled", "an item was cut short");
        }
        stream.writing = Writing::Done;
        stream.due.status = None;
        let id = stream.id;
        let mut header = mem::take(&mut self.scratch);
        ending.view().write(|bytes| header.extend_from_slice(bytes));
        self.frame(out, Kind::End, 0, id, &header);
        self.give_back(header);
        Pause::Finished
    }

    fn frame(&mut self, out: &mut SendQueue, kind: Kind, flags: u8, stream: StreamId, header: &[u8]) {
        // Lengths are bounded where headers are made; an overlong one would be a bug here, and the frame is left out.
        if let Ok(head) = Head::seal(kind, flags, stream, header, &[], self.config.crc) {
            out.push(&head);
            out.push(header);
            self.stats.frames_out += 1;
        }
    }

    fn give_back(&mut self, mut scratch: Vec<u8>) {
        scratch.clear();
        // An idle connection has no use for it.
        scratch.shrink_to(if self.streams.is_empty() { 0 } else { 1024 });
        self.scratch = scratch;
    }
}

/// Bytes of the first item.
fn item_len(stream: &Stream) -> u64 {
    stream.outbox.first().map_or(0, |item| item.len() as u64)
}

/// Whether the last item may be the last frame.
const fn ends_well(writing: &Writing) -> bool {
    matches!(writing, Writing::Ending(ending) if ending.class.is_none())
}

/// Writes the next part of the first item; whether that was the stream's last frame.
fn write_fragment(
    stream: &mut Stream,
    at: usize,
    paid: u8,
    crc: Crc32c,
    stats: &mut Stats,
    out: &mut SendQueue,
) -> bool {
    let Some(item) = stream.outbox.first() else { return false };
    let total = item.len();
    let end = total.min(at + MAX_FRAGMENT);
    let body = item.get(at..end).unwrap_or_default();
    let more = end < total;
    let is_last = !more && stream.outbox.len() == 1 && ends_well(&stream.writing);
    let first = at == 0 && paid == 0;
    let flags = paid
        | if more { flags::MORE } else { 0 }
        | if first { 0 } else { flags::CONT }
        | if is_last { flags::LAST } else { 0 };
    let total_field = (total as u64).to_be_bytes();
    let header: &[u8] = if first && more { &total_field } else { &[] };
    if let Ok(head) = Head::seal(Kind::Item, flags, stream.id, header, body, crc) {
        out.push(&head);
        out.push(header);
        stats.bytes_out += body.len() as u64;
        out.push_payload(item, at..end);
    }
    stats.frames_out += 1;
    stream.due.status = None;
    if more {
        stream.front = if paid == 0 { Front::Paid { at: end } } else { Front::Reserved { at: end } };
        return false;
    }
    stats.items_out += 1;
    stream.outbox.pop();
    stream.front = Front::Unpaid;
    if is_last {
        stream.writing = Writing::Done;
    }
    is_last
}
