//! What the environment says about a command, and the addresses of this host that it names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use ringplane::core::config::{Config, Host, Place};

use crate::cli::exit::{Exit, Failed};

/// An address that belongs to nobody (RFC 5737): what the route to it leaves from is what others reach this host at.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// `config` as the variables change it; what Dynamo counts per process is divided among `cores`.
pub(crate) fn read(config: Config, cores: usize) -> Result<Config, Failed> {
    let temporary = std::env::temp_dir();
    let read = config.with_vars(|name| std::env::var(name).ok(), &temporary.to_string_lossy(), cores);
    let read = read.map_err(|error| Failed::new(Exit::Usage, error))?;
    for variable in &read.passed_over {
        tracing::warn!("{variable}");
    }
    Ok(read)
}

/// The address to bind, and the one to tell others if it differs: whoever binds a wildcard must name one.
pub(crate) fn bind(place: &Place) -> Result<(SocketAddr, Option<IpAddr>), Failed> {
    let ip = match &place.host {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(Host::Addr(ip)) => *ip,
        Some(Host::Interface(name)) => interface(name)?,
    };
    let told = ip.is_unspecified().then(reachable);
    Ok((SocketAddr::new(ip, place.port), told))
}

/// The first address of the interface, of version 4 if it has one.
fn interface(name: &str) -> Result<IpAddr, Failed> {
    let all = if_addrs::get_if_addrs().map_err(|error| Failed::local("cannot list network interfaces", error))?;
    let mut ips: Vec<IpAddr> = all.iter().filter(|one| one.name == name).map(if_addrs::Interface::ip).collect();
    ips.sort_by_key(IpAddr::is_ipv6);
    let none = || Failed::new(Exit::Local, format_args!("`{name}` is no address, and no interface here has that name"));
    ips.first().copied().ok_or_else(none)
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
    fn an_interface_is_its_address_and_an_unknown_one_is_refused_by_name() {
        let loopback = if_addrs::get_if_addrs().unwrap().into_iter().find(|one| one.is_loopback()).unwrap();
        let (addr, told) = bind(&place(&loopback.name)).unwrap();
        assert!(addr.ip().is_loopback() && addr.port() == 7 && told.is_none(), "{addr}");
        let refused = bind(&place("nowhere9")).unwrap_err();
        assert_eq!(refused.exit, Exit::Local);
        assert!(refused.message.contains("`nowhere9`"), "{}", refused.message);
    }
}
