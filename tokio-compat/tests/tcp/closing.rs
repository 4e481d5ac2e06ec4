//! Every way a connection ends, in every phase, is told exactly once.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;

use ringplane_core::id::ConnId;
use ringplane_core::protocol::{CloseReason, Closing};
use ringplane_tokio::tcp::{Common, Given};
use socket2::{Domain, SockRef, Socket, Type};

use crate::echo::{Event, PATIENCE, Side};

/// An address whose listener takes no more: dials to it stay under way.
fn full_backlog() -> (Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&addr.into());
        sockets.push(filler);
    }
    (sockets, addr)
}

fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_dial_nobody_answers_is_refused_by_name() {
    let client = Side::dialer();
    let conn = client.connect(0, dead_address());
    assert_eq!(client.next(), Event::Closed(conn, CloseReason::Refused));
    client.until(|stats| stats.dial_failures == 1);
    let (report, rest) = client.rest();
    assert!(report.is_clean() && rest.is_empty(), "{rest:?}");
}

#[test]
fn a_dial_can_be_taken_back_before_it_is_answered() {
    for how in [Closing::Abort, Closing::Flush] {
        let (_sockets, addr) = full_backlog();
        let client = Side::dialer();
        let conn = client.connect(0, addr);
        client.until(|stats| stats.connections == 1);
        client.command(move |machine| machine.close(conn, how));
        assert_eq!(client.next(), Event::Closed(conn, CloseReason::Local), "{how:?}");
        let (report, rest) = client.rest();
        assert!(report.is_clean() && rest.is_empty(), "{rest:?}");
    }
}

#[test]
fn a_dial_and_its_close_in_one_breath_end_in_one_close() {
    let (server, addr) = Side::listener();
    let client = Side::dialer();
    let conn = ConnId::dialed(0);
    client.command(move |machine| {
        machine.connect(conn, addr);
        machine.close(conn, Closing::Abort);
    });
    assert_eq!(client.next(), Event::Closed(conn, CloseReason::Local));
    let (report, rest) = client.rest();
    assert!(report.is_clean() && rest.is_empty(), "{rest:?}");
    server.stop();
}

#[test]
fn an_open_connection_closes_either_way_and_the_peer_is_told_which() {
    for (how, seen) in [(Closing::Abort, Err(ErrorKind::ConnectionReset)), (Closing::Flush, Ok(0))] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Side::dialer();
        let conn = client.connected(0, listener.local_addr().unwrap());
        let (mut peer, _) = listener.accept().unwrap();
        client.command(move |machine| machine.close(conn, how));
        assert_eq!(client.next(), Event::Closed(conn, CloseReason::Local));
        assert_eq!(peer.read(&mut [0; 8]).map_err(|error| error.kind()), seen);
        client.stop();
    }
}

#[test]
fn an_abort_cuts_a_flush_short() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Side::start(Common { send_batch: 16 << 20, ..Common::default() }, Given::default());
    let conn = client.connected(0, listener.local_addr().unwrap());
    client.command(move |machine| machine.send(conn, vec![1; 12 << 20]));
    client.until(|stats| stats.short_writes > 0);
    client.command(move |machine| machine.close(conn, Closing::Flush));
    client.command(move |machine| machine.close(conn, Closing::Abort));
    assert_eq!(client.next(), Event::Closed(conn, CloseReason::Local));
    client.stop();
}

#[test]
fn the_peers_fin_is_an_end_of_file_and_its_reset_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Side::dialer();
    let polite = client.connected(0, listener.local_addr().unwrap());
    listener.accept().unwrap().0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.next(), Event::Closed(polite, CloseReason::Eof));
    let rude = client.connected(1, listener.local_addr().unwrap());
    let (peer, _) = listener.accept().unwrap();
    SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(client.next(), Event::Closed(rude, CloseReason::Reset));
    client.stop();
}

#[test]
fn a_close_of_a_connection_that_is_gone_is_not_answered_again() {
    let client = Side::dialer();
    let conn = client.connect(0, dead_address());
    assert_eq!(client.next(), Event::Closed(conn, CloseReason::Refused));
    client.command(move |machine| machine.close(conn, Closing::Abort));
    let (report, rest) = client.rest();
    assert!(report.is_clean() && rest.is_empty(), "{rest:?}");
}

#[test]
fn at_the_bound_a_dial_and_an_accepted_connection_are_refused_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let side = Side::start(Common { max_connections: 1, ..Common::default() }, Given::listener(listener));
    let first = TcpStream::connect(addr).unwrap();
    assert_eq!(side.next(), Event::Open(ConnId::accepted(0)));
    let conn = side.connect(0, addr);
    assert_eq!(side.next(), Event::Closed(conn, CloseReason::NoDescriptors));
    assert_eq!(TcpStream::connect(addr).unwrap().read(&mut [0; 8]).unwrap(), 0);
    side.until(|stats| stats.refused == 2);
    drop(first);
    assert_eq!(side.next(), Event::Closed(ConnId::accepted(0), CloseReason::Eof));
    let _third = TcpStream::connect(addr).unwrap();
    assert_eq!(side.next(), Event::Open(ConnId::accepted(1)));
    side.stop();
}

#[test]
fn late_bytes_after_a_flush_do_not_reset_the_farewell_away() {
    let (server, addr) = Side::listener();
    let mut peer = TcpStream::connect(addr).unwrap();
    let conn = ConnId::accepted(0);
    assert_eq!(server.next(), Event::Open(conn));
    server.command(move |machine| {
        machine.send(conn, vec![7; 100_000]);
        machine.close(conn, Closing::Flush);
    });
    assert_eq!(server.next(), Event::Closed(conn, CloseReason::Local));
    for _ in 0..10 {
        peer.write_all(&[1; 1000]).unwrap();
    }
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), 100_000);
    // It lingers for the peer's FIN still, and a stop waits for that.
    drop(peer);
    server.stop();
}

#[test]
fn a_stop_resets_no_peer_that_still_sends_accepted_or_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Side::start(Common { linger: PATIENCE, ..Common::default() }, Given::listener(listener));
    let known = TcpStream::connect(addr).unwrap();
    assert_eq!(server.next(), Event::Open(ConnId::accepted(0)));
    let (busy, is_busy) = channel();
    let (release, released) = channel::<()>();
    server.command(move |_| {
        busy.send(()).unwrap();
        released.recv().unwrap();
    });
    is_busy.recv_timeout(PATIENCE).unwrap();
    // Nobody accepts this one before the stop.
    let waiting = TcpStream::connect(addr).unwrap();
    server.driver.halt();
    release.send(()).unwrap();
    for mut stream in [known, waiting] {
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "FIN, not a reset");
        for _ in 0..10 {
            stream.write_all(&[1; 10_000]).expect("no reset");
        }
    }
    server.stop();
}
