//! What the owner of a connection does with its streams: opens, reads, ends, cancels, refuses, lets go.

use alloc::boxed::Box;
use alloc::sync::Arc;

use bytes::Bytes;

use crate::buf::slab::Key;
use crate::id::StreamId;
use crate::mux::connection::{Connection, State};
use crate::mux::event::{Ending, Opening, Recv};
use crate::mux::stream::{Stream, Writing};
use crate::wire::mux::message::{CancelMode, Open, RejectCode, Status};

impl Connection {
    /// Opens a stream named `tag`. `None` if the connection takes none now: not up, draining, at the peer's limit, or out
    /// of ids.
    pub fn open(&mut self, tag: u64, opening: Arc<Opening>) -> Option<Key> {
        if !self.can_open() {
            return None;
        }
        let peer = self.peer?;
        let id = StreamId(self.next_id);
        self.next_id += 2;
        let mut stream = Stream::new(id, true, tag, peer.stream_window, self.config.stream_window);
        stream.opening = Some(opening);
        let key = self.streams.insert(stream);
        self.by_id.insert(id.0, key);
        self.stats.streams += 1;
        self.list_ready(key);
        Some(key)
    }

    /// Names a stream the peer opened.
    pub fn set_tag(&mut self, key: Key, tag: u64) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.tag = tag;
        }
    }

    /// What the peer opened the stream with.
    pub fn opening(&self, key: Key) -> Option<Open<'_>> {
        Open::parse(&self.streams.get(key)?.header).ok()
    }

    /// Bytes of the header the peer opened the stream with.
    pub(crate) fn header_len(&self, key: Key) -> usize {
        self.streams.get(key).map_or(0, |stream| stream.header.len())
    }

    /// Takes the open frame's header, to be read with [`Open::parse`] for as long as the owner likes.
    pub fn take_header(&mut self, key: Key) -> Option<Bytes> {
        self.streams.get_mut(key).map(|stream| core::mem::take(&mut stream.header))
    }

    /// Ends our direction after the items already queued. On a stream the peer opened this is the stream's outcome and the
    /// last word: what still arrives is dropped.
    pub fn end(&mut self, key: Key, ending: Ending) {
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.is_writable()) else { return };
        stream.writing = Writing::Ending(ending);
        let ours = stream.ours;
        self.leave_waiting(key);
        if !ours {
            self.discard_input(key);
        }
        self.list_ready(key);
    }

    /// Ends our direction now: items still queued are dropped. If a part of one has been written, the direction cannot end
    /// well: an `ending` that says so is replaced by one of class cancelled.
    pub fn abort(&mut self, key: Key, ending: Ending) {
        if self.streams.get(key).is_some_and(Stream::is_writable) {
            self.drop_queued(key);
            self.end(key, ending);
        }
    }

    /// Takes the next item or the outcome.
    pub fn recv(&mut self, key: Key) -> Recv {
        let Some(stream) = self.streams.get_mut(key) else { return Recv::End(Ending::ok()) };
        let Some(taken) = stream.inbox.take() else {
            stream.moved |= stream.told;
            stream.told = false;
            return stream.reading.outcome().cloned().map_or(Recv::Pending, Recv::End);
        };
        stream.pool_held -= taken.reserved;
        if stream.window.consume(taken.cost) && stream.reading.outcome().is_none() {
            stream.due.credit = true;
            self.list_urgent(key);
        }
        self.credit_due |= self.window.consume(taken.cost);
        self.release_pool(taken.reserved);
        Recv::Item(taken.item)
    }

    /// Cancels a stream we opened. Returns `true` if it had not been written yet: then it is gone and the peer never
    /// heard of it. A kill also ends our direction, unfinished items and all, and is said once.
    pub fn cancel(&mut self, key: Key, mode: CancelMode) -> bool {
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.ours) else { return false };
        if stream.opening.is_some() {
            self.remove(key);
            return true;
        }
        if stream.is_over() || matches!(stream.writing, Writing::Killed) {
            return false;
        }
        stream.due.cancel = stream.due.cancel.max(Some(mode));
        if mode == CancelMode::Kill {
            stream.writing = Writing::Killed;
            self.drop_queued(key);
        }
        self.list_urgent(key);
        false
    }

    /// Tells the opener that its stream is alive. Dropped if an item or the outcome goes out first.
    pub fn status(&mut self, key: Key, status: Status) {
        if let Some(stream) = self.streams.get_mut(key).filter(|stream| !stream.ours) {
            stream.due.status = Some(status);
            self.list_urgent(key);
        }
    }

    /// Refuses a stream the peer opened; it must not have been answered yet.
    pub fn reject(&mut self, key: Key, code: RejectCode, retry_after_ms: u32, message: &str) {
        if let Some(stream) = self.streams.get_mut(key).filter(|stream| !stream.ours && stream.is_writable()) {
            stream.header = Bytes::new();
            stream.due.status = None;
            stream.due.reject = Some(Box::new((code, retry_after_ms, message.into())));
            self.drop_queued(key);
            self.discard_input(key);
            self.list_urgent(key);
        }
    }

    /// The owner is done with the stream. One of ours that is still running is killed, as its peer might wait for credit
    /// for ever, and discards what comes until the peer's terminal frame. One of theirs has to be ended as well.
    pub fn release(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.is_over() {
            self.remove(key);
        } else if !self.cancel(key, CancelMode::Kill) {
            self.discard_input(key);
        }
    }

    /// Tells the peer how much this side has to do, by the header of a load frame. One that is not written yet is replaced.
    pub fn report(&mut self, header: Box<[u8]>) {
        self.report = Some(header);
    }

    /// No new streams from now on, in either direction; closes once the last one is gone.
    pub fn go_away(&mut self) {
        if matches!(self.state, State::Opening | State::Up) {
            self.state = State::Draining;
            self.farewell = Some((0, ""));
        }
    }
}
