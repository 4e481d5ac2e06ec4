//! The floor as engines.

use std::net::{SocketAddr, TcpListener};

use crate::content::Pattern;
use crate::engine::{Engine, Offers, Result, Sides};
use crate::engines::floor::caller::Caller;
use crate::engines::floor::machine::Machine;
use crate::engines::floor::server::Server;
use crate::engines::floor::{epoll, uring};
use crate::line::Ready;
use crate::measure::{Measured, Plan};
use crate::scenario::Scenario;

/// The thinnest echo with ringplane's framing and checksums.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Floor {
    /// On epoll.
    Epoll,
    /// On io_uring without a runtime.
    Uring,
}

impl Floor {
    fn run(self, listener: Option<&TcpListener>, machine: &mut impl Machine, spin: bool) -> Result<()> {
        match self {
            Self::Epoll => epoll::run(listener, machine, spin),
            Self::Uring => uring::run(listener, machine, spin),
        }
    }
}

impl Engine for Floor {
    fn name(&self) -> &'static str {
        match self {
            Self::Epoll => "floor-epoll",
            Self::Uring => "floor-uring",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Epoll => "the thinnest echo with the same framing and checksums: one thread, epoll",
            Self::Uring => "the same on raw io_uring: multishot receive into a buffer ring, direct sends",
        }
    }

    fn offers(&self) -> Offers {
        Offers { deadline: "no", credit: "no", cancel: "no", end: "no", checksum: "CRC-32C" }
    }

    fn unsupported(&self, scenario: &Scenario) -> Option<&'static str> {
        (scenario.slow_readers > 0).then_some("has no flow control of its own")
    }
}

impl Sides for Floor {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        let listener = crate::listen::listen()?;
        ready.tell(listener.local_addr()?);
        let mut server = Server::new(Pattern::new(scenario.largest()));
        self.run(Some(&listener), &mut server, scenario.spins())
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        let server: SocketAddr = address.parse()?;
        let mut caller = Caller::new(scenario, server, plan);
        self.run(None, &mut caller, scenario.spins())?;
        caller.into_measured()
    }
}
