//! The hosts that a discovery URL names.

use std::net::IpAddr;

use crate::discovery::error::Error;

/// A host and a port: an address, or a name that may stand for several.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct HostPort {
    pub(super) host: String,
    pub(super) port: u16,
}

impl HostPort {
    /// The address, if it is one: nothing has to be looked up then, ever.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Reads `HOST:PORT`; an address of IPv6 stands in brackets.
    fn read(text: &str) -> Result<Self, Error> {
        let malformed = || Error::HostPort(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(malformed)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_right = match bare {
            Some(host) => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()),
            None => !host.is_empty() && !host.contains(|letter: char| letter == ':' || letter.is_whitespace()),
        };
        if is_right { Ok(Self { host: bare.unwrap_or(host).to_owned(), port }) } else { Err(malformed()) }
    }
}

/// Reads `HOST:PORT,HOST:PORT`, at least one.
pub(super) fn read(list: &str) -> Result<Vec<HostPort>, Error> {
    let mut hosts: Vec<HostPort> = Vec::new();
    for text in list.split(',') {
        let host = HostPort::read(text.trim())?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port_each_once() {
        let host = |host: &str, port| HostPort { host: host.to_owned(), port };
        let hosts = read("a.example:1, 10.0.0.1:2,[::1]:3,a.example:1").unwrap();
        assert_eq!(hosts, [host("a.example", 1), host("10.0.0.1", 2), host("::1", 3)]);
        assert_eq!(hosts.iter().map(|host| host.ip().is_some()).collect::<Vec<_>>(), [false, true, true]);
        for text in ["", "a", "a:", ":1", "a:0", "a:65536", "::1:7", "[a]:7", "[::1]", "a b:1", "a:1,", "a:1,,b:1"] {
            assert!(matches!(read(text), Err(Error::HostPort(_))), "{text}: {:?}", read(text));
        }
    }
}
