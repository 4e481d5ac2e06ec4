//! How the tool ends: one exit code per class of error, and the one line that says what happened.

use std::error::Error;
use std::fmt;

use ringplane::CallError;
use ringplane::ErrorKind;
use ringplane_core::caller::error::Kind;
use ringplane_core::chain::Chain;

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
        (
            Self::NoInstances,
            "no instance of the endpoint, or not the one asked for; no such queue, bucket or object, or no task",
        ),
        (
            Self::Unavailable,
            "the worker or the NATS server cannot be reached, is leaving, does not serve the endpoint or refuses the call",
        ),
        (Self::Refused, "the worker or this caller has no room"),
        (Self::TimedOut, "the deadline or the time of a drain passed, or the worker was silent for too long"),
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
    /// Empty: nothing is said.
    pub(crate) message: String,
    /// A second signal has ended it: nothing is waited for any more.
    pub(crate) at_once: bool,
}

impl Failed {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), at_once: false }
    }

    /// A second signal came, which ends everything at once.
    pub(crate) fn at_once(message: impl fmt::Display) -> Self {
        Self { at_once: true, ..Self::new(Exit::Cancelled, message) }
    }

    /// The reader of the output has left, which says more than a word about it would.
    pub(crate) const fn unread() -> Self {
        Self { exit: Exit::Cancelled, message: String::new(), at_once: false }
    }

    /// An error, with everything that led to it.
    pub(crate) fn by(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        Self::new(exit, Chain(error))
    }

    /// Something on this side refused.
    pub(crate) fn local(doing: impl fmt::Display, error: impl Error + 'static) -> Self {
        Self::new(Exit::Local, format_args!("{doing}: {}", Chain(&error)))
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::NoInstance => Self::NoInstances,
            Kind::Local => Self::Local,
            Kind::Unavailable => Self::Unavailable,
            Kind::NoRoom => Self::Refused,
            Kind::TimedOut => Self::TimedOut,
            Kind::Cancelled => Self::Cancelled,
            Kind::Handler => Self::Handler,
            Kind::Lost => Self::Disconnected,
            Kind::TooLarge => Self::TooLarge,
            Kind::Closed => Self::Internal,
        }
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Call(kind) => kind.into(),
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Local => Self::Local,
            ErrorKind::Stopped => Self::Internal,
        }
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Self::by(error.kind().into(), &error)
    }
}

impl From<ringplane::Error> for Failed {
    fn from(error: ringplane::Error) -> Self {
        Self::by(error.kind().into(), &error)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ringplane_core::caller::error::Missing;
    use ringplane_core::id::InstanceId;
    use ringplane_core::protocol::{CloseReason, Fault};
    use ringplane_core::wire::class::Class;
    use ringplane_core::wire::mux::RejectCode;

    use super::*;

    #[test]
    fn every_class_of_call_errors_has_its_code() {
        let rejected = |code| CallError::Rejected { code, retry_after: None, message: "".into(), at: None };
        let failed = |class| CallError::Failed { class, reason: "".into(), message: "".into() };
        let lost = CallError::Disconnected { reason: CloseReason::Eof, delivered: true, at: None };
        for (error, code) in [
            (CallError::NoInstances, 3),
            (CallError::UnknownInstance(InstanceId(1)), 3),
            (CallError::NotEquipped { transport: "nats", missing: Missing::Feature }, 1),
            (CallError::CannotListen(CloseReason::NoPorts), 1),
            (CallError::Unreachable { reason: CloseReason::Refused, at: None }, 4),
            (rejected(RejectCode::Draining), 4),
            (rejected(RejectCode::UnknownEndpoint), 4),
            (rejected(RejectCode::NotServing), 4),
            (rejected(RejectCode::Other), 4),
            (rejected(RejectCode::Cancelled), 7),
            (rejected(RejectCode::Overloaded), 5),
            (CallError::Overloaded, 5),
            (rejected(RejectCode::Expired), 6),
            (CallError::NotAccepted, 6),
            (CallError::NoResponse, 6),
            (CallError::Idle, 6),
            (CallError::DeadlineExceeded, 6),
            (CallError::Cancelled, 7),
            (failed(Class::Internal), 8),
            (failed(Class::Unavailable), 4),
            (failed(Class::BackendProtocol), 9),
            (lost, 9),
            (CallError::Protocol { fault: Fault::Silent, delivered: true }, 9),
            (CallError::SlowReader { limit: 1 }, 5),
            (CallError::TooLarge { limit: 1 }, 10),
            (CallError::ItemTooLarge { declared: 2, limit: 1 }, 10),
            (failed(Class::PayloadTooLarge), 10),
            (rejected(RejectCode::TooLarge), 10),
            (CallError::HeaderTooLarge, 10),
            (CallError::Closed, 70),
        ] {
            assert_eq!(Exit::from(error.kind()).code(), code, "{error}");
        }
    }

    #[test]
    fn the_line_of_an_error_names_its_causes() {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
        let refused = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let failed = Failed::from(ringplane::Error::Listen { addr, source: refused() });
        assert_eq!(failed, Failed::new(Exit::Local, format_args!("cannot listen on 127.0.0.1:80: {}", refused())));
        let lost = CallError::Disconnected { reason: CloseReason::Reset, delivered: false, at: None };
        assert_eq!(Failed::from(lost).message, "connection lost; not delivered: the peer reset the connection");
    }

    #[test]
    fn codes_differ_and_the_handbook_has_the_table_of_the_help_text() {
        let codes: BTreeSet<_> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes.len(), Exit::ALL.len());
        let handbook = include_str!("../cli.md");
        for (exit, meaning) in Exit::ALL {
            let row = format!("| {} | {meaning} |", exit.code());
            assert!(handbook.contains(&row), "docs/cli.md lacks: {row}");
        }
    }
}
