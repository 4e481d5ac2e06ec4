//! Calls whose every instance is down: they wait for a change instead of failing while a worker restarts.

use alloc::boxed::Box;
use core::time::Duration;

use crate::buf::slab::Key;
use crate::caller::call::{Call, State};
use crate::caller::error::CallError;
use crate::caller::machine::Caller;
use crate::caller::request::CallId;
use crate::route::health::Outcome;
use crate::time::Instant;

impl Call {
    /// Whether it waits for an instance that is down to come back.
    pub(super) fn is_stranded(&self) -> bool {
        matches!(self.state, State::Waiting(Some(_))) && self.stranded.is_some()
    }
}

impl Caller {
    /// A call may not be tried again at once. It waits if every instance it could go to is down: for news of instances, for
    /// one of them to answer another call, and for half to all of the time that a first mark lasts, after which it is tried
    /// once more. So does one that knew a single instance, which is lost, and learns of another with its last try: that one it
    /// has yet to ask. `instance_timeout` from its first failed try bounds that. `false` if it has to end.
    pub(super) fn strand(&mut self, call: CallId, error: &CallError, now: Instant) -> bool {
        let Some(entry) = self.calls.get(call.0) else { return false };
        // A call that is to be tried once only is tried once only.
        if entry.backoff.pauses() == 0 {
            return false;
        }
        let is_new = |id| entry.may_go_to(id) && !entry.has_failed_at(id);
        let knew_one = error.outcome() == Outcome::Lost && entry.has_failed_at_one();
        let another = knew_one && self.endpoints.is_any_up(entry.endpoint, is_new, now);
        if !another && !self.endpoints.are_down(entry.endpoint, |id| entry.may_go_to(id), now) {
            return false;
        }
        let until = entry.failing.unwrap_or(now) + self.config.instance_timeout;
        if until <= now {
            return false;
        }
        let half = self.config.health.base / 2;
        let jitter = self.rng.below(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).saturating_add(1));
        let at = (now + half + Duration::from_nanos(jitter)).min(until);
        if let Some(entry) = self.calls.get_mut(call.0) {
            entry.stranded = Some(Box::new(error.clone()));
            entry.state = State::Waiting(Some(at));
        }
        self.list(call);
        self.arm(call);
        true
    }

    /// The pause of a stranded call is over: it is tried once more, or ends if it has waited for long enough.
    pub(super) fn retry_stranded(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if entry.failing.is_some_and(|since| since + self.config.instance_timeout <= now)
            && let Some(error) = entry.stranded.take()
        {
            return self.end(call, Err(*error), now);
        }
        self.on_retry(call, now);
        self.dispatch(call, now);
    }

    /// Has a call wait for news of its endpoint's instances.
    pub(super) fn list(&mut self, call: CallId) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        if !core::mem::replace(&mut entry.listed, true) {
            let endpoint = entry.endpoint;
            self.endpoints.wait(endpoint, call, &self.calls);
        }
    }

    /// An instance that was down has answered: calls stranded for want of it are tried at once.
    pub(super) fn on_instance_up(&mut self, endpoint: Key, now: Instant) {
        for call in self.endpoints.take_waiting(endpoint) {
            let Some(entry) = self.calls.get_mut(call.0) else { continue };
            entry.listed = false;
            if entry.is_stranded() {
                entry.state = State::Waiting(Some(now));
                self.arm(call);
            } else if matches!(entry.state, State::Waiting(None)) {
                self.list(call);
            }
        }
    }
}
