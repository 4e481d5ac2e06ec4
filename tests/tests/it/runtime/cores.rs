//! Errands that are run at once: there is no core that would collect them.

use crate::runtime::hub::Wakes;

/// Runs them.
pub(crate) fn errands(add: impl FnOnce(&mut Wakes)) {
    let mut wakes = Wakes::default();
    add(&mut wakes);
    wakes.give();
}
