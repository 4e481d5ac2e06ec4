//! How the tool ends: one exit code per class of error, and the one line that says what happened.

use std::fmt;

use ringplane::core::wire::failure::Class;
use ringplane::core::wire::mux::RejectCode;
use ringplane::{CallError, Error};

/// What the exit code tells.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Local = 1,
    Usage = 2,
    NoInstances = 3,
    Unavailable = 4,
    Refused = 5,
    TimedOut = 6,
    Cancelled = 7,
    Handler = 8,
    Disconnected = 9,
    TooLarge = 10,
    Internal = 70,
}

impl Exit {
    /// Every code with its meaning, for help texts.
    pub(crate) const ALL: [(Self, &'static str); 12] = [
        (Self::Done, "the call ended well"),
        (Self::Local, "this side cannot do it: driver, address, discovery or a file refused, input malformed"),
        (Self::Usage, "wrong usage"),
        (Self::NoInstances, "no instance of the endpoint, or not the one asked for"),
        (Self::Unavailable, "the worker cannot be reached, is leaving, or does not serve the endpoint"),
        (Self::Refused, "the worker or this caller has no room"),
        (Self::TimedOut, "the deadline passed, or the worker was silent for too long"),
        (Self::Cancelled, "cancelled, by a signal or by whoever read the output"),
        (Self::Handler, "the handler failed"),
        (Self::Disconnected, "the connection was lost, or the worker fell silent or broke the protocol"),
        (Self::TooLarge, "an item or the call's header is too large"),
        (Self::Internal, "an internal error"),
    ];

    /// The code itself.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

/// The table of exit codes, for `--help`.
pub(crate) fn table() -> String {
    let rows = Exit::ALL.iter().map(|(exit, meaning)| format!("  {:>2}  {meaning}\n", exit.code()));
    format!("Exit codes:\n{}", rows.collect::<String>())
}

/// A bad end: the exit code and its line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failed {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failed {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// Something on this side refused.
    pub(crate) fn local(doing: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::new(Exit::Local, format_args!("{doing}: {error}"))
    }
}

impl From<&CallError> for Exit {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::NoInstances | CallError::UnknownInstance(_) => Self::NoInstances,
            CallError::Unreachable(_) => Self::Unavailable,
            CallError::NotEquipped { .. } | CallError::CannotListen(_) => Self::Local,
            CallError::Rejected { code, .. } => match code {
                RejectCode::UnknownEndpoint | RejectCode::Draining | RejectCode::NotServing => Self::Unavailable,
                RejectCode::Expired => Self::TimedOut,
                RejectCode::TooLarge => Self::TooLarge,
                RejectCode::Cancelled => Self::Cancelled,
                RejectCode::Overloaded | RejectCode::Other => Self::Refused,
            },
            CallError::Overloaded => Self::Refused,
            CallError::NotAccepted | CallError::Idle | CallError::DeadlineExceeded => Self::TimedOut,
            CallError::Cancelled => Self::Cancelled,
            // A worker that leaves ends its calls like this.
            CallError::Failed { class: Class::Unavailable, .. } => Self::Unavailable,
            CallError::Failed { .. } => Self::Handler,
            CallError::Disconnected { .. } | CallError::Protocol { .. } => Self::Disconnected,
            CallError::TooLarge { .. } | CallError::HeaderTooLarge => Self::TooLarge,
            _ => Self::Internal,
        }
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Self::new(Exit::from(&error), error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Call(error) => Exit::from(error),
            Error::Name(_) | Error::Config(_) | Error::Bounds(_) | Error::Advertise(_) => Exit::Usage,
            Error::Stopped | Error::NothingToServe => Exit::Internal,
            _ => Exit::Local,
        };
        Self::new(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ringplane::core::id::InstanceId;
    use ringplane::core::protocol::CloseReason;

    use super::*;

    #[test]
    fn every_class_of_call_errors_has_its_code() {
        let rejected = |code| CallError::Rejected { code, retry_after: None, message: "".into() };
        let failed = |class| CallError::Failed { class, reason: "".into(), message: "".into() };
        let lost = CallError::Disconnected { reason: CloseReason::Eof, delivered: true };
        for (error, code) in [
            (CallError::NoInstances, 3),
            (CallError::UnknownInstance(InstanceId(1)), 3),
            (CallError::Unreachable(CloseReason::Refused), 4),
            (rejected(RejectCode::Draining), 4),
            (rejected(RejectCode::UnknownEndpoint), 4),
            (rejected(RejectCode::Overloaded), 5),
            (CallError::Overloaded, 5),
            (rejected(RejectCode::Expired), 6),
            (CallError::NotAccepted, 6),
            (CallError::Idle, 6),
            (CallError::DeadlineExceeded, 6),
            (CallError::Cancelled, 7),
            (failed(Class::Internal), 8),
            (failed(Class::Unavailable), 4),
            (lost, 9),
            (CallError::TooLarge { limit: 1 }, 10),
            (rejected(RejectCode::TooLarge), 10),
            (CallError::HeaderTooLarge, 10),
            (CallError::Closed, 70),
        ] {
            assert_eq!(Exit::from(&error).code(), code, "{error}");
        }
    }

    #[test]
    fn codes_differ_and_the_handbook_has_the_table_of_the_help_text() {
        let codes: BTreeSet<_> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes.len(), Exit::ALL.len());
        let handbook = include_str!("../../docs/cli.md");
        for (exit, meaning) in Exit::ALL {
            let row = format!("| {} | {meaning} |", exit.code());
            assert!(handbook.contains(&row), "docs/cli.md lacks: {row}");
        }
    }
}
