//! The names of request planes, and why one of that name cannot be had.

use std::fmt;

use ringplane_tokio::vars;

/// The name of a request plane. [`RequestPlane::from_vars`](crate::RequestPlane::from_vars) makes the plane itself, with what
/// Dynamo's variables say about it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PlaneName {
    /// Over TCP.
    Tcp,
    /// As messages of a NATS server, in builds with the feature `nats`.
    Nats,
    /// By HTTP, in builds with the feature `http`.
    Http,
}

impl PlaneName {
    /// All there are, built or not.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Nats, Self::Http];

    /// The name as text, which is that of the feature as well: `nats`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Nats => "nats",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for PlaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request plane cannot be had: this build has no such plane, or its variables cannot be followed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PlaneError {
    /// No build has one of this name.
    Unknown(String),
    /// A build with the feature of that name has it.
    NotBuilt(&'static str),
    /// A variable cannot be followed.
    Variable(vars::Error),
}

impl fmt::Display for PlaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "no request plane is called `{name}`; there are tcp, nats and http"),
            Self::NotBuilt(name) => {
                write!(f, "this build has no request plane `{name}`; build with `--features {name}`")
            }
            Self::Variable(_) => f.write_str("a variable of the request plane cannot be followed"),
        }
    }
}

impl std::error::Error for PlaneError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Variable(error) => Some(error),
            Self::Unknown(_) | Self::NotBuilt(_) => None,
        }
    }
}
