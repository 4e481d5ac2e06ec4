//! Socket options and the making of sockets.

use std::io;
use std::net::SocketAddr;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::tcp::config::Config;

/// The options every connection gets.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    user_timeout: std::time::Duration,
    keepalive: Option<TcpKeepalive>,
}

impl Options {
    pub(crate) fn new(config: &Config) -> Self {
        let keepalive = config.keepalive.map(|probes| {
            TcpKeepalive::new().with_time(probes.idle).with_interval(probes.interval).with_retries(probes.retries)
        });
        Self { user_timeout: config.user_timeout, keepalive }
    }

    fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        match &self.keepalive {
            Some(keepalive) => socket.set_tcp_keepalive(keepalive),
            None => socket.set_keepalive(false),
        }
    }

    /// Turns `listener` into tokio's. Linux hands the options of a listener down to what it accepts, which saves four
    /// system calls per connection.
    pub(crate) fn listen(&self, listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        self.apply(&SockRef::from(&listener))?;
        TcpListener::from_std(listener)
    }

    /// A listener of its own on `addr`.
    pub(crate) fn bind(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        self.listen(std::net::TcpListener::bind(addr)?)
    }

    /// A socket about to dial `addr`.
    pub(crate) fn dial(&self, addr: SocketAddr) -> io::Result<impl Future<Output = io::Result<TcpStream>> + use<>> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        self.apply(&SockRef::from(&socket))?;
        Ok(socket.connect(addr))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn accepted_and_dialed_connections_carry_the_options() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let options = Options::new(&Config::default());
            let listener = options.listen(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
            let dialed = options.dial(listener.local_addr().unwrap()).unwrap().await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            for stream in [&dialed, &accepted] {
                let socket = SockRef::from(stream);
                assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
                assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(15)));
                assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
                assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
            }
        });
    }
}
