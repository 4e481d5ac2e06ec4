//! What a scheduler is asked.

use crate::time::Instant;

/// Whether one more task may run.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Room {
    /// Now.
    Free,
    /// Not before this instant, if nothing else takes the place by then.
    At(Instant),
    /// When a task gives its slot back.
    Full,
}

/// When tasks may run. It only counts; the queue in front of it is a [`Gate`](super::Gate).
pub trait TaskScheduler: Send {
    /// Whether one more task may run. The same answer until time passes or a slot is taken or given back.
    fn room(&self, now: Instant) -> Room;

    /// A task takes a slot. Only called when [`TaskScheduler::room`] is free.
    fn acquire(&mut self, now: Instant);

    /// A task that took a slot gives it back.
    fn release(&mut self);

    /// Whether there is always room, so that nobody has to be asked. Asked once, when the gate is made.
    fn is_unlimited(&self) -> bool {
        false
    }

    /// Whether the time that it is told matters to it; if not, it may be told any. Asked once, when the gate is made.
    fn is_timed(&self) -> bool {
        true
    }
}
