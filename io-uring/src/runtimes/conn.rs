//! One connection of a driver on a runtime with owned buffers.

use std::rc::Rc;
use std::task::{Poll, Waker};

use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::{ConnId, ConnRole};
use ringplane_core::protocol::CloseReason;

use crate::runtimes::runtime::{Outgoing, Runtime};
use crate::runtimes::signal::Halt;

/// One connection or dial.
pub(crate) struct Conn<R: Runtime> {
    pub(crate) id: ConnId,
    pub(crate) state: State,
    /// Ends its operations, once it is up.
    pub(crate) control: Option<R::Control>,
    /// Ends its dial, while that lasts.
    pub(crate) dial: Option<Rc<Halt>>,
    /// Bytes pulled and not yet written; none in between.
    pub(crate) queue: Option<SendQueue>,
    /// A write is in flight.
    pub(crate) writing: bool,
    /// Everything pulled is written; FIN is due or sent.
    pub(crate) finishing: bool,
    /// The writing task, while it has nothing to do.
    pub(crate) writer: Option<Waker>,
    /// The machine wants nothing more read for now.
    pub(crate) paused: bool,
    /// The reading task, while it waits for the end of that.
    pub(crate) reader: Option<Waker>,
    /// The peer has sent its FIN.
    pub(crate) ended: bool,
    /// The bytes broke the protocol: nothing more is delivered.
    pub(crate) faulty: bool,
    /// Writing failed. What the peer sent before is still delivered; this is the reason given afterwards.
    pub(crate) failed: Option<CloseReason>,
    /// Tasks that work for it. The last one to leave frees the slot.
    pub(crate) tasks: u8,
}

/// Where a connection is in its life; as with the driver on a ring of its own.
///
/// ```text
///   Dialing --connected--> Open --Close(Flush)--> Flushing --dry, FIN sent--> Lingering
///      |                    |                        |                           |
///      | refused, Close     | FIN, error, Abort      | error, Abort              | peer's FIN, error, time
///      +--------------------+------------------------+---------------------------+--> Closing --last task left--> gone
/// ```
/// The machine knows the connection in the first three; it gets its `handle_close` on the way out of them.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Dialing,
    Open,
    Flushing,
    Lingering,
    Closing,
}

/// What the writing task does next.
#[derive(Debug)]
pub(crate) enum Write {
    /// Write this.
    Bytes(Outgoing),
    /// Send FIN.
    Finish,
    /// Leave.
    Over,
}

/// What the reading task does next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    /// Read, up to this many bytes.
    Next(usize),
    /// The same in a moment: the kernel is short of memory.
    Later(usize),
    /// Leave.
    Over,
}

impl<R: Runtime> Conn<R> {
    pub(crate) fn new(id: ConnId, state: State) -> Self {
        Self {
            id,
            state,
            control: None,
            dial: None,
            queue: None,
            writing: false,
            finishing: false,
            writer: None,
            paused: false,
            reader: None,
            ended: false,
            faulty: false,
            failed: None,
            tasks: 0,
        }
    }

    /// Whether the machine knows it.
    pub(crate) const fn is_known(&self) -> bool {
        matches!(self.state, State::Dialing | State::Open | State::Flushing)
    }

    /// Whether it may be left in order: the peer dialed it and has not ended it, and nothing is half written.
    pub(crate) fn may_linger(&self) -> bool {
        let is_open = self.state == State::Open && self.id.role() == ConnRole::Accepted && !self.ended;
        is_open && self.queue.is_none() && !self.writing && self.failed.is_none()
    }

    /// Whether bytes may be pulled for it.
    pub(crate) const fn may_pull(&self) -> bool {
        let up = matches!(self.state, State::Open | State::Flushing);
        up && self.queue.is_none() && !self.finishing && self.failed.is_none()
    }

    /// Whether received bytes go to the machine.
    pub(crate) fn is_heard(&self) -> bool {
        self.state == State::Open && !self.faulty
    }

    /// What the writing task does next; it is told through `waker` when there is something.
    pub(crate) fn next_write(&mut self, waker: &Waker, scratch: impl FnOnce() -> Vec<u8>) -> Poll<Write> {
        match (self.state, &self.queue) {
            (State::Lingering, _) if self.finishing => {
                self.finishing = false;
                return Poll::Ready(Write::Finish);
            }
            (State::Lingering | State::Closing, _) => return Poll::Ready(Write::Over),
            (_, Some(queue)) if self.failed.is_none() => {
                self.writing = true;
                return Poll::Ready(Write::Bytes(Outgoing::of(queue, scratch())));
            }
            _ if self.finishing => return Poll::Ready(Write::Finish),
            _ => {}
        }
        self.writer = Some(waker.clone());
        Poll::Pending
    }

    /// Whether the reading task may read on, or has to leave; it is told through `waker` once it need not wait any more.
    pub(crate) fn next_read(&mut self, waker: &Waker) -> Poll<bool> {
        match self.state {
            State::Closing => Poll::Ready(false),
            State::Open if self.paused => {
                self.reader = Some(waker.clone());
                Poll::Pending
            }
            _ => Poll::Ready(true),
        }
    }

    /// Has the reading task wait before its next read, or go on.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
        if !paused && let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    /// Makes the writing task look.
    pub(crate) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}
