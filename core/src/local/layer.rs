//! A layer between a driver and a host: encryption, a recorder, a meter.

use alloc::rc::Rc;
use core::cell::RefCell;
use core::fmt;
use core::net::SocketAddr;

use crate::buf::send_queue::SendQueue;
use crate::id::ConnId;
use crate::local::env::Host;
use crate::protocol::{Action, CloseReason, Fault, Protocol};
use crate::time::{Deadline, Instant};

/// A host whose machine is wrapped in another: what a driver drives in place of the host. The host and the tasks beside it know
/// nothing of the layer, and a host without a layer pays nothing for the possibility.
///
/// ```text
///   driver ─▶ Layered: L ─▶ Inner ─▶ machine of the host
///                │                        ▲
///                └─ events ─▶ host ◀─▶ tasks
/// ```
pub struct Layered<H: Host, L> {
    host: Rc<H>,
    layer: RefCell<L>,
}

impl<H: Host, L> Layered<H, L>
where
    L: Protocol<Event = <H::Machine as Protocol>::Event> + 'static,
{
    /// Puts the machine that `wrap` makes between a driver and `host`. The layer passes on to [`Inner`] what it does not see to
    /// itself, and keeps the promises of [`Protocol`] in both directions.
    pub fn new(host: Rc<H>, wrap: impl FnOnce(Inner<H>) -> L) -> Rc<Self> {
        let layer = RefCell::new(wrap(Inner(host.clone())));
        Rc::new(Self { host, layer })
    }
}

impl<H: Host, L> Layered<H, L> {
    /// What lies below the layer.
    pub const fn host(&self) -> &Rc<H> {
        &self.host
    }
}

impl<H: Host, L> fmt::Debug for Layered<H, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").finish_non_exhaustive()
    }
}

impl<H: Host, L> Host for Layered<H, L>
where
    L: Protocol<Event = <H::Machine as Protocol>::Event> + 'static,
{
    type Machine = L;

    fn with<R>(&self, f: impl FnOnce(&mut L) -> R) -> R {
        f(&mut self.layer.borrow_mut())
    }

    fn deliver(&self, event: L::Event) {
        self.host.deliver(event);
    }
}

/// The machine of a host, as the layer above it has it.
pub struct Inner<H>(Rc<H>);

impl<H> fmt::Debug for Inner<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl<H: Host> Protocol for Inner<H> {
    type Event = <H::Machine as Protocol>::Event;

    fn handle_open(&mut self, conn: ConnId, peer: Option<SocketAddr>, now: Instant) {
        self.0.with(|machine| machine.handle_open(conn, peer, now));
    }

    fn handle_listening(&mut self, outcome: Result<SocketAddr, CloseReason>, now: Instant) {
        self.0.with(|machine| machine.handle_listening(outcome, now));
    }

    fn handle_eof(&mut self, conn: ConnId, now: Instant) -> bool {
        self.0.with(|machine| machine.handle_eof(conn, now))
    }

    fn handle_recv(&mut self, conn: ConnId, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.0.with(|machine| machine.handle_recv(conn, bytes, now))
    }

    fn handle_sent(&mut self, conn: ConnId, bytes: usize, now: Instant) {
        self.0.with(|machine| machine.handle_sent(conn, bytes, now));
    }

    fn handle_close(&mut self, conn: ConnId, why: CloseReason, now: Instant) {
        self.0.with(|machine| machine.handle_close(conn, why, now));
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.with(|machine| machine.handle_timeout(now));
    }

    fn poll_ready(&mut self) -> Option<ConnId> {
        self.0.with(Protocol::poll_ready)
    }

    fn writers(&self) -> usize {
        self.0.with(|machine| machine.writers())
    }

    fn poll_transmit(&mut self, conn: ConnId, out: &mut SendQueue, now: Instant) -> bool {
        self.0.with(|machine| machine.poll_transmit(conn, out, now))
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.0.with(Protocol::poll_action)
    }

    fn poll_event(&mut self) -> Option<Self::Event> {
        self.0.with(Protocol::poll_event)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.0.with(|machine| machine.poll_timeout())
    }

    fn bytes_wanted(&self, conn: ConnId) -> usize {
        self.0.with(|machine| machine.bytes_wanted(conn))
    }
}
