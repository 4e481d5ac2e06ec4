//! Socket options and the making of sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ringplane_core::id::{ConnId, ConnRole};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::tcp::config::Config;

/// The options every connection gets.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    user_timeout: Duration,
    home_user_timeout: Duration,
    keepalive: Option<TcpKeepalive>,
    notsent_lowat: u32,
}

impl Options {
    pub(crate) fn new(config: &Config) -> Self {
        let keepalive = config.keepalive.map(|probes| {
            TcpKeepalive::new().with_time(probes.idle).with_interval(probes.interval).with_retries(probes.retries)
        });
        let Config { user_timeout, home_user_timeout, notsent_lowat, .. } = *config;
        Self { user_timeout, home_user_timeout, keepalive, notsent_lowat }
    }

    fn apply(&self, socket: &SockRef<'_>, home: bool) -> io::Result<()> {
        let user_timeout = if home { self.home_user_timeout } else { self.user_timeout };
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(user_timeout))?;
        socket.set_tcp_notsent_lowat(self.notsent_lowat)?;
        match &self.keepalive {
            Some(keepalive) => socket.set_tcp_keepalive(keepalive),
            None => socket.set_keepalive(false),
        }
    }

    /// Turns `listener` into tokio's. Linux hands the options of a listener down to what it accepts, which saves four
    /// system calls per connection.
    pub(crate) fn listen(&self, listener: std::net::TcpListener) -> io::Result<TcpListener> {
        self.ready(listener, false)
    }

    /// A listener of its own on `addr`, for workers that bring something home.
    pub(crate) fn bind_home(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        self.ready(std::net::TcpListener::bind(addr)?, true)
    }

    fn ready(&self, listener: std::net::TcpListener, home: bool) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        self.apply(&SockRef::from(&listener), home)?;
        TcpListener::from_std(listener)
    }

    /// A socket for `conn`, about to dial `addr`.
    pub(crate) fn dial(
        &self,
        conn: ConnId,
        addr: SocketAddr,
    ) -> io::Result<impl Future<Output = io::Result<TcpStream>> + use<>> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        self.apply(&SockRef::from(&socket), conn.role() == ConnRole::DialedHome)?;
        Ok(socket.connect(addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_and_dialed_connections_carry_the_options() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let options = Options::new(&Config::default());
            let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
            let listener = options.listen(std::net::TcpListener::bind(any).unwrap()).unwrap();
            let homes = options.bind_home(any).unwrap();
            for (listener, conn, seconds) in [(listener, ConnId::dialed(1), 15), (homes, ConnId::dialed_home(1), 75)] {
                let dialed = options.dial(conn, listener.local_addr().unwrap()).unwrap().await.unwrap();
                let (accepted, _) = listener.accept().await.unwrap();
                for stream in [&dialed, &accepted] {
                    let socket = SockRef::from(stream);
                    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
                    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(seconds)));
                    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
                    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
                }
            }
        });
    }
}
