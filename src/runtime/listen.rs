//! Where a worker listens, and which address callers are told to dial.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;

/// One listener per thread on one address; the kernel spreads connections over them. The first of them takes the address
/// for itself, so that one that somebody else listens on is refused, and opens it only then to the others.
pub(crate) fn listen(addr: SocketAddr, count: usize) -> Result<Vec<TcpListener>, Error> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut addr = addr;
    for index in 0..count {
        let share = match index {
            _ if count == 1 => Share::Alone,
            0 => Share::First,
            _ => Share::Joining,
        };
        let listener = listen_one(addr, share).map_err(|source| Error::Listen { addr, source })?;
        addr = listener.local_addr().map_err(|source| Error::Listen { addr, source })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// How a listener shares its address.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Share {
    /// With nobody.
    Alone,
    /// With those that join once it listens.
    First,
    /// With the first.
    Joining,
}

fn listen_one(addr: SocketAddr, share: Share) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share == Share::Joining {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    if share == Share::First {
        // Linux looks at the option of both sockets whenever one binds or begins to listen. Set before that, it would
        // also let in another process of this user.
        socket.set_reuse_port(true)?;
    }
    Ok(socket.into())
}

/// What callers are told to dial.
pub(crate) fn advertised(wish: Option<SocketAddr>, bound: SocketAddr) -> Result<SocketAddr, Error> {
    let mut addr = wish.unwrap_or(bound);
    if addr.port() == 0 {
        addr.set_port(bound.port());
    }
    if addr.ip().to_canonical().is_unspecified() { Err(Error::Advertise(addr)) } else { Ok(addr) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_nobody_can_dial_is_not_advertised() {
        let bound: SocketAddr = "0.0.0.0:80".parse().unwrap();
        assert!(matches!(advertised(None, bound), Err(Error::Advertise(_))));
        let wish = "10.0.0.1:0".parse().unwrap();
        assert_eq!(advertised(Some(wish), bound).unwrap(), "10.0.0.1:80".parse().unwrap());
    }

    #[test]
    fn listeners_of_one_worker_share_their_port() {
        let listeners = listen("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
    }

    #[test]
    fn an_address_is_shared_by_the_listeners_of_one_worker_only() {
        let taken = |listened: Result<Vec<TcpListener>, Error>| match listened {
            Err(Error::Listen { source, .. }) => source.kind() == std::io::ErrorKind::AddrInUse,
            _ => false,
        };
        for (first, second) in [(2, 2), (2, 1), (1, 2), (1, 1)] {
            let listeners = listen("127.0.0.1:0".parse().unwrap(), first).unwrap();
            let addr = listeners[0].local_addr().unwrap();
            assert!(taken(listen(addr, second)), "{first} and {second}");
            drop(listeners);
            assert_eq!(listen(addr, second).unwrap().len(), second);
        }
    }

    #[test]
    fn of_two_workers_that_begin_to_listen_at_once_one_at_most_does() {
        for _ in 0..50 {
            let addr = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap()[0].local_addr().unwrap();
            let both = std::sync::Barrier::new(2);
            let begin = || {
                both.wait();
                listen(addr, 2)
            };
            let (one, two) = std::thread::scope(|scope| {
                let other = scope.spawn(begin);
                (begin(), other.join().unwrap())
            });
            assert!(one.is_err() || two.is_err());
        }
    }

    #[test]
    fn the_kernel_spreads_connections_over_every_listener_the_first_as_well() {
        let listeners = listen("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let addr = listeners[0].local_addr().unwrap();
        let dialed: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        let accepted = listeners.iter().map(|listener| {
            listener.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| listener.accept().ok()).count()
        });
        let accepted: Vec<usize> = accepted.collect();
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
        assert_eq!(accepted.iter().sum::<usize>(), dialed.len());
    }
}
