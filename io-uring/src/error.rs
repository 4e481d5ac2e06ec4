//! Why a driver does not start, why a job is not taken, why this system refuses io_uring.

use std::fmt;

/// Why a driver did not start.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A knob is out of its bounds.
    Config {
        /// Its name.
        knob: &'static str,
        /// What is allowed.
        bounds: &'static str,
    },
    /// The thread cannot be pinned.
    Pin {
        /// The CPU asked for.
        cpu: usize,
        /// What the system said.
        errno: i32,
    },
    /// The system refuses io_uring.
    Refused(Refusal),
    /// A descriptor, a socket option or the thread itself could not be had.
    Os {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        errno: i32,
    },
    /// The closure that makes the host panicked.
    Make,
}

impl Error {
    pub(crate) fn os(step: &'static str, error: &std::io::Error) -> Self {
        Self::Os { step, errno: error.raw_os_error().unwrap_or(0) }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { knob, bounds } => write!(f, "{knob} is out of bounds: {bounds}"),
            Self::Pin { cpu, errno } => write!(f, "cannot pin the driver to CPU {cpu}: {}", text(*errno)),
            Self::Refused(refusal) => write!(f, "io_uring is not available: {refusal}"),
            Self::Os { step, errno } => write!(f, "{step} failed: {}", text(*errno)),
            Self::Make => f.write_str("making the host panicked"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// Why this process cannot use io_uring here and now.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// The system call is blocked, most likely by a seccomp filter (the default of several container engines).
    Seccomp {
        /// What the filter answers: EPERM or ENOSYS.
        errno: i32,
    },
    /// The administrator switched io_uring off.
    Disabled {
        /// The value of `kernel.io_uring_disabled`: 1 (unprivileged processes) or 2 (everybody).
        value: u8,
    },
    /// Not even the smallest ring fits into the limit on locked memory.
    Memlock {
        /// `RLIMIT_MEMLOCK` in bytes; `None`: unlimited, so the memory itself is short.
        limit: Option<u64>,
    },
    /// The kernel lacks something the driver cannot do without.
    TooOld {
        /// What, and since when Linux has it.
        missing: &'static str,
        /// The kernel's release.
        kernel: String,
    },
    /// A ring exists but does not do what it should.
    SelfTest {
        /// Which step failed.
        step: &'static str,
        /// The error of that step; 0 if it gave a wrong answer instead.
        errno: i32,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seccomp { errno } => write!(
                f,
                "io_uring_setup answers `{}`: a seccomp filter blocks it or the kernel is built without it; \
                 allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile",
                text(*errno)
            ),
            Self::Disabled { value } => write!(f, "the sysctl kernel.io_uring_disabled is {value}; set it to 0"),
            Self::Memlock { limit: Some(limit) } => {
                write!(f, "RLIMIT_MEMLOCK ({limit} bytes) is too small for a ring; raise it to 8 MiB or more")
            }
            Self::Memlock { limit: None } => f.write_str("the system has no memory for a ring"),
            Self::TooOld { missing, kernel } => write!(f, "Linux {kernel} lacks {missing}"),
            Self::SelfTest { step, errno: 0 } => write!(f, "the self-test failed at `{step}`: wrong answer"),
            Self::SelfTest { step, errno } => write!(f, "the self-test failed at `{step}`: {}", text(*errno)),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why a job was not taken.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SubmitError {
    /// The mailbox is full: the driver's thread is behind. Worth a retry, elsewhere or later.
    Full,
    /// The driver has stopped. For good.
    Stopped,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the driver's mailbox is full",
            Self::Stopped => "the driver has stopped",
        })
    }
}

impl std::error::Error for SubmitError {}

fn text(errno: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno)
}
