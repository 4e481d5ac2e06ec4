//! One connection: its socket, its state, what it has in flight.

use std::rc::Rc;

use ringplane_core::buf::slab::Key;
use ringplane_core::id::{ConnId, ConnRole};
use ringplane_core::protocol::CloseReason;
use socket2::Socket;

/// One connection or dial.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) socket: Rc<Socket>,
    pub(crate) state: State,
    /// Operations in flight.
    pub(crate) connect: Option<Key>,
    pub(crate) receive: Option<Key>,
    pub(crate) send: Option<Key>,
    /// It has had its share of this turn and is asked again in the next.
    pub(crate) postponed: bool,
    /// The machine wants nothing more received for now.
    pub(crate) paused: bool,
    /// A cancel of its receive is in flight, because it pauses.
    pub(crate) pausing: bool,
    /// The peer has sent its FIN.
    pub(crate) ended: bool,
    /// The bytes broke the protocol: nothing more is delivered.
    pub(crate) faulty: bool,
    /// Writing failed. What the peer sent before is still delivered; this is the reason given afterwards.
    pub(crate) failed: Option<CloseReason>,
    /// A cancel came back without effect once; the socket has been shut down instead.
    pub(crate) insisted: bool,
}

/// Where a connection is in its life.
///
/// ```text
///   Dialing --connected--> Open --Close(Flush)--> Flushing --dry, FIN sent--> Lingering
///      |                    |                        |                           |
///      | refused, Close     | FIN, error, Abort      | error, Abort              | peer's FIN, error, time
///      +--------------------+------------------------+---------------------------+--> Closing --last completion--> gone
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

impl Conn {
    pub(crate) fn new(id: ConnId, socket: Rc<Socket>, state: State) -> Self {
        Self {
            id,
            socket,
            state,
            connect: None,
            receive: None,
            send: None,
            postponed: false,
            paused: false,
            pausing: false,
            ended: false,
            faulty: false,
            failed: None,
            insisted: false,
        }
    }

    /// Whether the machine knows it.
    pub(crate) const fn is_known(&self) -> bool {
        matches!(self.state, State::Dialing | State::Open | State::Flushing)
    }

    /// Whether it may be left in order: the peer dialed it, and nothing is half written.
    pub(crate) fn may_linger(&self) -> bool {
        self.state == State::Open && self.id.role() == ConnRole::Accepted && self.may_write()
    }

    /// Whether a write may begin.
    pub(crate) const fn may_write(&self) -> bool {
        matches!(self.state, State::Open | State::Flushing) && self.send.is_none() && self.failed.is_none()
    }

    /// Whether received bytes go to the machine.
    pub(crate) fn is_heard(&self) -> bool {
        self.state == State::Open && !self.faulty
    }

    /// Whether a receive shall be armed.
    pub(crate) fn wants_receive(&self) -> bool {
        let alive = match self.state {
            State::Open => !self.paused,
            State::Flushing | State::Lingering => true,
            State::Dialing | State::Closing => false,
        };
        alive && self.receive.is_none() && !self.ended
    }

    /// Whether nothing is in flight.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.connect.is_none() && self.receive.is_none() && self.send.is_none()
    }
}
