//! What every driver does with its machine in a turn: time, events, the drain rule, and the bounds of each.

use std::cell::Cell;
use std::time::Duration;

use ringplane_core::local::env::{Env, Host};
use ringplane_core::protocol::Protocol;
use ringplane_core::time::Instant;

/// Rounds of the drain rule before the rest of a turn gets its own: deliveries touch the machine, which has more to say.
const ROUNDS: usize = 16;
/// Drains at the end of a driver.
const DRAINS: usize = 64;
/// Events delivered in one round.
const EVENTS: usize = 4096;
/// Task polls in one turn.
pub const POLLS: usize = 256;
/// How long a stop waits for tasks that other threads are waking, and for the kernel.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What carries out the wishes of a machine.
pub trait Carry<M: Protocol> {
    /// Lets the machine write where it has something to: step 1 of the drain rule of [`ringplane_core::protocol`]. Whether
    /// the machine may have more to say because of it.
    fn transmit(&mut self, machine: &mut M) -> bool;

    /// Carries out what else the machine wants: step 2. Whether the machine may have more to say because of it.
    fn act(&mut self, machine: &mut M) -> bool;
}

/// Drains a machine until nothing moves: transmit, act, deliver. `touched` is set by [`Env::touch`]. `false`: the bound of a
/// turn is reached and something may be left.
#[inline]
pub fn drain<H: Host>(host: &H, carry: &mut impl Carry<H::Machine>, touched: &Cell<bool>) -> bool {
    for _ in 0..ROUNDS {
        touched.set(false);
        let moved = host.with(|machine| {
            let wrote = carry.transmit(machine);
            carry.act(machine) || wrote
        });
        let delivered = deliver(host);
        if !moved && !touched.get() && delivered < EVENTS {
            return true;
        }
    }
    false
}

/// The same at a driver's end, after which a machine that still talks is cut short.
pub fn drain_out<H: Host>(host: &H, carry: &mut impl Carry<H::Machine>, touched: &Cell<bool>) {
    if !(0..DRAINS).any(|_| drain(host, carry, touched)) {
        tracing::warn!("the machine still talks at its driver's end");
    }
}

/// Hands the machine's events to the application, as many as a round allows: step 3. Says how many.
#[inline]
pub fn deliver<H: Host>(host: &H) -> usize {
    for delivered in 0..EVENTS {
        let Some(event) = host.with(Protocol::poll_event) else { return delivered };
        host.deliver(event);
    }
    EVENTS
}

/// Tells a machine whose deadline has come.
#[inline]
pub fn expire<M: Protocol>(machine: &mut M, now: Instant) {
    if machine.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
        machine.handle_timeout(now);
    }
}

/// When something happens by itself: to the machine, to a sleeping task, or, at `own`, to the driver.
#[inline]
pub fn next_deadline<H: Host>(host: &H, env: &Env, own: Option<Instant>) -> Option<Instant> {
    let machine = host.with(|machine| machine.poll_timeout()).map(|deadline| deadline.at);
    [machine, env.timers().next(), own].into_iter().flatten().min()
}

/// The tasks of a turn have run: tells the operator which handler held the thread.
#[inline]
pub fn rest(env: &Env, now: Instant) {
    if let Some(held) = env.pace().rest(now) {
        let (endpoint, took, others) = (held.endpoint.as_deref().unwrap_or("none"), held.took, held.others);
        tracing::warn!(endpoint, ?took, others, "a task held its core; nobody else was served there meanwhile");
    }
}
