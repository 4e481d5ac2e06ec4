//! How what a Dynamo worker says of a failure is told to the caller.

use alloc::boxed::Box;

use crate::caller::error::CallError;
use crate::dynamo::request::client::Refusal;
use crate::mux::event::Ending;
use crate::wire::class::Class;
use crate::wire::dynamo::ack::{OVERLOAD, UNAVAILABLE};
use crate::wire::dynamo::failure_key::Key as FailureKey;
use crate::wire::dynamo::typed_failure::Failure;

/// An item of the answer cannot be held here.
pub(in crate::caller) fn no_memory() -> CallError {
    let (key, message) = (FailureKey::CapacityExhausted, "there is no memory for an item of the answer");
    CallError::Failed { class: key.class(), reason: key.name().into(), message: message.into() }
}

pub(in crate::caller) fn failed(failure: &Failure) -> CallError {
    let class = failure.class();
    let message = failure.diagnostic().unwrap_or(class.name());
    let ending = Ending { class: Some(class), reason: failure.key().name().into(), message: message.into() };
    CallError::from_ending(ending).unwrap_or(CallError::Cancelled)
}

/// What a prologue says about a worker without room, if that is what it says. Dynamo 1.5 writes no reason, and a relay may
/// keep the text only: it is the ack's behind other words then.
pub(in crate::caller) fn overload(failure: Option<&Failure>, text: &str) -> Option<Box<str>> {
    let told = text.contains(OVERLOAD);
    let full = match failure {
        Some(failure) if failure.key() == FailureKey::WorkerOverloaded => true,
        Some(failure) => told && failure.class() == Class::CapacityExhausted,
        None => told,
    };
    let message = failure.and_then(Failure::diagnostic).unwrap_or(text);
    full.then(|| match failure.and_then(Failure::dp_rank) {
        Some(rank) => alloc::format!("{message} (rank {rank})").into(),
        None => message.into(),
    })
}

/// What a prologue says about a worker that leaves and has not run the call, if that is what it says: the ack's words. A handler
/// whose own worker is unavailable fails for the same reason, in words of its own, and has run.
pub(in crate::caller) fn leaving(failure: Option<&Failure>, text: &str) -> Option<Box<str>> {
    let failure = failure.filter(|failure| failure.key() == FailureKey::WorkerUnavailable)?;
    let said = [failure.diagnostic().unwrap_or(text), text];
    said.into_iter().find(|said| said.starts_with(UNAVAILABLE)).map(Into::into)
}

pub(in crate::caller) fn refused(refusal: Refusal) -> CallError {
    let Refusal { code, text } = refusal;
    match code {
        Some(code) => CallError::Rejected { code, retry_after: None, message: text, at: None },
        None => CallError::Failed { class: Class::BackendProtocol, reason: "".into(), message: text },
    }
}
