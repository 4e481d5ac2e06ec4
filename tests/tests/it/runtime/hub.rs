//! Tasks that are woken one by one: hubs belong to tokio.

use std::task::{Context, Waker};

/// A task that waits.
pub(crate) struct Sleeper(Waker);

impl Sleeper {
    pub(crate) fn of(cx: &Context<'_>) -> Self {
        Self(cx.waker().clone())
    }

    pub(crate) const fn alone(waker: Waker) -> Self {
        Self(waker)
    }

    pub(crate) fn is(&self, cx: &Context<'_>) -> bool {
        self.0.will_wake(cx.waker())
    }

    pub(crate) fn wake(self) {
        self.0.wake();
    }
}

/// Tasks to be woken.
#[derive(Default)]
pub(crate) struct Wakes(Vec<Sleeper>);

impl Wakes {
    pub(crate) fn add(&mut self, sleepers: impl IntoIterator<Item = Sleeper>) {
        self.0.extend(sleepers);
    }

    pub(crate) fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn give(&mut self) {
        self.0.drain(..).for_each(Sleeper::wake);
    }
}
