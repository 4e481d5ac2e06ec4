//! The transports of events by name.

use std::fmt;

/// The transports there are.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Within the process.
    InProc,
    /// By a NATS server.
    Nats,
    /// By ZeroMQ.
    Zmq,
    /// Over the connections of calls.
    Mux,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::InProc, Self::Nats, Self::Zmq, Self::Mux];

    /// Its name in options and in `DYN_EVENT_PLANE`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InProc => "inproc",
            Self::Nats => "nats",
            Self::Zmq => "zmq",
            Self::Mux => "mux",
        }
    }

    /// The one with this name, whatever its case and the space around it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name.trim()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
