//! The seam between machines and drivers: what a driver tells a machine, what it asks it, and in which order.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::buf::hold::NoMemory;
use crate::buf::send_queue::SendQueue;
use crate::id::ConnId;
use crate::time::{Deadline, Instant};
use crate::wire::parse;

pub use crate::buf::closing::Closing;

/// A machine that serves any number of connections, driven by io_uring, by tokio or by the simulator.
///
/// # Run recipe: the drain rule
/// After *one* `handle_*` call or one application command:
/// 1. [`poll_event`](Self::poll_event) until `None`, handing each to the application. What the application answers at
///    once then leaves together with the rest.
/// 2. [`poll_ready`](Self::poll_ready) until `None`; for each connection named that has no write in flight,
///    [`poll_transmit`](Self::poll_transmit) into its queue and write. A connection with a write in flight is asked again
///    when that write completes; the driver remembers which. One with more to write than its queue holds is named again
///    at once: a driver gives each connection a share of a turn and asks it again in the next, or timers, tasks and what is
///    to be read wait for the end of a large body.
/// 3. [`poll_action`](Self::poll_action) until `None`, carrying each action out.
/// 4. Again from 1 while any of them yields something; then arm a timer for [`poll_timeout`](Self::poll_timeout).
///
/// A driver may let several `handle_*` calls of one turn pass before it drains, provided that it drains before it waits.
///
/// # Pausing
/// After [`Action::Pause`] a driver takes no more bytes of that connection from the operating system, so that the peer's
/// window closes and the peer waits; after [`Action::Resume`] it receives as before. Nothing is lost on the way: what has been
/// received, or cannot be taken back from the operating system any more, is delivered all the same, and no more than the
/// driver's receive memory holds. The end of the connection lies behind the bytes that wait, so it is told after them; a
/// driver that learns earlier that the connection is gone may say so at once. Writing goes on meanwhile. A pause ends with
/// [`Action::Close`]: to be flushed, a connection is received from again, so that its peer can finish. Both actions name
/// connections that are up, in turns; for one that is being closed or gone they mean nothing.
///
/// # What the driver promises
/// - One [`handle_open`](Self::handle_open) per accepted connection and per dial that succeeded, before any other word of
///   that connection.
/// - Exactly one [`handle_close`](Self::handle_close) per connection opened *or dialed*, whatever ended it, and nothing
///   about that connection afterwards. [`Action::Close`] is answered by it too.
/// - `now` never runs backwards.
pub trait Protocol {
    /// What the application hears.
    type Event;

    /// The connection is up: a dial succeeded, or a listener accepted it. `peer` is the other end of an accepted connection, as
    /// [`peer_seen`] has it, if the driver knows it: a worker dials no other address for an answer unless its configuration says so.
    fn handle_open(&mut self, conn: ConnId, peer: Option<SocketAddr>, now: Instant);

    /// The answer to [`Action::Listen`]: the address that was bound, with its port, or why not. Connections accepted there are
    /// named by [`ConnId::accepted_home`].
    fn handle_listening(&mut self, _outcome: Result<SocketAddr, CloseReason>, _now: Instant) {}

    /// The peer has closed its direction (FIN). Whether the connection stays, to be written to; if not, the driver closes
    /// it with [`CloseReason::Eof`].
    fn handle_eof(&mut self, _conn: ConnId, _now: Instant) -> bool {
        false
    }

    /// Bytes arrived. They are read in place; whatever outlives the call is copied once, into memory that is charged to
    /// the peer's credit, so the driver may reuse its receive memory at once.
    ///
    /// # Errors
    /// A [`Fault`] if the bytes break the protocol. The machine has then already queued its farewell and the
    /// [`Action::Close`]; the error is for the driver's log.
    fn handle_recv(&mut self, conn: ConnId, bytes: &[u8], now: Instant) -> Result<(), Fault>;

    /// `bytes` more bytes of what [`poll_transmit`](Self::poll_transmit) handed out reached the operating system.
    fn handle_sent(&mut self, conn: ConnId, bytes: usize, now: Instant);

    /// The connection is gone.
    fn handle_close(&mut self, conn: ConnId, why: CloseReason, now: Instant);

    /// Time has passed. Safe to call early or late.
    fn handle_timeout(&mut self, now: Instant);

    /// The next connection that has something to write and has not been named since it last ran dry.
    fn poll_ready(&mut self) -> Option<ConnId>;

    /// How many connections [`poll_ready`](Self::poll_ready) would name, at most. A hint for when to write: the more there
    /// are, the longer it takes until each has something worth a system call.
    fn writers(&self) -> usize {
        1
    }

    /// Appends what `conn` has to write to `out`, up to the queue's limit, and says whether it appended anything. What is
    /// not pulled stays in the machine, where control frames can still overtake it.
    fn poll_transmit(&mut self, conn: ConnId, out: &mut SendQueue, now: Instant) -> bool;

    /// The next effect to carry out.
    fn poll_action(&mut self) -> Option<Action>;

    /// The next event for the application.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// When to call [`handle_timeout`](Self::handle_timeout) next, and why.
    fn poll_timeout(&self) -> Option<Deadline>;

    /// How many more bytes would complete the frame `conn` is in the middle of; 0 between frames. A hint for sizing
    /// receives.
    fn bytes_wanted(&self, conn: ConnId) -> usize;
}

/// What a driver tells [`Protocol::handle_open`] of a peer at `peer` that has dialed `local`. An IPv4 address that is written
/// as IPv6, as sockets that take both have it, is said as IPv4. A peer at the very address it has dialed is on this host:
/// it is said to be at the loopback, as one that dialed that is.
pub fn peer_seen(peer: SocketAddr, local: Option<SocketAddr>) -> SocketAddr {
    let ip = peer.ip().to_canonical();
    let here = local.is_some_and(|local| local.ip().to_canonical() == ip);
    let ip = match ip {
        IpAddr::V4(_) if here => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) if here => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, peer.port())
}

/// An effect only a driver can have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Dial `addr`; answer with `handle_open` or `handle_close(conn)`. A dial may be taken back by
    /// [`Action::Close`] before it is answered.
    Connect {
        /// The name of the connection to be.
        conn: ConnId,
        /// Where to.
        addr: SocketAddr,
    },
    /// Listen for workers that bring responses home, on `addr` (port 0: any); answer with `handle_listening`. Asked at most
    /// once, unless the answer was an error. The listener lives as long as its driver.
    Listen {
        /// What to bind.
        addr: SocketAddr,
    },
    /// Receive nothing more on the connection until [`Action::Resume`]: what lies here unread is enough.
    Pause {
        /// Which.
        conn: ConnId,
    },
    /// Receive again.
    Resume {
        /// Which.
        conn: ConnId,
    },
    /// End the connection; answer with `handle_close(conn, CloseReason::Local)`.
    Close {
        /// Which.
        conn: ConnId,
        /// With or without the bytes still queued.
        how: Closing,
    },
}

/// Why a connection is gone.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed in order (FIN).
    Eof,
    /// The machine asked for it.
    Local,
    /// The peer reset the connection.
    Reset,
    /// Nobody listens at the address.
    Refused,
    /// The address cannot be reached.
    Unreachable,
    /// The operating system gave up waiting for the peer.
    TimedOut,
    /// This process has no descriptor left (EMFILE, ENFILE).
    NoDescriptors,
    /// This host has no local port left (EADDRNOTAVAIL).
    NoPorts,
    /// The operating system refuses for a reason of its own: the errno.
    Os(i32),
}

impl CloseReason {
    /// The reason for a Linux errno of connect, send or receive.
    pub const fn from_errno(errno: i32) -> Self {
        match errno {
            104 | 32 | 103 => Self::Reset, // ECONNRESET, EPIPE, ECONNABORTED
            111 => Self::Refused,
            101 | 113 => Self::Unreachable, // ENETUNREACH, EHOSTUNREACH
            110 => Self::TimedOut,
            23 | 24 => Self::NoDescriptors, // ENFILE, EMFILE
            99 => Self::NoPorts,
            other => Self::Os(other),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("the peer closed the connection"),
            Self::Local => f.write_str("closed here"),
            Self::Reset => f.write_str("the peer reset the connection"),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable => f.write_str("address unreachable"),
            Self::TimedOut => f.write_str("the network gave up on the peer"),
            Self::NoDescriptors => f.write_str("out of file descriptors"),
            Self::NoPorts => f.write_str("out of local ports"),
            Self::Os(errno) => write!(f, "operating system error {errno}"),
        }
    }
}

impl core::error::Error for CloseReason {}

/// Who broke it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Blame {
    /// The other side broke the rules, or left.
    Peer,
    /// This side: its configuration, its limits, its wishes.
    Local,
    /// What lies between.
    Network,
}

/// A connection-ending violation.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Bytes that are no frame.
    Wire(parse::Error),
    /// The peer opened with another protocol: neither the mux preface nor anything served here.
    Dialect,
    /// The peer speaks no version in common.
    Version {
        /// What the peer offers.
        peer: u8,
    },
    /// A frame that is not allowed in this state.
    State,
    /// The peer sent more than its credit, or gave a credit of nothing.
    Credit,
    /// The peer opened more streams than it may.
    Streams,
    /// The peer floods control frames.
    Flood,
    /// The peer said nothing, not even to a ping, for its bound.
    Silent,
    /// The peer did not take bytes for its bound.
    Stalled,
    /// An item that the protocol allows and this side's limit does not.
    ItemTooLarge {
        /// Its size by its frame, in bytes.
        declared: u64,
        /// What is taken here, in bytes.
        limit: u64,
    },
    /// There is no memory for what the peer sends.
    NoMemory,
    /// The peer told us that *we* broke the protocol; its code.
    Told(u8),
}

impl Fault {
    /// Who broke it.
    pub const fn blame(self) -> Blame {
        match self {
            Self::Silent | Self::Stalled => Blame::Network,
            Self::Told(_) | Self::ItemTooLarge { .. } | Self::NoMemory => Blame::Local,
            _ => Blame::Peer,
        }
    }
}

impl From<NoMemory> for Fault {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl From<parse::Error> for Fault {
    fn from(error: parse::Error) -> Self {
        Self::Wire(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => write!(f, "malformed frame: {error}"),
            Self::Dialect => f.write_str("the peer speaks another protocol"),
            Self::Version { peer } => write!(f, "no version in common; the peer offers {peer}"),
            Self::State => f.write_str("frame not allowed now"),
            Self::Credit => f.write_str("the peer overran its credit, or gave none"),
            Self::Streams => f.write_str("the peer opened too many streams"),
            Self::Flood => f.write_str("the peer floods control frames"),
            Self::Silent => f.write_str("the peer stays silent"),
            Self::Stalled => f.write_str("the peer takes no bytes"),
            Self::ItemTooLarge { declared, limit } => {
                write!(f, "an item of {declared} bytes, more than the {limit} taken here")
            }
            Self::NoMemory => f.write_str("there is no memory for what the peer sends"),
            Self::Told(code) => write!(f, "the peer reports a protocol violation, code {code}"),
        }
    }
}

impl core::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_at_one_of_our_own_addresses_is_on_this_host_and_ipv4_is_said_as_such() {
        for (peer, local, seen) in [
            ("10.0.0.9:5", "10.0.0.1:80", "10.0.0.9:5"),
            ("10.0.0.1:5", "10.0.0.1:80", "127.0.0.1:5"),
            ("[::ffff:10.0.0.1]:5", "[::ffff:10.0.0.1]:80", "127.0.0.1:5"),
            ("[::ffff:127.0.0.1]:5", "[::ffff:127.0.0.1]:80", "127.0.0.1:5"),
            ("[::ffff:10.0.0.9]:5", "[::ffff:10.0.0.1]:80", "10.0.0.9:5"),
            ("[fd00::1]:5", "[fd00::1]:80", "[::1]:5"),
            ("[fd00::2]:5", "[fd00::1]:80", "[fd00::2]:5"),
        ] {
            let (peer, local) = (peer.parse().unwrap(), local.parse().ok());
            assert_eq!(peer_seen(peer, local), seen.parse().unwrap(), "{peer} at {local:?}");
        }
        let peer = "[::ffff:10.0.0.1]:5".parse().unwrap();
        assert_eq!(peer_seen(peer, None), "10.0.0.1:5".parse().unwrap());
    }

    #[test]
    fn the_errors_of_connect_and_send_have_names() {
        for (errno, reason) in [
            (104, CloseReason::Reset),
            (111, CloseReason::Refused),
            (24, CloseReason::NoDescriptors),
            (99, CloseReason::NoPorts),
            (110, CloseReason::TimedOut),
            (5, CloseReason::Os(5)),
        ] {
            assert_eq!(CloseReason::from_errno(errno), reason);
        }
    }
}
