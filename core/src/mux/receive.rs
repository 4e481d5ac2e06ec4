//! What arriving bytes do to a connection and to its streams; items are in `items`.

use alloc::string::ToString;

use bytes::Bytes;

use crate::buf::deframer::{Deframer, Piece};
use crate::buf::room::Turn;
use crate::buf::slab::Key;
use crate::id::StreamId;
use crate::mux::config::MIN_WINDOW;
use crate::mux::connection::{Connection, MAX_PONGS, State};
use crate::mux::credit::{Allowance, Overrun};
use crate::mux::event::{Ending, Event, Queued, Role};
use crate::mux::stream::{Front, Stream, Writing};
use crate::protocol::Fault;
use crate::time::Instant;
use crate::wire::mux::frame::{Head, ITEM_COST, Preface, flags};
use crate::wire::mux::message::{CancelMode, End, GoAway, Hello, Meaning, RejectCode, goaway};
use crate::wire::parse::{Error, ErrorKind, Limits};

impl From<Overrun> for Fault {
    fn from(_: Overrun) -> Self {
        Self::Credit
    }
}

impl Connection {
    /// Bytes arrived.
    ///
    /// # Errors
    /// The fault that ended the connection. The farewell is queued; later bytes are ignored.
    pub fn handle_recv(&mut self, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        if self.state == State::Closing {
            return Ok(());
        }
        self.liveness.on_received(now);
        let len = bytes.len();
        let spare = Deframer::new(&Limits::DEFAULT, self.config.crc);
        let mut deframer = core::mem::replace(&mut self.deframer, spare);
        let outcome = self.read(&mut deframer, bytes);
        self.deframer = deframer;
        self.weigh_frame(len, now);
        outcome.or_else(|fault| self.fail(fault, now))
    }

    fn read(&mut self, deframer: &mut Deframer, mut input: &[u8]) -> Result<(), Fault> {
        loop {
            let piece = match deframer.next(&mut input) {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(()),
                Err(Error { kind: ErrorKind::BadMagic, .. }) => return Err(Fault::Dialect),
                Err(error) => return Err(Fault::Wire(error)),
            };
            match piece {
                Piece::Preface(preface) => self.on_preface(preface)?,
                Piece::Frame { head, header } => self.on_frame(&head, header)?,
                Piece::Whole { head, body } => self.on_whole(&head, body)?,
                Piece::Item { head, header } => self.on_item(head, header)?,
                Piece::Body(bytes) => self.on_body(bytes)?,
                Piece::ItemEnd => self.on_item_end()?,
            }
        }
    }

    fn on_preface(&mut self, preface: Preface) -> Result<(), Fault> {
        if self.role == Role::Acceptor {
            self.greeting_due = true;
        }
        preface.common().ok_or(Fault::Version { peer: preface.newest })?;
        self.hello_due |= self.role == Role::Acceptor;
        Ok(())
    }

    fn on_frame(&mut self, head: &Head, header: &[u8]) -> Result<(), Fault> {
        self.stats.frames_in += 1;
        let meaning = Meaning::parse(head, header)?;
        let on_connection = head.stream == StreamId::CONNECTION;
        match meaning {
            Meaning::Unknown => Ok(()),
            Meaning::Hello(hello) if on_connection && self.peer.is_none() => self.on_hello(hello),
            _ if self.peer.is_none() => Err(Fault::State),
            Meaning::Ping(token) if on_connection => self.on_ping(token),
            Meaning::Pong(token) if on_connection && self.liveness.knows(token) => Ok(()),
            Meaning::GoAway(goaway) if on_connection => self.on_go_away(&goaway),
            Meaning::Credit(more) if on_connection => self.on_connection_credit(more),
            Meaning::Load(_) if on_connection => {
                if self.reported.replace(header.into()).is_none() {
                    self.events.push_back(Queued::Load);
                }
                Ok(())
            }
            Meaning::Open(_) => self.on_open(head.stream, header),
            Meaning::End(end) => self.on_end(head.stream, &end),
            Meaning::Cancel(mode) => self.on_cancel(head.stream, mode),
            Meaning::Credit(more) => self.on_stream_credit(head.stream, more, head.has(flags::RESERVED)),
            Meaning::Status(status) => {
                if let Some((key, stream)) = self.known(head.stream)?
                    && stream.ours
                    && !stream.reading.is_discarding()
                {
                    self.events.push_back(Queued::Status(key, status));
                }
                Ok(())
            }
            Meaning::Reject(reject) => self.on_reject(head.stream, reject.code, reject.retry_after_ms, reject.message),
            Meaning::Hello(_)
            | Meaning::Ping(_)
            | Meaning::Pong(_)
            | Meaning::GoAway(_)
            | Meaning::Load(_)
            | Meaning::Item { .. } => Err(Fault::State),
        }
    }

    fn on_hello(&mut self, hello: Hello) -> Result<(), Fault> {
        if hello.stream_window < MIN_WINDOW || hello.connection_window < hello.stream_window {
            return Err(Fault::Wire(Error::new(ErrorKind::Invalid, 0)));
        }
        self.peer = Some(hello);
        self.allowance = Allowance::new(hello.connection_window.into());
        if self.state == State::Opening {
            self.state = State::Up;
        }
        self.events.push_back(Queued::Whole(Event::Up));
        Ok(())
    }

    fn on_ping(&mut self, token: u64) -> Result<(), Fault> {
        if self.pongs.len() >= MAX_PONGS {
            return Err(Fault::Flood);
        }
        self.pongs.push_back(token);
        Ok(())
    }

    fn on_go_away(&mut self, message: &GoAway<'_>) -> Result<(), Fault> {
        if message.code != goaway::DRAIN {
            return Err(Fault::Told(message.code));
        }
        if self.state == State::Up {
            self.state = State::Draining;
        }
        let unseen = |stream: &Stream| stream.ours && stream.id > message.last;
        let refused: alloc::vec::Vec<Key> =
            self.streams.iter().filter(|(_, stream)| unseen(stream)).map(|(key, _)| key).collect();
        for key in refused {
            self.on_refusal(key, RejectCode::Draining, 0, "the worker is leaving");
        }
        self.events.push_back(Queued::Whole(Event::GoingAway));
        Ok(())
    }

    fn on_open(&mut self, id: StreamId, header: &[u8]) -> Result<(), Fault> {
        let peers = id.is_dialers() != (self.role == Role::Dialer);
        if !peers || id.0 <= self.peer_last {
            return Err(Fault::State);
        }
        if self.theirs >= self.config.max_streams {
            return Err(Fault::Streams);
        }
        self.peer_last = id.0;
        let allowance = self.peer.map_or(0, |peer| peer.stream_window);
        let mut stream = Stream::new(id, false, 0, allowance, self.config.stream_window);
        stream.header = Bytes::copy_from_slice(header);
        let key = self.streams.insert(stream);
        self.theirs += 1;
        self.by_id.insert(id.0, key);
        self.stats.streams += 1;
        if self.state == State::Draining {
            self.reject(key, RejectCode::Draining, 0, "this side is leaving");
        } else {
            self.events.push_back(Queued::Whole(Event::Opened(key)));
        }
        Ok(())
    }

    fn on_end(&mut self, id: StreamId, end: &End<'_>) -> Result<(), Fault> {
        let Some((key, stream)) = self.known(id)? else { return Ok(()) };
        if stream.inbox.is_arriving() && end.class.is_none() {
            return Err(Fault::State);
        }
        self.on_terminal(key, Ending::from(*end))
    }

    /// The peer's direction of the stream is over.
    pub(super) fn on_terminal(&mut self, key: Key, ending: Ending) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if stream.reading.outcome().is_some() {
            return Err(Fault::State);
        }
        stream.reading.end(ending);
        let (cost, pool) = stream.inbox.abandon();
        stream.window.consume(cost);
        stream.pool_held -= pool;
        stream.due.reserve = None;
        if stream.ours {
            self.queued -= stream.drop_items();
            let waits = core::mem::take(&mut stream.turn);
            self.granted -= waits.granted();
            stream.due.cancel = None;
            if stream.outbox.take_writer() || waits != Turn::None {
                // Whoever waits for room would wait for ever: there is nothing left to send to.
                self.events.push_back(Queued::Writable(key));
            }
        }
        let gone = stream.ours && stream.reading.is_discarding();
        self.credit_due |= self.window.consume(cost);
        self.release_pool(pool);
        if gone {
            self.remove(key);
        } else {
            self.tell_readable(key);
        }
        Ok(())
    }

    fn on_cancel(&mut self, id: StreamId, mode: CancelMode) -> Result<(), Fault> {
        let Some((key, stream)) = self.known(id)? else { return Ok(()) };
        if stream.ours {
            return Err(Fault::State);
        }
        if matches!(stream.writing, Writing::Muted) {
            return Ok(());
        }
        let told = stream.is_writable();
        if mode == CancelMode::Kill {
            // The opener reads no more and may give no more credit: nothing may wait for it.
            if matches!(stream.writing, Writing::Open) {
                stream.writing = Writing::Muted;
            }
            self.drop_queued(key);
            self.list_ready(key);
        }
        if told {
            self.events.push_back(Queued::Cancelled(key, mode));
        }
        Ok(())
    }

    fn on_reject(&mut self, id: StreamId, code: RejectCode, after: u32, message: &str) -> Result<(), Fault> {
        let Some((key, stream)) = self.known(id)? else { return Ok(()) };
        if !stream.ours || stream.reading.outcome().is_some() {
            return Err(Fault::State);
        }
        self.on_refusal(key, code, after, message);
        Ok(())
    }

    /// A stream of ours never ran.
    fn on_refusal(&mut self, key: Key, code: RejectCode, retry_after_ms: u32, message: &str) {
        if let Some(stream) = self.streams.get(key)
            && !stream.reading.is_discarding()
        {
            let (tag, message) = (stream.tag, message.to_string().into_boxed_str());
            self.events.push_back(Queued::Whole(Event::Rejected { tag, code, retry_after_ms, message }));
        }
        self.remove(key);
    }

    /// Wakes those who wait for credit of the connection, as many as it covers, in order. Each of them costs at least
    /// [`ITEM_COST`], so no more are looked at than the credit could serve: a peer that gives it in crumbs pays for the look
    /// with the crumb. One that is not covered keeps its place, and those behind it may pass.
    fn on_connection_credit(&mut self, more: u32) -> Result<(), Fault> {
        if more == 0 {
            return Err(Fault::Credit);
        }
        self.allowance.add(more.into())?;
        let window = self.peer.map_or(0, |peer| peer.stream_window);
        let mut spare = self.allowance.left();
        let mut looks = 1 + more / ITEM_COST;
        let mut kept = 0;
        for _ in 0..self.blocked.len() {
            let Some(key) = self.blocked.pop_front() else { break };
            let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.listed.blocked) else { continue };
            let price = stream.next_price(window).unwrap_or(0);
            if price <= spare {
                spare -= price;
                stream.listed.blocked = false;
                self.list_ready(key);
            } else {
                self.blocked.push_back(key);
                kept += 1;
            }
            looks -= 1;
            if looks == 0 {
                break;
            }
        }
        self.blocked.rotate_right(kept);
        Ok(())
    }

    fn on_stream_credit(&mut self, id: StreamId, more: u32, reserved: bool) -> Result<(), Fault> {
        if more == 0 {
            return Err(Fault::Credit);
        }
        let Some((key, stream)) = self.known(id)? else { return Ok(()) };
        if reserved {
            stream.reserved.add(more.into())?;
            let needed = stream.outbox.first().map_or(0, |item| item.len() as u64);
            if stream.front == Front::Announced {
                if !stream.reserved.covers(needed) {
                    return Err(Fault::State);
                }
                stream.reserved.spend(needed);
                stream.front = Front::Reserved { at: 0 };
            }
        } else {
            stream.allowance.add(more.into())?;
        }
        if stream.has_data() {
            self.list_ready(key);
        }
        Ok(())
    }

    /// The stream with this id; `None` if it has been and gone.
    pub(super) fn known(&mut self, id: StreamId) -> Result<Option<(Key, &mut Stream)>, Fault> {
        if let Some(key) = self.by_id.get(&id.0).copied() {
            let stream = self.streams.get_mut(key).map(|stream| (key, stream));
            // The peer cannot know a stream of ours that has not been written.
            return if stream.as_ref().is_some_and(|(_, s)| s.opening.is_some()) {
                Err(Fault::State)
            } else {
                Ok(stream)
            };
        }
        let ours = id.is_dialers() == (self.role == Role::Dialer);
        let seen = if ours { id.0 < self.next_id } else { id.0 <= self.peer_last };
        if seen && id != StreamId::CONNECTION { Ok(None) } else { Err(Fault::State) }
    }
}
