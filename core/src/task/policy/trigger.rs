//! So many failures, and somebody outside hears of it.

use alloc::boxed::Box;

use crate::task::policy::on_error::{Failure, OnErrorPolicy, Verdict};
use crate::task::policy::threshold::ThresholdCancelPolicy;

/// At the n-th failure of the tracker's tasks it calls a function, once, and cancels the tracker. The function is for a
/// token that ends something else; `ringplane-tokio` makes one of a `CancellationToken`.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
///
/// use ringplane_core::task::policy::{Failure, OnErrorPolicy, TriggerPolicy, Verdict};
/// use ringplane_core::time::Instant;
///
/// let called = Arc::new(AtomicU32::new(0));
/// let count = called.clone();
/// let mut policy = TriggerPolicy::new(2, move || { count.fetch_add(1, Ordering::Relaxed); });
/// let failure = Failure { text: &"no route", attempt: 1, panicked: false, now: Instant::ZERO };
/// let verdicts = [(); 4].map(|()| policy.on_error(&failure));
/// assert_eq!(verdicts, [Verdict::GoOn, Verdict::Shutdown, Verdict::Shutdown, Verdict::Shutdown]);
/// assert_eq!(called.load(Ordering::Relaxed), 1);
/// ```
#[derive(Clone, Debug)]
pub struct TriggerPolicy<F> {
    threshold: ThresholdCancelPolicy,
    called: bool,
    call: F,
}

impl<F: FnMut() + Clone + Send + 'static> TriggerPolicy<F> {
    /// Calls `call` at failure number `after`; 0 counts as 1. Trackers below have a copy of `call` and a count of their own.
    pub const fn new(after: u32, call: F) -> Self {
        Self { threshold: ThresholdCancelPolicy::new(after), called: false, call }
    }
}

impl<F: FnMut() + Clone + Send + 'static> OnErrorPolicy for TriggerPolicy<F> {
    fn create_child(&self) -> Box<dyn OnErrorPolicy> {
        Box::new(Self { threshold: self.threshold.fresh(), called: false, call: self.call.clone() })
    }

    fn on_error(&mut self, _: &Failure<'_>) -> Verdict {
        if !self.threshold.count() {
            return Verdict::GoOn;
        }
        if !core::mem::replace(&mut self.called, true) {
            (self.call)();
        }
        Verdict::Shutdown
    }
}
