//! A listener on every local address, for servers whose connections come to distinct ones.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use crate::engine::Result;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A listener on a port the system picks.
///
/// # Errors
/// What the system says.
pub(crate) fn listen() -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
