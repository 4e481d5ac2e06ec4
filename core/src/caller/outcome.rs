//! What the end of a try says of the instance it was at: the one place where errors are sorted.

use crate::caller::call::Call;
use crate::caller::error::CallError;
use crate::caller::machine::Caller;
use crate::caller::request::CallId;
use crate::protocol::CloseReason;
use crate::route::health::Outcome;
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::mux::message::RejectCode;

impl CallError {
    /// What it says of the instance. A handler that fails has answered: the same call fails everywhere, and others do not.
    pub(super) const fn outcome(&self) -> Outcome {
        match self {
            Self::Failed { .. } => Outcome::Answered,
            Self::Rejected { code, retry_after, .. } => match code {
                RejectCode::Overloaded => Outcome::Refused { retry_after: *retry_after },
                RejectCode::Draining => Outcome::Leaving,
                // A worker that does not serve what its record says is not the one that wrote the record.
                RejectCode::UnknownEndpoint => Outcome::Lost,
                RejectCode::TooLarge => Outcome::Answered,
                RejectCode::Expired | RejectCode::NotServing | RejectCode::Cancelled | RejectCode::Other => {
                    Outcome::Untold
                }
            },
            // This host has run out of something.
            Self::Unreachable { reason: CloseReason::NoDescriptors | CloseReason::NoPorts, .. }
            | Self::Disconnected { reason: CloseReason::NoDescriptors | CloseReason::NoPorts, .. } => Outcome::Untold,
            Self::Unreachable { .. }
            | Self::Disconnected { .. }
            | Self::NoResponders
            | Self::Protocol { .. }
            // Others may be reached by what there is.
            | Self::NotEquipped { .. } => Outcome::Lost,
            Self::NotAccepted | Self::NoResponse | Self::Idle => Outcome::Silent,
            // Without its broker nothing is known of the instance; the rest is the caller's own.
            Self::NoBroker { .. }
            | Self::NoInstances
            | Self::UnknownInstance(_)
            | Self::DeadlineExceeded
            | Self::Cancelled
            | Self::TooLarge { .. }
            | Self::ItemTooLarge { .. }
            | Self::HeaderTooLarge
            | Self::AttributesTooLarge
            | Self::NoneEligible
            | Self::SlowReader { .. }
            | Self::CannotListen(_)
            | Self::Overloaded
            | Self::NoPlace { .. }
            | Self::Throttled
            | Self::NoBudget
            | Self::Closed => Outcome::Untold,
        }
    }
}

impl CallError {
    /// Whether another instance might have done better: this one failed the call, refused it, was lost or silent. A request that is
    /// wrong, or unwanted, is so everywhere.
    fn is_instances(&self) -> bool {
        match self {
            Self::Failed { class, .. } => matches!(
                class,
                Class::CapacityExhausted
                    | Class::Unavailable
                    | Class::DeadlineExceeded
                    | Class::BackendProtocol
                    | Class::NotImplemented
                    | Class::Internal
            ),
            _ => !matches!(self.outcome(), Outcome::Answered | Outcome::Untold),
        }
    }
}

impl Caller {
    /// A try has ended badly: what that says of its instance.
    pub(super) fn judge(&mut self, call: CallId, error: &CallError, now: Instant) {
        let outcome = match error {
            // As the configuration has it.
            CallError::NoResponse if self.config.call_home.blames_the_late() => Outcome::Lost,
            _ => error.outcome(),
        };
        // Policies hear that it has answered before they hear how.
        if outcome == Outcome::Answered {
            self.on_answered(call, now);
        }
        self.hold_against(call, error, now);
        // A call that ends with the refusal of its last try has left the instance before: that one is counted.
        let is_there = self.calls.get(call.0).is_some_and(|entry| entry.instance.is_some());
        if is_there && matches!(outcome, Outcome::Refused { .. }) {
            self.on_turned_away(call, now);
        }
        if outcome != Outcome::Answered {
            self.learn(call, outcome, now);
        }
    }

    /// The worker has answered: nothing is wrong with the instance.
    pub(super) fn on_answered(&mut self, call: CallId, now: Instant) {
        if let Some(entry) = self.calls.get_mut(call.0).filter(|entry| !entry.is_answered()) {
            entry.on_answer(now);
            if let Some(observer) = &self.observer {
                observer.call_answered(call, &entry.times(), now);
            }
            if let Some(instance) = entry.instance {
                let took = now.since(entry.sent);
                self.endpoints.on_first_item(entry.endpoint, &entry.ask(), instance, took, now);
            }
            let endpoint = entry.endpoint;
            self.learn(call, Outcome::Answered, now);
            self.serve_front(endpoint, now);
        }
    }

    /// The reader had taken all that had come by `heard`, and now there is more.
    pub(super) fn tell_waited(&self, call: CallId, heard: Instant, now: Instant) {
        if let Some(observer) = &self.observer
            && let Some(entry) = self.calls.get(call.0).filter(|entry| entry.is_answered())
        {
            observer.call_waited(call, self.endpoints.name(entry.endpoint), now.since(heard));
        }
    }

    /// What policies learn of a try that ends badly: an instance that fails at once is not a fast one.
    fn hold_against(&mut self, call: CallId, error: &CallError, now: Instant) {
        let Some(entry) = self.calls.get(call.0).filter(|entry| entry.is_at_instance()) else { return };
        let (Some(instance), took) = (entry.instance, now.since(entry.sent)) else { return };
        if error.is_instances() {
            let advice = match error {
                CallError::Rejected { retry_after, .. } => *retry_after,
                _ => None,
            };
            let penalty = advice.unwrap_or(self.config.penalty);
            self.endpoints.on_failed(entry.endpoint, &entry.ask(), instance, took, penalty, now);
        } else if !entry.is_answered() && matches!(error, CallError::DeadlineExceeded | CallError::Cancelled) {
            self.endpoints.on_waited(entry.endpoint, instance, took, now);
        }
    }

    /// Something was learned of the call's instance.
    pub(super) fn learn(&mut self, call: CallId, outcome: Outcome, now: Instant) {
        let Some(Call { endpoint, instance: Some(instance), probe, .. }) = self.calls.get(call.0) else { return };
        let endpoint = *endpoint;
        if self.endpoints.on_outcome(endpoint, *instance, outcome, *probe, now, &mut self.rng) {
            self.on_instance_up(endpoint, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Fault;

    #[test]
    fn what_a_handler_answers_and_what_the_caller_did_itself_is_never_held_against_an_instance() {
        let failed = |class| CallError::Failed { class, reason: "".into(), message: "".into() };
        let rejected = |code| CallError::Rejected { code, retry_after: None, message: "".into(), at: None };
        for class in [Class::Internal, Class::InvalidRequest, Class::Unavailable, Class::DeadlineExceeded] {
            assert_eq!(failed(class).outcome(), Outcome::Answered, "{class:?}");
        }
        for error in [
            CallError::DeadlineExceeded,
            CallError::Cancelled,
            CallError::HeaderTooLarge,
            CallError::SlowReader { limit: 1 },
            CallError::NoBroker { delivered: true },
            CallError::Unreachable { reason: CloseReason::NoPorts, at: None },
            rejected(RejectCode::Expired),
        ] {
            assert_eq!(error.outcome(), Outcome::Untold, "{error:?}");
        }
        assert_eq!(rejected(RejectCode::Draining).outcome(), Outcome::Leaving);
        assert_eq!(rejected(RejectCode::Overloaded).outcome(), Outcome::Refused { retry_after: None });
        for error in [
            CallError::Unreachable { reason: CloseReason::Refused, at: None },
            CallError::Disconnected { reason: CloseReason::Reset, delivered: true, at: None },
            CallError::Protocol { fault: Fault::State, delivered: false },
            rejected(RejectCode::UnknownEndpoint),
        ] {
            assert_eq!(error.outcome(), Outcome::Lost, "{error:?}");
        }
        assert_eq!(CallError::NotAccepted.outcome(), Outcome::Silent);
    }
}
