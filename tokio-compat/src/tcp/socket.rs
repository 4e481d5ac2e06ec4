//! The making of tokio's sockets.

use std::io;
use std::net::SocketAddr;

use ringplane_core::id::ConnId;
use ringplane_driver::socket::Options;
use socket2::{SockRef, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Turns `listener` into tokio's; `home`: for workers that bring something home.
pub(crate) fn listen(options: &Options, listener: std::net::TcpListener, home: bool) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    options.apply(SockRef::from(&listener), home)?;
    TcpListener::from_std(listener)
}

/// A connection of `conn` to `addr`, under way.
pub(crate) fn dial(
    options: &Options,
    conn: ConnId,
    addr: SocketAddr,
) -> io::Result<impl Future<Output = io::Result<TcpStream>> + use<>> {
    let socket = options.dialer(conn, addr, Type::STREAM.nonblocking())?;
    Ok(TcpSocket::from_std_stream(socket.into()).connect(addr))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use ringplane_driver::config::Common;

    #[test]
    fn accepted_and_dialed_connections_carry_the_options() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let options = Common::default().options();
            let any = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            for (home, conn, seconds) in [(false, ConnId::dialed(1), 15), (true, ConnId::dialed_home(1), 75)] {
                let listener = listen(&options, any(), home).unwrap();
                let dialed = dial(&options, conn, listener.local_addr().unwrap()).unwrap().await.unwrap();
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
