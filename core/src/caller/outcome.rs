//! What the end of a try says of the instance it was at: the one place where errors are sorted.

use crate::caller::call::Call;
use crate::caller::error::CallError;
use crate::caller::machine::Caller;
use crate::caller::request::CallId;
use crate::protocol::CloseReason;
use crate::route::health::Outcome;
use crate::time::Instant;
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
            | Self::SlowReader { .. }
            | Self::CannotListen(_)
            | Self::Overloaded
            | Self::NoBudget
            | Self::Closed => Outcome::Untold,
        }
    }
}

impl Caller {
    /// A try has ended badly: what that says of its instance.
    pub(super) fn judge(&mut self, call: CallId, error: &CallError, now: Instant) {
        match error.outcome() {
            Outcome::Answered => self.on_answered(call, now),
            outcome => self.learn(call, outcome, now),
        }
    }

    /// The worker has answered: nothing is wrong with the instance.
    pub(super) fn on_answered(&mut self, call: CallId, now: Instant) {
        if self.calls.get_mut(call.0).is_some_and(Call::on_answer) {
            self.learn(call, Outcome::Answered, now);
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
    use crate::wire::class::Class;

    #[test]
    fn what_a_handler_answers_and_what_the_caller_did_itself_is_never_held_against_an_instance() {
        let failed = |class| CallError::Failed { class, reason: "".into(), message: "".into() };
        let rejected = |code| CallError::Rejected { code, retry_after: None, message: "".into() };
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
