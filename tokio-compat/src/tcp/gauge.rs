//! Counts things that are alive by their drop, so that a report cannot claim what is not so.

use std::cell::Cell;
use std::rc::Rc;

/// How many [`Alive`] there are.
#[derive(Clone, Default, Debug)]
pub(crate) struct Gauge(Rc<Cell<usize>>);

/// One of the things counted.
#[derive(Debug)]
pub(crate) struct Alive(Gauge);

impl Gauge {
    pub(crate) fn one(&self) -> Alive {
        self.0.set(self.0.get() + 1);
        Alive(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.get()
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let count = &self.0.0;
        count.set(count.get() - 1);
    }
}
