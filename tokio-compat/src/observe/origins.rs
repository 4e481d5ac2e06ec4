//! Where calls that are made in place of others, or beside them, find the trace that those began.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use opentelemetry::trace::SpanContext;

/// Calls that have ended and may go on elsewhere: so many are remembered, the latest.
const REMEMBERED: usize = 1024;

/// The spans of calls that are recorded, by the ids of their requests, of all cores together.
#[derive(Debug, Default)]
pub(super) struct Origins(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    running: HashMap<String, SpanContext>,
    broken: VecDeque<(String, SpanContext)>,
}

impl Origins {
    /// A call has begun.
    pub(super) fn begin(&self, id: &str, span: SpanContext) {
        self.kept().running.insert(id.to_owned(), span);
    }

    /// It is over, and perhaps goes on elsewhere.
    pub(super) fn end(&self, id: String, goes_on: bool) {
        let mut kept = self.kept();
        let Some(span) = kept.running.remove(&id) else { return };
        if goes_on {
            if kept.broken.len() >= REMEMBERED {
                kept.broken.pop_front();
            }
            kept.broken.push_back((id, span));
        }
    }

    /// The first call of that request.
    pub(super) fn find(&self, id: &str) -> Option<SpanContext> {
        let kept = self.kept();
        let broken = || Some(&kept.broken.iter().rev().find(|(broken, _)| broken == id)?.1);
        kept.running.get(id).or_else(broken).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
