//! How an outcome is told to a Dynamo caller.

use alloc::borrow::Cow;

use crate::mux::event::Ending;
use crate::wire::class::Class;
use crate::wire::dynamo::ack::UNAVAILABLE;
use crate::wire::dynamo::failure_key::Key as FailureKey;
use crate::wire::dynamo::typed_failure::{Failure, Public};
use crate::wire::mux::message::RejectCode;

/// The failure that tells `ending`; `None` if it ended well.
pub(in crate::worker) fn failure_of(ending: &Ending) -> Option<Failure> {
    let class = ending.class?;
    let fallback = FailureKey::ALL.iter().copied().find(|key| key.class() == class).unwrap_or(FailureKey::Unclassified);
    let key = FailureKey::from_name(&ending.reason).filter(|key| key.class() == class).unwrap_or(fallback);
    Some(failure(key, &ending.message))
}

/// A failure whose text the caller's own client may see if the request is to blame.
pub(in crate::worker) fn failure(key: FailureKey, text: &str) -> Failure {
    let failure = Failure::new(key, text);
    match key.class() {
        Class::InvalidRequest => failure.with_public(Public::Message { message: text.into() }),
        _ => failure,
    }
}

/// What a call hears that is refused after it was acknowledged; `None` if nobody listens.
pub(in crate::worker) fn refusal(code: RejectCode, message: &str) -> Option<Failure> {
    let key = match code {
        RejectCode::Cancelled => return None,
        RejectCode::Expired => FailureKey::from_name("request.deadline_exceeded"),
        RejectCode::Overloaded => Some(FailureKey::WorkerOverloaded),
        _ => Some(FailureKey::WorkerUnavailable),
    };
    // In the words of an ack: a handler may fail for the same reason, and has run.
    let text: Cow<'_, str> = match code {
        RejectCode::Draining => alloc::format!("{UNAVAILABLE} {message}").into(),
        _ => message.into(),
    };
    Some(failure(key.unwrap_or(FailureKey::Unclassified), &text))
}
