//! Where calls that are made in place of others, or beside them, find the trace that those began.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use opentelemetry::trace::SpanContext;
use ringplane_core::id::InstanceId;

/// Calls of a core that have ended and may go on elsewhere: so many are remembered, the latest.
const REMEMBERED: usize = 1024;

/// The first call of a request that is called again.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) span: SpanContext,
    /// What the last call of it broke with, if it is over.
    pub(super) broke: Option<Broke>,
}

/// Why a call goes on elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Broke {
    /// Where it was.
    pub(super) at: Option<InstanceId>,
    /// What happened there, as `error.type` says it.
    pub(super) reason: String,
}

/// The calls of all cores. Each core has a lock of its own, which no other takes but to look for a call that is made again.
#[derive(Debug, Default)]
pub(super) struct Origins(Mutex<Vec<Weak<Mutex<Kept>>>>);

/// Those of one core.
#[derive(Debug)]
pub(super) struct Own {
    kept: Arc<Mutex<Kept>>,
    all: Arc<Origins>,
}

/// The spans of calls that are recorded, by the ids of their requests.
#[derive(Debug, Default)]
struct Kept {
    running: HashMap<String, SpanContext>,
    broken: VecDeque<(String, Origin)>,
}

impl Kept {
    fn find(&self, id: &str) -> Option<Origin> {
        if let Some(span) = self.running.get(id) {
            return Some(Origin { span: span.clone(), broke: None });
        }
        self.broken.iter().rev().find(|(broken, _)| broken == id).map(|(_, origin)| origin.clone())
    }
}

impl Own {
    /// Of a core that begins.
    pub(super) fn new(all: Arc<Origins>) -> Self {
        let kept = Arc::default();
        let mut cores = lock(&all.0);
        cores.retain(|core| core.strong_count() > 0);
        cores.push(Arc::downgrade(&kept));
        drop(cores);
        Self { kept, all }
    }

    /// A call has begun.
    pub(super) fn begin(&self, id: &str, span: SpanContext) {
        lock(&self.kept).running.insert(id.to_owned(), span);
    }

    /// It is over, and if it broke, it perhaps goes on elsewhere.
    pub(super) fn end(&self, id: String, broke: Option<Broke>) {
        let mut kept = lock(&self.kept);
        let Some(span) = kept.running.remove(&id) else { return };
        if broke.is_some() {
            if kept.broken.len() >= REMEMBERED {
                kept.broken.pop_front();
            }
            kept.broken.push_back((id, Origin { span, broke }));
        }
    }

    /// A call that was made in place of another is over as well.
    pub(super) fn broke_again(&self, id: &str, broke: &Broke) {
        self.look(|core| {
            let (_, origin) = core.broken.iter_mut().rev().find(|(broken, _)| broken == id)?;
            origin.broke = Some(broke.clone());
            Some(())
        });
    }

    /// The first call of that request, on whichever core it was.
    pub(super) fn find(&self, id: &str) -> Option<Origin> {
        self.look(|core| core.find(id))
    }

    /// Looks at each core, this one first, until something is found.
    fn look<T>(&self, mut at: impl FnMut(&mut Kept) -> Option<T>) -> Option<T> {
        if let Some(found) = at(&mut lock(&self.kept)) {
            return Some(found);
        }
        let cores: Vec<_> = lock(&self.all.0).iter().filter_map(Weak::upgrade).collect();
        let others = cores.iter().filter(|core| !Arc::ptr_eq(core, &self.kept));
        others.into_iter().find_map(|core| at(&mut lock(core)))
    }
}

fn lock<T>(one: &Mutex<T>) -> MutexGuard<'_, T> {
    one.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn span(id: u64) -> SpanContext {
        let (trace, span) = (TraceId::from_bytes([7; 16]), SpanId::from_bytes(id.to_be_bytes()));
        SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
    }

    fn broke(at: u64) -> Broke {
        Broke { at: Some(InstanceId(at)), reason: "stream_incomplete".to_owned() }
    }

    #[test]
    fn a_call_is_found_from_every_core_while_it_runs_and_once_it_broke() {
        let all = Arc::<Origins>::default();
        let [here, there] = [Own::new(all.clone()), Own::new(all.clone())];
        let found = |id: &str| there.find(id).map(|origin| (origin.span, origin.broke.and_then(|broke| broke.at)));
        here.begin("a", span(1));
        here.begin("b", span(2));
        assert_eq!((found("a"), found("c")), (Some((span(1), None)), None));
        here.end("a".to_owned(), Some(broke(7)));
        here.end("b".to_owned(), None);
        assert_eq!((found("a"), found("b")), (Some((span(1), Some(InstanceId(7)))), None));
        // The call in its place was on the other core, and broke as well.
        there.broke_again("a", &broke(8));
        assert_eq!(found("a"), Some((span(1), Some(InstanceId(8)))));
        for number in 0..REMEMBERED {
            here.begin(&number.to_string(), span(3));
            here.end(number.to_string(), Some(broke(9)));
        }
        assert_eq!(found("a"), None);
        drop(here);
        assert!(found("0").is_none() && Own::new(all.clone()).find("0").is_none() && lock(&all.0).len() < 3);
    }
}
