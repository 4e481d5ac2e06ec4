//! Who watches the cores of a group.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use ringplane_core::observer::{Observer, Several};

/// Makes an observer on the core of that number.
type Make = Arc<dyn Fn(usize) -> Rc<dyn Observer> + Send + Sync>;

/// What makes the observers of each core, in the order in which they are told.
#[derive(Clone, Default)]
pub(crate) struct Observers(Vec<Make>);

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observers").field(&self.0.len()).finish()
    }
}

impl Observers {
    /// One more.
    pub(crate) fn add<O: Observer + 'static>(&mut self, make: impl Fn(usize) -> O + Send + Sync + 'static) {
        self.0.push(Arc::new(move |core| Rc::new(make(core))));
    }

    /// Those of a core as one, to be asked for on its thread; `None` if nobody watches.
    pub(crate) fn of(&self, core: usize) -> Option<Rc<dyn Observer>> {
        match &self.0[..] {
            [] => None,
            [one] => Some(one(core)),
            several => Some(Rc::new(Several(several.iter().map(|make| make(core)).collect()))),
        }
    }
}
