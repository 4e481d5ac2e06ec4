//! Ports of the loopback that nothing answers at, until the test itself listens there.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A free port, kept from everybody else for as long as the socket lives, and its address. Connections to it are refused. A server
/// of the test's own that sets `SO_REUSEADDR`, as those of the standard library and of tokio do, may listen there.
///
/// # Errors
/// What the system says.
pub fn reserved() -> std::io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Two that ask for this share a port as long as one of them at the most listens.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, address))
}
