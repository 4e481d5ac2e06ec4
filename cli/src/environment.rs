//! What the environment says about a command, and the addresses of this host that it names.

use std::cell::Cell;
use std::env::VarError;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use ringplane_core::config::{Config, Host, Place};

use crate::exit::{Exit, Failed};

/// An address that belongs to nobody (RFC 5737): what the route to it leaves from is what others reach this host at.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// How a variable is looked up: by its name, an empty one being none.
pub(crate) type Get<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `config` as the variables change it; what Dynamo counts per process is divided among `cores`.
pub(crate) fn read(config: Config, cores: usize) -> Result<Config, Failed> {
    let temporary = temporary()?;
    let read = followed(|get| config.with_vars(get, &temporary, cores))?;
    for variable in &read.passed_over {
        tracing::warn!("{variable}");
    }
    Ok(read)
}

/// What `read` makes of the variables. One that it asks for and that is not UTF-8 is refused, as one that it refuses itself.
pub(crate) fn followed<T, E: Into<Box<dyn Error>>>(read: impl FnOnce(Get<'_>) -> Result<T, E>) -> Result<T, Failed> {
    let unreadable = Cell::new(None);
    let get = |name: &str| match std::env::var(name) {
        Ok(value) => Some(value).filter(|value| !value.is_empty()),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => {
            unreadable.set(Some(name.to_owned()));
            None
        }
    };
    let result = read(&get);
    if let Some(name) = unreadable.take() {
        return Err(Failed::new(Exit::Usage, format_args!("{name} is not UTF-8")));
    }
    result.map_err(|error| Failed::by(Exit::Usage, &*error.into()))
}

/// One variable.
pub(crate) fn variable(name: &str) -> Result<Option<String>, Failed> {
    followed(|get| Ok::<_, fmt::Error>(get(name)))
}

/// The directory for what has no other place.
pub(crate) fn temporary() -> Result<String, Failed> {
    let path = std::env::temp_dir().into_os_string();
    path.into_string().map_err(|_| Failed::new(Exit::Usage, "TMPDIR is not UTF-8"))
}

/// The address to bind, and the one to tell others if it differs: whoever binds a wildcard must name one.
pub(crate) fn bind(place: &Place) -> Result<(SocketAddr, Option<IpAddr>), Failed> {
    let ip = match &place.host {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(Host::Addr(ip)) => *ip,
        Some(Host::Interface(name)) => interface(name).or_else(|failed| host(name).ok_or(failed))?,
    };
    let told = ip.is_unspecified().then(reachable);
    Ok((SocketAddr::new(ip, place.port), told))
}

/// The first address of the interface, of version 4 if it has one.
fn interface(name: &str) -> Result<IpAddr, Failed> {
    let all = if_addrs::get_if_addrs().map_err(|error| Failed::local("cannot list network interfaces", error))?;
    let mut ips: Vec<IpAddr> = all.iter().filter(|one| one.name == name).map(if_addrs::Interface::ip).collect();
    ips.sort_by_key(IpAddr::is_ipv6);
    let none = || {
        Failed::new(
            Exit::Local,
            format_args!("`{name}` is no address, no interface here has that name, and no host with it is known"),
        )
    };
    ips.first().copied().ok_or_else(none)
}

/// The first address that a host's name stands for, of version 4 if it has one.
fn host(name: &str) -> Option<IpAddr> {
    let mut ips: Vec<IpAddr> = (name, 0).to_socket_addrs().ok()?.map(|addr| addr.ip()).collect();
    ips.sort_by_key(IpAddr::is_ipv6);
    ips.first().copied()
}

/// Where others reach this host: where its traffic leaves from, else any address that is not its own loopback's, else that.
fn reachable() -> IpAddr {
    // Connecting a datagram socket sends nothing; it only asks for the route.
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(ELSEWHERE)?;
        Ok(socket.local_addr()?.ip())
    });
    if let Ok(ip) = routed
        && !ip.is_unspecified()
    {
        return ip;
    }
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let others = all.iter().filter(|one| !one.is_loopback()).map(if_addrs::Interface::ip);
    others.min_by_key(IpAddr::is_ipv6).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str) -> Place {
        Place { host: Some(Host::read(host)), port: 7 }
    }

    #[test]
    fn without_a_host_this_host_alone_is_listened_to() {
        let (addr, told) = bind(&Place { host: None, port: 0 }).unwrap();
        assert_eq!((addr, told), (SocketAddr::from(([127, 0, 0, 1], 0)), None));
    }

    #[test]
    fn a_wildcard_is_bound_and_an_address_is_told() {
        let (addr, told) = bind(&place("0.0.0.0")).unwrap();
        assert_eq!(addr, SocketAddr::from(([0, 0, 0, 0], 7)));
        assert!(!told.unwrap().is_unspecified());
    }

    #[test]
    fn a_host_is_its_address() {
        let (addr, told) = bind(&place("localhost")).unwrap();
        assert!(addr.ip().is_loopback() && addr.port() == 7 && told.is_none(), "{addr}");
    }

    #[test]
    fn an_interface_is_its_address_and_an_unknown_one_is_refused_by_name() {
        let loopback = if_addrs::get_if_addrs().unwrap().into_iter().find(|one| one.is_loopback()).unwrap();
        let (addr, told) = bind(&place(&loopback.name)).unwrap();
        assert!(addr.ip().is_loopback() && addr.port() == 7 && told.is_none(), "{addr}");
        let refused = bind(&place("nowhere..9")).unwrap_err();
        assert_eq!(refused.exit, Exit::Local);
        assert!(refused.message.contains("`nowhere..9`"), "{}", refused.message);
    }
}
