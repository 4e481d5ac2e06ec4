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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use ringplane_core::local::LocalNode;
    use ringplane_core::node::Node;
    use ringplane_core::{caller, worker};

    use super::*;

    /// Moves something for so many rounds, and has the machine touched in as many.
    struct Carrier {
        moves: usize,
        touches: usize,
        touched: Rc<Cell<bool>>,
        rounds: usize,
    }

    impl<M: Protocol> Carry<M> for Carrier {
        fn transmit(&mut self, _: &mut M) -> bool {
            self.rounds += 1;
            self.rounds <= self.moves
        }

        fn act(&mut self, _: &mut M) -> bool {
            self.touched.set(self.rounds <= self.touches);
            false
        }
    }

    /// Whether a drain came to its end, and after how many rounds.
    fn drained(moves: usize, touches: usize) -> (bool, usize) {
        let env = Env::new(|| Instant::ZERO, |_| {}, || {});
        let node = Node::new(worker::config::Config::default(), caller::config::Config::default(), 1);
        let node = LocalNode::new(node, &env);
        let touched = Rc::new(Cell::new(true));
        let mut carrier = Carrier { moves, touches, touched: touched.clone(), rounds: 0 };
        (drain(&*node, &mut carrier, &touched), carrier.rounds)
    }

    #[test]
    fn a_drain_goes_on_until_nothing_moves_and_nobody_touches_the_machine() {
        assert_eq!(drained(0, 0), (true, 1), "a touch before it began counts for nothing more");
        assert_eq!((drained(3, 0), drained(0, 5), drained(3, 5)), ((true, 4), (true, 6), (true, 6)));
    }

    #[test]
    fn a_machine_that_never_falls_silent_gets_its_rounds_and_no_more() {
        assert_eq!((drained(ROUNDS - 1, 0), drained(ROUNDS, 0)), ((true, ROUNDS), (false, ROUNDS)));
    }

    #[test]
    fn something_happens_at_the_earliest_of_what_is_waited_for() {
        let env = Env::new(|| Instant::ZERO, |_| {}, || {});
        let node = Node::new(worker::config::Config::default(), caller::config::Config::default(), 1);
        let node = LocalNode::new(node, &env);
        let own = Some(Instant::from_nanos(7));
        assert_eq!((next_deadline(&*node, &env, None), next_deadline(&*node, &env, own)), (None, own));
    }
}
