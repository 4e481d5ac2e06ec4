//! How a command ended, as its caller is told.

use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use ringplane::Failure;

/// How long pipes may stay open once a command has ended. What is in them then is still read.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// Ended well: exit code 0, or whatever a stop led to. Else what was wrong.
pub(super) fn outcome(status: io::Result<ExitStatus>, stopped: bool) -> Result<(), String> {
    match status {
        Ok(status) if status.success() || stopped => Ok(()),
        status => Err(ended(status)),
    }
}

/// In words.
pub(super) fn ended(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("the command ended with {status}"),
        Err(error) => format!("the command cannot be waited for: {error}"),
    }
}

/// The command is to blame.
pub(super) fn failed(message: impl fmt::Display) -> Failure {
    Failure::internal(message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_bad_exit_is_a_failure_with_its_code_unless_the_command_was_stopped() {
        let code = |raw| Ok(ExitStatus::from_raw(raw));
        assert_eq!(outcome(code(0), false), Ok(()));
        assert_eq!(outcome(code(3 << 8), false).unwrap_err(), "the command ended with exit status: 3");
        assert_eq!(outcome(code(9), false).unwrap_err(), "the command ended with signal: 9 (SIGKILL)");
        assert_eq!(outcome(code(15), true), Ok(()));
    }
}
