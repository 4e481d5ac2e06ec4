//! Items that the owner queues on a connection: which writer may, which one waits for room beside the others, and what is
//! dropped again.

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::buf::room::{FLOOR, Turn, fits};
use crate::buf::slab::Key;
use crate::mux::connection::{Connection, State, list};
use crate::mux::event::Queued;
use crate::mux::stream::{Front, Outbox, Stream};

impl Connection {
    /// Queues an item.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&mut self, key: Key, item: Bytes) -> Result<(), SendError> {
        self.offer(key, item, true)
    }

    /// Queues an item, if the owner of this connection has room for it beside those of its other connections: `admitted`.
    /// Within [`FLOOR`] that is not asked.
    pub(crate) fn offer(&mut self, key: Key, item: Bytes, admitted: bool) -> Result<(), SendError> {
        if !self.admits(key, item.len(), admitted)? {
            return Err(SendError::Blocked(item));
        }
        if let Some(stream) = self.streams.get_mut(key) {
            self.queued += Outbox::weight(item.len());
            stream.outbox.push(item);
            stream.moved = true;
            self.list_ready(key);
        }
        Ok(())
    }

    /// Queues the one item of a stream whose owner keeps it as well, and with it its memory: it waits for nobody.
    ///
    /// # Errors
    /// [`SendError::Closed`] and [`SendError::TooLarge`].
    pub(crate) fn lend(&mut self, key: Key, item: Bytes) -> Result<(), SendError> {
        self.check(key, item.len())?;
        if let Some(stream) = self.streams.get_mut(key) {
            stream.outbox.lend(item);
            stream.moved = true;
            self.list_ready(key);
        }
        Ok(())
    }

    /// Keeps room for an item of `len` bytes, which the stream sends next; `false` if there is none: an event tells.
    ///
    /// # Errors
    /// [`SendError::Closed`] and [`SendError::TooLarge`].
    pub(crate) fn reserve(&mut self, key: Key, len: usize, admitted: bool) -> Result<bool, SendError> {
        let there_is = self.admits(key, len, admitted)?;
        if there_is
            && let Some(stream) = self.streams.get_mut(key)
            && stream.turn == Turn::None
        {
            stream.turn = Turn::Granted(Outbox::weight(len));
            self.granted += Outbox::weight(len);
        }
        Ok(there_is)
    }

    /// A writer that was turned away, or for whom room is kept, does not try again. Others that share its stream do.
    pub(crate) fn forgo(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && stream.turn != Turn::None
        {
            self.granted -= core::mem::take(&mut stream.turn).granted();
            self.events.push_back(Queued::Writable(key));
        }
    }

    /// Bytes that wait here to be written and are held nowhere else, with those kept for writers whose turn it is.
    pub(crate) const fn outgoing(&self) -> usize {
        self.queued + self.granted
    }

    /// What the writer that is next weighs, if this connection has room for it.
    pub(crate) fn next_waiting(&mut self) -> Option<usize> {
        if self.waiting.is_empty() || self.state == State::Closing {
            return None;
        }
        let (_, weight) = self.first_waiting()?;
        fits(self.outgoing(), weight, self.config.connection_buffer).then_some(weight)
    }

    /// It is the next writer's turn: room is kept for it until it tries again. Its stream and that one's tag.
    pub(crate) fn grant(&mut self) -> Option<(Key, u64)> {
        let (key, weight) = self.first_waiting()?;
        self.waiting.pop_front();
        let stream = self.streams.get_mut(key)?;
        stream.listed.waiting = false;
        stream.turn = Turn::Granted(weight);
        self.granted += weight;
        Some((key, stream.tag))
    }

    /// Drops the items not yet written. None will be queued again, so that the stream waits for no credit.
    pub(super) fn drop_queued(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            if stream.front != Front::Unpaid {
                stream.front = Front::Truncated;
            }
            self.queued -= stream.drop_items();
            stream.listed.blocked = false;
            self.leave_waiting(key);
        }
    }

    /// The stream's writers have nothing more to wait for.
    pub(super) fn leave_waiting(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            self.granted -= core::mem::take(&mut stream.turn).granted();
        }
    }

    /// Whether an item may be queued now. If not, an event follows when it is worth another try.
    fn admits(&mut self, key: Key, len: usize, admitted: bool) -> Result<bool, SendError> {
        self.check(key, len)?;
        let nobody_waits = self.waiting.is_empty() || self.first_waiting().is_none();
        let Some(stream) = self.streams.get_mut(key) else { return Err(SendError::Closed) };
        let (weight, kept) = (Outbox::weight(len), stream.turn.granted());
        if kept > 0 {
            stream.turn = Turn::None;
            self.granted -= kept;
        }
        if !stream.outbox.admits(len, self.config.send_buffer) {
            return Ok(false);
        }
        let held = self.queued + self.granted;
        let room = || admitted && nobody_waits && fits(held, weight, self.config.connection_buffer);
        if held + weight <= FLOOR || kept >= weight || room() {
            return Ok(true);
        }
        stream.turn = Turn::Waiting(weight);
        if !core::mem::replace(&mut stream.listed.waiting, true) {
            list(&mut self.waiting, &self.streams, key);
        }
        Ok(false)
    }

    fn check(&self, key: Key, len: usize) -> Result<(), SendError> {
        let limit = self.peer.map_or(u64::MAX, |peer| peer.max_item);
        let stream = self.streams.get(key);
        if !stream.is_some_and(Stream::takes_items) {
            return Err(SendError::Closed);
        }
        if len as u64 > limit { Err(SendError::TooLarge { limit }) } else { Ok(()) }
    }

    /// The writer that has waited longest; those that have left are struck off.
    fn first_waiting(&mut self) -> Option<(Key, usize)> {
        while let Some(key) = self.waiting.front().copied() {
            if let Some(stream) = self.streams.get_mut(key) {
                if let Some(weight) = stream.turn.awaited() {
                    return Some((key, weight));
                }
                stream.listed.waiting = false;
            }
            self.waiting.pop_front();
        }
        None
    }
}
