//! Addresses as ZeroMQ writes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// `tcp://HOST:PORT`. A host is an address, in brackets if it is IPv6, or a name; `*` is every address of the machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// The host without brackets.
    pub host: String,
    /// The port; 0 lets the system choose one to listen on.
    pub port: u16,
}

/// A text that is no address we can use.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BadEndpoint {
    /// It is not by TCP.
    Scheme(String),
    /// There is no host.
    Host(String),
    /// An IPv6 address without brackets.
    Brackets(String),
    /// There is no port, or none below 65,536; `*` is read as 0.
    Port(String),
    /// The rank's port would be beyond 65,535.
    Rank {
        /// The port of rank 0.
        port: u16,
        /// The rank.
        rank: u32,
    },
}

impl fmt::Display for BadEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(text) => write!(f, "`{text}` is no address of the form tcp://HOST:PORT"),
            Self::Host(text) => write!(f, "`{text}` names no host"),
            Self::Brackets(text) => write!(f, "`{text}` needs brackets around its IPv6 address: tcp://[::1]:5557"),
            Self::Port(text) => write!(f, "`{text}` has no port from 0 to 65535"),
            Self::Rank { port, rank } => write!(f, "port {port} of rank 0 leaves none for rank {rank}"),
        }
    }
}

impl std::error::Error for BadEndpoint {}

impl Endpoint {
    /// The address of another rank of the same publisher: its port is higher by the rank. Port 0 stays.
    ///
    /// # Errors
    /// [`BadEndpoint::Rank`] if there is no such port.
    pub fn of_rank(&self, rank: u32) -> Result<Self, BadEndpoint> {
        let port = match self.port {
            0 => Some(0),
            port => u16::try_from(rank).ok().and_then(|rank| port.checked_add(rank)),
        };
        let port = port.ok_or(BadEndpoint::Rank { port: self.port, rank })?;
        Ok(Self { host: self.host.clone(), port })
    }

    /// Whether it stands for every address of the machine, so that it can be listened on and not connected to.
    pub fn is_wildcard(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    /// The address to listen on or to connect to, if it is no name.
    pub fn ip(&self) -> Option<IpAddr> {
        if self.host == "*" { Some(Ipv4Addr::UNSPECIFIED.into()) } else { self.host.parse().ok() }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self { host: addr.ip().to_string(), port: addr.port() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "tcp://[{host}]:{port}")
        } else {
            write!(f, "tcp://{host}:{port}")
        }
    }
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let trimmed = text.trim();
        let address = trimmed.strip_prefix("tcp://").ok_or_else(|| BadEndpoint::Scheme(text.to_owned()))?;
        let (host, port) = address.rsplit_once(':').ok_or_else(|| BadEndpoint::Port(text.to_owned()))?;
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match inside {
            Some(inside) if inside.parse::<Ipv6Addr>().is_ok() => inside,
            Some(_) => return Err(BadEndpoint::Host(text.to_owned())),
            None if host.contains(':') => return Err(BadEndpoint::Brackets(text.to_owned())),
            None => host,
        };
        if host.is_empty() {
            return Err(BadEndpoint::Host(text.to_owned()));
        }
        let port = if port == "*" { Ok(0) } else { port.parse() };
        let port = port.map_err(|_| BadEndpoint::Port(text.to_owned()))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Endpoint, BadEndpoint> {
        text.parse()
    }

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in ["tcp://127.0.0.1:5557", "tcp://[::1]:5557", "tcp://*:0", "tcp://node-7.example:1"] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert_eq!(read("tcp://*:*").unwrap().port, 0);
        assert!(read("tcp://*:1").unwrap().is_wildcard() && read("tcp://[::]:1").unwrap().is_wildcard());
        assert!(!read("tcp://node:1").unwrap().is_wildcard());
    }

    #[test]
    fn each_mistake_is_named() {
        let text = |text: &str| text.to_owned();
        assert_eq!(read("ipc://x"), Err(BadEndpoint::Scheme(text("ipc://x"))));
        assert_eq!(read("tcp://x"), Err(BadEndpoint::Port(text("tcp://x"))));
        assert_eq!(read("tcp://x:70000"), Err(BadEndpoint::Port(text("tcp://x:70000"))));
        assert_eq!(read("tcp://::1:5"), Err(BadEndpoint::Brackets(text("tcp://::1:5"))));
        assert_eq!(read("tcp://[x]:5"), Err(BadEndpoint::Host(text("tcp://[x]:5"))));
        assert_eq!(read("tcp://:5"), Err(BadEndpoint::Host(text("tcp://:5"))));
    }

    #[test]
    fn a_rank_moves_the_port() {
        let base = read("tcp://[::1]:5557").unwrap();
        assert_eq!(base.of_rank(0).as_ref(), Ok(&base));
        assert_eq!(base.of_rank(3).unwrap().to_string(), "tcp://[::1]:5560");
        assert_eq!(read("tcp://*:0").unwrap().of_rank(3).unwrap().port, 0);
        assert_eq!(read("tcp://x:65535").unwrap().of_rank(1), Err(BadEndpoint::Rank { port: 65_535, rank: 1 }));
    }
}
