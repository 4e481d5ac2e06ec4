//! One simulated host: a machine behind one interface, its tasks, and the connections it knows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::ConnId;
use ringplane_core::local::env::{Env, Host};
use ringplane_core::protocol::{Action, CloseReason, Fault, Protocol};
use ringplane_core::time::{Deadline, Instant};

use super::clock::Clock;
use super::executor::{Attention, Bell, Executor};
use super::link::Side;
use super::rng::Rng;

/// A machine of any kind, as the simulator drives it.
pub(super) trait Driven {
    fn listening(&self, addr: SocketAddr, now: Instant);
    fn open(&self, conn: ConnId, peer: Option<SocketAddr>, now: Instant);
    fn eof(&self, conn: ConnId, now: Instant) -> bool;
    fn recv(&self, conn: ConnId, bytes: &[u8], now: Instant) -> Result<(), Fault>;
    fn sent(&self, conn: ConnId, bytes: usize, now: Instant);
    fn close(&self, conn: ConnId, why: CloseReason, now: Instant);
    fn timeout(&self, now: Instant);
    fn ready(&self) -> Option<ConnId>;
    fn transmit(&self, conn: ConnId, out: &mut SendQueue, now: Instant) -> bool;
    fn action(&self) -> Option<Action>;
    /// Hands one event to the application; false if there was none.
    fn event(&self) -> bool;
    fn deadline(&self) -> Option<Deadline>;
    fn bytes_wanted(&self, conn: ConnId) -> usize;
}

/// A host of a known kind.
pub(super) struct Driver<H>(pub(super) Rc<H>);

impl<H: Host> Driven for Driver<H> {
    fn listening(&self, addr: SocketAddr, now: Instant) {
        self.0.with(|machine| machine.handle_listening(Ok(addr), now));
    }

    fn open(&self, conn: ConnId, peer: Option<SocketAddr>, now: Instant) {
        self.0.with(|machine| machine.handle_open(conn, peer, now));
    }

    fn eof(&self, conn: ConnId, now: Instant) -> bool {
        self.0.with(|machine| machine.handle_eof(conn, now))
    }

    fn recv(&self, conn: ConnId, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.0.with(|machine| machine.handle_recv(conn, bytes, now))
    }

    fn sent(&self, conn: ConnId, bytes: usize, now: Instant) {
        self.0.with(|machine| machine.handle_sent(conn, bytes, now));
    }

    fn close(&self, conn: ConnId, why: CloseReason, now: Instant) {
        self.0.with(|machine| machine.handle_close(conn, why, now));
    }

    fn timeout(&self, now: Instant) {
        self.0.with(|machine| machine.handle_timeout(now));
    }

    fn ready(&self) -> Option<ConnId> {
        self.0.with(Protocol::poll_ready)
    }

    fn transmit(&self, conn: ConnId, out: &mut SendQueue, now: Instant) -> bool {
        self.0.with(|machine| machine.poll_transmit(conn, out, now))
    }

    fn action(&self) -> Option<Action> {
        self.0.with(Protocol::poll_action)
    }

    fn event(&self) -> bool {
        let event = self.0.with(Protocol::poll_event);
        event.map(|event| self.0.deliver(event)).is_some()
    }

    fn deadline(&self) -> Option<Deadline> {
        self.0.with(|machine| machine.poll_timeout())
    }

    fn bytes_wanted(&self, conn: ConnId) -> usize {
        self.0.with(|machine| machine.bytes_wanted(conn))
    }
}

/// Where a connection of a host is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// At this end of this wire.
    At { wire: u32, side: Side },
    /// Closed: the machine has been told.
    Dead,
}

/// One host. Without a machine it is a host that has been killed.
pub(super) struct Node {
    pub(super) addr: SocketAddr,
    /// Where it listens for those that come home to it, once it has asked for that.
    pub(super) home: Option<SocketAddr>,
    pub(super) machine: Option<Rc<dyn Driven>>,
    pub(super) env: Env,
    pub(super) tasks: Rc<Executor>,
    pub(super) bell: Arc<Bell>,
    pub(super) conns: HashMap<ConnId, Place>,
    /// Connections accepted so far.
    pub(super) accepted: u64,
    pub(super) frozen: bool,
    /// The instant the timer is armed for; `FAR` if it is not.
    pub(super) armed: Instant,
    /// The number of the timer that counts; older ones are ignored.
    pub(super) arm: u32,
    /// The deadline the machine has been told of since the last drain.
    pub(super) told: Option<Deadline>,
    /// How often in a row telling the time changed nothing.
    pub(super) strikes: u8,
    /// Connections whose bytes broke the protocol since the last drain: the machine owes a close.
    pub(super) faulted: Vec<ConnId>,
}

impl Node {
    /// A host without a machine yet.
    pub(super) fn new(
        number: u32,
        addr: SocketAddr,
        clock: &Clock,
        attention: &Arc<Attention>,
        rng: Option<Rng>,
    ) -> Self {
        let bell = Bell::new(number, Arc::clone(attention));
        let tasks = Rc::new(Executor::new(Arc::clone(&bell), rng));
        let env = {
            let (clock, bell) = (clock.clone(), Arc::clone(&bell));
            // Weak: a task that holds its environment must not keep the executor that holds the task.
            let tasks = Rc::downgrade(&tasks);
            let spawn = move |task| {
                if let Some(tasks) = tasks.upgrade() {
                    tasks.spawn(task);
                }
            };
            Env::new(move || clock.now(), spawn, move || bell.ring())
        };
        Self {
            addr,
            home: None,
            machine: None,
            env,
            tasks,
            bell,
            conns: HashMap::new(),
            accepted: 0,
            frozen: false,
            armed: Instant::FAR,
            arm: 0,
            told: None,
            strikes: 0,
            faulted: Vec::new(),
        }
    }
}
