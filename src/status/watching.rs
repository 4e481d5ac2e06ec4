//! What is heard of calls and requests as they end: how long they took, and what went wrong.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::CallId;
use ringplane_core::chain::Chain;
use ringplane_core::mux::event::Ending;
use ringplane_core::observer::{CallEnded, Observer, RequestEnded};
use ringplane_core::stats::Histogram;
use ringplane_core::worker::job::JobId;

use crate::status::errors::Errors;

/// How long calls, or requests, have taken since the last look, in nanoseconds. Cores and whoever looks share it: a lock that nobody
/// waits for, once for each call.
#[derive(Default)]
pub(crate) struct Times(Mutex<Histogram>);

impl Times {
    fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(nanos);
    }

    /// What there has been since the last time.
    pub(super) fn take(&self) -> Histogram {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Watches a core of a worker, whose requests it times, or of a client, whose calls. What goes wrong is told of both.
pub(crate) struct Watching {
    errors: Arc<Errors>,
    times: Arc<Times>,
    worker: bool,
}

impl Watching {
    pub(super) const fn new(errors: Arc<Errors>, times: Arc<Times>, worker: bool) -> Self {
        Self { errors, times, worker }
    }
}

impl Observer for Watching {
    fn call_refused(&self, endpoint: &str, error: &CallError) {
        self.errors.note_with(endpoint, || Chain(error).to_string());
    }

    fn call_ended(&self, _call: CallId, ended: &CallEnded<'_>) {
        if !self.worker {
            self.times.record(ended.now.since(ended.times.begun));
        }
        match ended.outcome {
            // Somebody wanted it so.
            Ok(()) | Err(CallError::Cancelled) => {}
            Err(_) if ended.left => {}
            Err(error) => self.errors.note_with(ended.endpoint, || format!("a call failed: {}", Chain(error))),
        }
    }

    fn request_ended(&self, _request: JobId, ended: &RequestEnded<'_>) {
        if self.worker {
            self.times.record(ended.now.since(ended.admitted));
        }
        if let Some(Ending { class: Some(class), reason, message }) = ended.ending
            && ended.cause.is_none()
        {
            let say = || format!("a handler failed: {message} ({}, {reason})", class.name());
            self.errors.note_with(ended.endpoint, say);
        } else if let Some(code) = ended.refused {
            self.errors.note_with(ended.endpoint, || format!("a request that waited was refused: {code:?}"));
        }
    }
}
