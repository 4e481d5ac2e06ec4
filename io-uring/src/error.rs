//! Why a driver does not start, why this system refuses io_uring.

use std::fmt;

use ringplane_driver::config::OutOfBounds;
use ringplane_driver::handle::LaunchError;

/// Why a driver did not start.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A knob is out of its bounds.
    Config(OutOfBounds),
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

    pub(crate) fn pin(cpu: usize, error: &std::io::Error) -> Self {
        Self::Pin { cpu, errno: error.raw_os_error().unwrap_or(0) }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<OutOfBounds> for Error {
    fn from(error: OutOfBounds) -> Self {
        Self::Config(error)
    }
}

impl From<LaunchError<Self>> for Error {
    fn from(error: LaunchError<Self>) -> Self {
        match error {
            LaunchError::Thread(error) => Self::os("starting the driver's thread", &error),
            LaunchError::Refused(error) => error,
            LaunchError::Panicked => Self::Make,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(_) => f.write_str("a knob of the driver is out of its bounds"),
            Self::Pin { cpu, errno } => write!(f, "cannot pin the driver to CPU {cpu}: {}", text(*errno)),
            Self::Refused(_) => f.write_str("io_uring is not available"),
            Self::Os { step, errno } => write!(f, "{step} failed: {}", text(*errno)),
            Self::Make => f.write_str("making the host panicked"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
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

fn text(errno: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno)
}
