//! The options of every socket a driver makes or takes over.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ringplane_core::id::{ConnId, ConnRole};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// When the operating system asks a quiet peer whether it is still there.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// Silence before the first probe. Default 30 s.
    pub idle: Duration,
    /// Time between probes. Default 10 s.
    pub interval: Duration,
    /// Unanswered probes that end the connection. Default 3.
    pub retries: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), interval: Duration::from_secs(10), retries: 3 }
    }
}

/// What every connection of a driver gets. On Linux accepted connections inherit it from their listener, which saves four
/// system calls for each.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long sent bytes may stay unacknowledged, and a peer's window closed (`TCP_USER_TIMEOUT`).
    pub user_timeout: Duration,
    /// The same for connections on which responses and the items of requests come home.
    pub home_user_timeout: Duration,
    /// Probes on quiet connections; `None`: none.
    pub keepalive: Option<Keepalive>,
    /// Bytes the kernel takes of one connection beyond what it can send at once (`TCP_NOTSENT_LOWAT`).
    pub notsent_lowat: u32,
}

impl Options {
    /// Sets them on a socket; `home`: one on which something comes home.
    ///
    /// # Errors
    /// What the system says.
    pub fn apply(&self, socket: SockRef<'_>, home: bool) -> io::Result<()> {
        let user_timeout = if home { self.home_user_timeout } else { self.user_timeout };
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(user_timeout))?;
        socket.set_tcp_notsent_lowat(self.notsent_lowat)?;
        match self.keepalive {
            Some(Keepalive { idle, interval, retries }) => {
                let probes = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(retries);
                socket.set_tcp_keepalive(&probes)
            }
            None => socket.set_keepalive(false),
        }
    }

    /// A socket for `conn` to dial `addr` from. `kind` is [`Type::STREAM`] where the kernel does the waiting, non-blocking
    /// elsewhere.
    ///
    /// # Errors
    /// What the system says.
    pub fn dialer(&self, conn: ConnId, addr: SocketAddr, kind: Type) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
        self.apply(SockRef::from(&socket), conn.role() == ConnRole::DialedHome)?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        user_timeout: Duration::from_secs(15),
        home_user_timeout: Duration::from_secs(75),
        keepalive: Some(Keepalive { idle: Duration::from_secs(30), interval: Duration::from_secs(10), retries: 3 }),
        notsent_lowat: 1 << 17,
    };

    fn dialer(options: Options, conn: ConnId) -> Socket {
        options.dialer(conn, "127.0.0.1:1".parse().unwrap(), Type::STREAM).unwrap()
    }

    #[test]
    fn a_socket_carries_the_options() {
        let socket = dialer(OPTIONS, ConnId::dialed(1));
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!((socket.tcp_keepalive_retries().unwrap(), socket.tcp_notsent_lowat().unwrap()), (3, 1 << 17));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
    }

    #[test]
    fn a_socket_that_brings_something_home_waits_longer_for_its_reader() {
        let timeout = |conn| dialer(OPTIONS, conn).tcp_user_timeout().unwrap();
        assert_eq!(timeout(ConnId::dialed(1)), Some(Duration::from_secs(15)));
        assert_eq!(timeout(ConnId::dialed_home(1)), Some(Duration::from_secs(75)));
    }

    #[test]
    fn without_probes_a_listener_that_had_them_has_none() {
        let socket = dialer(OPTIONS, ConnId::dialed(1));
        Options { keepalive: None, ..OPTIONS }.apply(SockRef::from(&socket), false).unwrap();
        assert!(!socket.keepalive().unwrap());
    }
}
