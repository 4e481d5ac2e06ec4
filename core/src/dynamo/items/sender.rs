//! The caller's end of a Dynamo request stream: items out to a worker that has come for them, and one word at the end.

use core::time::Duration;

use bytes::Bytes;

use crate::buf::closing::{Close, Closing};
use crate::buf::outbox::SendError;
use crate::buf::progress::Progress;
use crate::buf::send_queue::SendQueue;
use crate::dynamo::queue::Queue;
use crate::protocol::Fault;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::dynamo::two_part::Head;
use crate::wire::dynamo::word::Word;

/// What bounds the caller's end of a request stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bytes of items queued before a writer has to wait. Default 256 KiB; one larger item is always taken when the queue
    /// is empty.
    pub send_buffer: usize,
    /// The longest that bytes may fail to move, because the worker reads nothing. Default 60 s.
    pub send_timeout: Duration,
    /// The longest that the close may take once all is written. Default 1 s.
    pub flush_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { send_buffer: 256 << 10, send_timeout: Duration::from_secs(60), flush_timeout: Duration::from_secs(1) }
    }
}

/// The caller's end of one call's request stream, from the handshake on. The worker says nothing here after it.
///
/// ```text
///  items go out ──end(word)──▶ what is queued, then the word ──all written──▶ the socket is closed
///        └──bytes do not move──▶ the socket is reset
/// ```
///
/// # Deadlines
/// `SendStall` while bytes wait, `Drain` while closing. The call is bounded by the owner.
#[derive(Debug)]
pub struct Sender {
    config: Config,
    items: Queue,
    has_room: bool,
    /// The word at the end, until it is handed out.
    last: Option<Word>,
    ended: bool,
    stalled: bool,
    progress: Progress,
    close: Close,
}

impl Sender {
    /// A connection whose handshake has been read.
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            config,
            items: Queue::default(),
            has_room: false,
            last: None,
            ended: false,
            stalled: false,
            progress: Progress::new(now),
            close: Close::new(),
        }
    }

    /// Queues an item.
    ///
    /// # Errors
    /// [`SendError::Blocked`]; [`take_writable`](Self::take_writable) tells when to try again. [`SendError::Closed`].
    pub fn send(&mut self, item: Bytes) -> Result<(), SendError> {
        self.offer(item, true)
    }

    /// Queues an item, if the owner has room for it beside those of its other connections: `admitted`.
    pub(crate) fn offer(&mut self, item: Bytes, admitted: bool) -> Result<(), SendError> {
        if self.ended {
            return Err(SendError::Closed);
        }
        self.items.offer(item, self.config.send_buffer, admitted)
    }

    /// The writer that was turned away does not try again. Others that share the stream do.
    pub(crate) fn forgo(&mut self) {
        self.has_room |= self.items.forgo();
    }

    /// It is the turn of the writer that waits for room beside other connections.
    pub(crate) const fn grant(&mut self) {
        self.items.grant();
    }

    /// What that writer weighs.
    pub(crate) const fn awaited(&self) -> Option<usize> {
        self.items.awaited()
    }

    /// Bytes of memory that wait here to be written, with those kept for the writer whose turn it is.
    pub(crate) const fn outgoing(&self) -> usize {
        self.items.outgoing()
    }

    /// Says the last word: the sentinel after the items queued, a stop or a kill instead of them. Only the first counts.
    pub fn end(&mut self, word: Word) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.last = Some(word);
        if word == Word::Sentinel {
            self.items.close();
        } else {
            self.items.clear();
        }
    }

    /// Whether a writer that was turned away may try again; each answer once.
    pub const fn take_writable(&mut self) -> bool {
        core::mem::replace(&mut self.has_room, false)
    }

    /// Bytes of what was handed out are written.
    pub fn handle_sent(&mut self, bytes: usize, now: Instant) {
        self.progress.on_sent(bytes, now);
        self.items.on_written(bytes);
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`Fault::Stalled`] if the worker reads nothing.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        match self.poll_timeout() {
            Some(Deadline { at, why: Reason::SendStall }) if at <= now => {
                self.end(Word::Kill);
                self.stalled = true;
                Err(Fault::Stalled)
            }
            _ => Ok(()),
        }
    }

    /// Whether something waits to be handed out.
    pub fn wants_transmit(&self) -> bool {
        !self.stalled && (!self.items.is_empty() || self.last.is_some())
    }

    /// Appends what is due, whole frames only; whether there was anything.
    pub fn poll_transmit(&mut self, out: &mut SendQueue, now: Instant) -> bool {
        if !self.wants_transmit() || out.is_full() {
            return false;
        }
        let before = out.len();
        self.progress.begin(now);
        while !out.is_full() {
            let Some(item) = self.items.pop() else { break };
            out.push(&Head::new(0, item.len()).to_bytes());
            out.push_payload(&item, 0..item.len());
        }
        if self.items.is_empty()
            && let Some(word) = self.last.take()
        {
            let header = word.header();
            out.push(&Head::new(header.len(), 0).to_bytes());
            out.push(header);
        }
        self.has_room |= self.items.take_room(self.config.send_buffer);
        self.items.on_handed_out(out.len() - before);
        self.progress.on_handed_out(out.len() - before);
        true
    }

    /// How the socket should be closed now, if it should; each answer once. What was handed out goes first.
    pub fn poll_close(&mut self, now: Instant) -> Option<Closing> {
        let written = self.ended && self.last.is_none() && self.progress.in_flight() == 0;
        if self.stalled || written {
            self.close.begin(self.progress.moved());
        }
        let how = if self.stalled { Closing::Abort } else { Closing::Flush };
        self.close.poll(Some(how), self.config.flush_timeout, now)
    }

    /// When to wake this machine, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.stalled {
            return None;
        }
        self.progress.deadline(self.config.send_timeout).or_else(|| self.close.deadline(self.config.flush_timeout))
    }

    /// Bytes of items queued.
    pub const fn held(&self) -> usize {
        self.items.held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dynamo::two_part::frame;
    use alloc::vec::Vec;

    const T0: Instant = Instant::ZERO;

    fn written(sender: &mut Sender) -> Vec<u8> {
        let mut queue = SendQueue::new(1 << 20);
        while sender.poll_transmit(&mut queue, T0) {}
        let mut slices = [&[][..]; 64];
        let used = queue.slices(&mut slices);
        let bytes = slices[..used].concat();
        sender.handle_sent(bytes.len(), T0);
        bytes
    }

    #[test]
    fn items_go_out_bare_then_the_sentinel_then_the_socket_closes() {
        let mut sender = Sender::new(Config::default(), T0);
        for item in ["1", "{}"] {
            sender.send(Bytes::from_static(item.as_bytes())).unwrap();
        }
        sender.end(Word::Sentinel);
        sender.end(Word::Kill);
        assert_eq!(sender.send(Bytes::new()), Err(SendError::Closed));
        assert_eq!(sender.poll_close(T0), None);
        let expected = [frame(b"", b"1"), frame(b"", b"{}"), frame(br#""sentinel""#, b"")].concat();
        assert_eq!(written(&mut sender), expected);
        assert_eq!(sender.poll_close(T0), Some(Closing::Flush));
        let deadline = sender.poll_timeout().unwrap();
        assert_eq!((deadline.why, sender.poll_close(deadline.at)), (Reason::Drain, Some(Closing::Abort)));
        assert_eq!(sender.poll_timeout(), None);
    }

    #[test]
    fn a_stop_or_a_kill_goes_instead_of_what_is_queued() {
        for (word, text) in [(Word::Stop, br#""stop""#), (Word::Kill, br#""kill""#)] {
            let mut sender = Sender::new(Config::default(), T0);
            sender.send(Bytes::from_static(b"1")).unwrap();
            sender.end(word);
            assert_eq!((written(&mut sender), sender.held()), (frame(text, b""), 0));
        }
    }

    #[test]
    fn a_full_queue_turns_writers_away_until_it_is_half_empty() {
        let mut sender = Sender::new(Config { send_buffer: 4, ..Config::default() }, T0);
        sender.send(Bytes::from_static(b"large item")).unwrap();
        assert!(matches!(sender.send(Bytes::from_static(b"x")), Err(SendError::Blocked(_))));
        assert!(!sender.take_writable());
        written(&mut sender);
        assert!(sender.take_writable() && !sender.take_writable());
        assert_eq!(sender.send(Bytes::from_static(b"x")), Ok(()));
    }

    #[test]
    fn a_worker_that_reads_nothing_loses_the_connection() {
        let mut sender = Sender::new(Config::default(), T0);
        sender.send(Bytes::from_static(b"x")).unwrap();
        assert!(sender.poll_transmit(&mut SendQueue::new(1 << 20), T0));
        let deadline = sender.poll_timeout().unwrap();
        assert_eq!(deadline.why, Reason::SendStall);
        assert_eq!(sender.handle_timeout(deadline.at), Err(Fault::Stalled));
        assert_eq!(sender.poll_close(deadline.at), Some(Closing::Abort));
    }
}
