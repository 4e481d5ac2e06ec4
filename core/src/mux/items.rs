//! Items that arrive: charged to the windows or to the reserve pool, put together, dropped if nobody reads.

use crate::buf::slab::Key;
use crate::id::StreamId;
use crate::mux::connection::{Connection, list};
use crate::mux::credit::is_announced;
use crate::mux::event::{Ending, Queued};
use crate::mux::inbox::{Refused, cost};
use crate::mux::stream::{Current, Reading, Stream};
use crate::protocol::Fault;
use crate::wire::mux::frame::{Head, ITEM_COST, flags};
use crate::wire::mux::message::Meaning;
use crate::wire::parse::{Error, ErrorKind};

/// An item that may arrive.
struct Admitted {
    len: usize,
    announced: bool,
}

/// One stream may keep this part of the reserve pool in unread items, or one item if that is more.
const POOL_SHARES: u64 = 8;

impl Connection {
    /// The usual item: all of [`Self::on_item`], [`Self::on_body`] and [`Self::on_item_end`] in one step.
    pub(super) fn on_whole(&mut self, head: &Head, body: &[u8]) -> Result<(), Fault> {
        self.stats.frames_in += 1;
        if self.peer.is_none() {
            return Err(Fault::State);
        }
        let key = self.listening(head.stream)?;
        self.stats.items_in += 1;
        self.stats.bytes_in += body.len() as u64;
        if let Some((key, stream, _)) = self.admit_item(key, head, None)? {
            stream.inbox.push(body);
            self.tell_readable(key);
        }
        if head.has(flags::LAST)
            && let Some((key, _)) = self.known(head.stream)?
        {
            return self.on_terminal(key, Ending::ok());
        }
        Ok(())
    }

    pub(super) fn on_item(&mut self, head: Head, header: &[u8]) -> Result<(), Fault> {
        self.stats.frames_in += 1;
        if self.peer.is_none() || (head.has(flags::LAST) && head.has(flags::MORE)) {
            return Err(Fault::State);
        }
        let Meaning::Item { total } = Meaning::parse(&head, header)? else { return Err(Fault::State) };
        let key = self.listening(head.stream)?;
        if head.has(flags::CONT) {
            self.continue_item(key, &head, total)?;
        } else {
            self.begin_item(key, &head, total)?;
        }
        self.current = Some(Current { key, head });
        Ok(())
    }

    fn begin_item(&mut self, key: Option<Key>, head: &Head, total: Option<u64>) -> Result<(), Fault> {
        let Some((key, stream, Admitted { len, announced })) = self.admit_item(key, head, total)? else {
            return Ok(());
        };
        if stream.inbox.begin(len, announced).is_err() {
            self.starve(key);
        } else if announced {
            list(&mut self.pool_queue, &self.streams, key);
            self.release_pool(0);
        }
        Ok(())
    }

    /// Charges an item that begins to the windows; `None` if nobody listens.
    fn admit_item(
        &mut self,
        key: Option<Key>,
        head: &Head,
        total: Option<u64>,
    ) -> Result<Option<(Key, &mut Stream, Admitted)>, Fault> {
        let total = match (head.has(flags::MORE), total) {
            (true, Some(total)) => total,
            (false, None) => head.body_len as u64,
            _ => return Err(Fault::State),
        };
        if head.has(flags::RESERVED) {
            return Err(Fault::State);
        }
        let limit = self.config.max_item;
        let Some(len) = usize::try_from(total).ok().filter(|_| total <= limit) else {
            return Err(Fault::Wire(Error::new(ErrorKind::TooLarge { declared: total, limit }, 0)));
        };
        let announced = is_announced(cost(total), self.config.stream_window);
        if announced && head.body_len > 0 {
            return Err(Fault::State);
        }
        let price = if announced { ITEM_COST.into() } else { cost(total) };
        self.window.spend(price)?;
        self.credit_due |= self.window.is_due();
        let Some((key, stream)) = key.and_then(|key| Some((key, self.streams.get_mut(key)?))) else {
            self.credit_due |= self.window.consume(price);
            return Ok(None);
        };
        if stream.inbox.is_arriving() {
            return Err(Fault::State);
        }
        stream.window.spend(price)?;
        stream.moved = true;
        Ok(Some((key, stream, Admitted { len, announced })))
    }

    fn continue_item(&mut self, key: Option<Key>, head: &Head, total: Option<u64>) -> Result<(), Fault> {
        let Some(stream) = key.and_then(|key| self.streams.get(key)) else { return Ok(()) };
        let reserved = head.has(flags::RESERVED);
        if total.is_some() || !stream.inbox.is_arriving() || reserved != stream.inbox.is_reserved() {
            return Err(Fault::State);
        }
        if reserved && stream.inbox.awaited().is_some() {
            return Err(Fault::Credit);
        }
        Ok(())
    }

    pub(super) fn on_body(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stats.bytes_in += bytes.len() as u64;
        match self.listener() {
            Some((key, stream)) => match stream.inbox.append(bytes) {
                Ok(()) => Ok(()),
                Err(Refused::Overlong) => Err(Fault::State),
                Err(Refused::NoMemory) => {
                    self.starve(key);
                    Ok(())
                }
            },
            None => Ok(()),
        }
    }

    pub(super) fn on_item_end(&mut self) -> Result<(), Fault> {
        let Some(current) = self.current else { return Err(Fault::State) };
        let last = current.head.has(flags::LAST);
        if !current.head.has(flags::MORE) {
            self.stats.items_in += 1;
            if let Some((key, stream)) = self.listener() {
                stream.inbox.finish().map_err(|()| Fault::State)?;
                stream.moved = true;
                self.tell_readable(key);
            }
        }
        self.current = None;
        if last && let Some((key, _)) = self.known(current.head.stream)? {
            return self.on_terminal(key, Ending::ok());
        }
        Ok(())
    }

    /// There is no memory for the stream's item: it is dropped, and whatever follows it. The others go on.
    fn starve(&mut self, key: Key) {
        self.discard_input(key);
        self.events.push_back(Queued::Starved(key));
    }

    /// The stream an item is for, unless nobody listens any more.
    fn listening(&mut self, id: StreamId) -> Result<Option<Key>, Fault> {
        match self.known(id)? {
            Some((key, stream)) => match stream.reading {
                Reading::Open => Ok(Some(key)),
                Reading::Over(_) => Err(Fault::State),
                Reading::Discarding(_) => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// The stream whose item frame is arriving, unless nobody listens any more.
    fn listener(&mut self) -> Option<(Key, &mut Stream)> {
        let key = self.current?.key?;
        let stream = self.streams.get_mut(key)?;
        (!stream.reading.is_discarding()).then_some((key, stream))
    }

    /// Puts `bytes` back into the reserve pool and serves those who wait for some, in order. A stream whose reader leaves
    /// its share of the pool unread waits, and those behind it do not wait with it.
    pub(super) fn release_pool(&mut self, bytes: u64) {
        self.pool += bytes;
        let mut at = 0;
        while let Some(key) = self.pool_queue.get(at).copied() {
            let waiting = self.streams.get_mut(key).and_then(|stream| Some((stream.inbox.awaited()?, stream)));
            if let Some((needed, stream)) = waiting {
                if stream.pool_held > 0 && stream.pool_held + needed > self.config.reserve_pool / POOL_SHARES {
                    at += 1;
                    continue;
                }
                let (Some(left), Ok(grant)) = (self.pool.checked_sub(needed), u32::try_from(needed)) else { return };
                self.pool = left;
                stream.pool_held += needed;
                stream.inbox.grant();
                stream.moved = true;
                stream.due.reserve = Some(grant);
                self.list_urgent(key);
            }
            self.pool_queue.remove(at);
        }
    }
}
