//! How calls end, in the words of Dynamo's spans.

use ringplane_core::caller::error::{CallError, Kind};
use ringplane_core::wire::class::Class;
use ringplane_core::wire::dynamo::failure_key::Key;

/// `request.outcome` of a call or a try that ended like this, after this signal if there was one.
pub(super) fn of(outcome: Result<(), &CallError>, signal: Option<&'static str>) -> &'static str {
    match outcome {
        _ if signal.is_some() => "cancelled",
        Ok(()) => "success",
        Err(CallError::Failed { class, reason, .. }) => of_failure(*class, reason),
        Err(CallError::DeadlineExceeded) => "cancelled",
        Err(CallError::Unreachable { .. } | CallError::NoResponders | CallError::NoBroker { delivered: false }) => {
            "connection_failed"
        }
        Err(error) => match error.kind() {
            Kind::Lost => "worker_disconnected",
            Kind::TimedOut => "timeout",
            Kind::NoRoom | Kind::TooLarge => "rejected",
            Kind::NoInstance | Kind::Unavailable | Kind::Local => "unavailable",
            Kind::Cancelled | Kind::Closed => "cancelled",
            Kind::Handler => "error",
        },
    }
}

fn of_failure(class: Class, reason: &str) -> &'static str {
    let lost = [Key::EngineShutdown, Key::StreamIncomplete, Key::BackendDisconnected];
    if lost.iter().any(|key| key.name() == reason) { "worker_disconnected" } else { of_class(class) }
}

/// `request.outcome` of a failure of this class.
pub(super) const fn of_class(class: Class) -> &'static str {
    match class {
        Class::InvalidRequest
        | Class::Unauthenticated
        | Class::PermissionDenied
        | Class::NotFound
        | Class::Conflict
        | Class::PayloadTooLarge
        | Class::UnsupportedMedia
        | Class::RateLimited
        | Class::CapacityExhausted => "rejected",
        Class::Cancelled => "cancelled",
        Class::Unavailable => "unavailable",
        Class::DeadlineExceeded => "timeout",
        _ => "error",
    }
}

/// `error.type`: the last part of the reason, such as `engine_shutdown`; without one the class.
pub(super) fn kind(class: Class, reason: &str) -> String {
    let last = reason.rsplit('.').next().unwrap_or_default();
    if last.is_empty() { snake(class.name()) } else { last.to_owned() }
}

fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 2);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
