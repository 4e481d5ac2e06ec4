//! Every connection ends once, for the right reason, from either side, in every phase.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::id::ConnId;
use ringplane_core::protocol::{CloseReason, Closing};
use ringplane_io_uring::Common;
use socket2::{Domain, Socket, Type};

use crate::toy::{Event, Node, PATIENCE, Role, few, pattern, small};

const DIAL: ConnId = ConnId::dialed(1);

/// An address that answers no dial: its queue of connections is full.
pub(crate) struct Silent {
    pub(crate) addr: std::net::SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl Silent {
    pub(crate) fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let target = listener.local_addr().unwrap();
        let queued = (0..4).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&target);
            socket
        });
        Self { addr: target.as_socket().unwrap(), _queued: queued.collect(), _listener: listener }
    }
}

#[test]
fn a_dial_nobody_answers_to_is_refused() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = Node::start(Role::Record, small());
    node.tell(move |toy| toy.dial(DIAL, unused));
    assert_eq!(node.next(), Event::Closed(DIAL, CloseReason::Refused));
    assert_eq!(node.until(|stats| stats.connections == 0).dial_failures, 1);
    node.stop();
}

#[test]
fn a_dial_can_be_taken_back_before_it_is_answered() {
    let silent = Silent::new();
    for how in [Closing::Flush, Closing::Abort] {
        let node = Node::start(Role::Record, small());
        let addr = silent.addr;
        node.tell(move |toy| toy.dial(DIAL, addr));
        node.until(|stats| stats.dials == 1 && stats.ops_in_flight == 3);
        node.tell(move |toy| toy.close(DIAL, how));
        assert_eq!(node.next(), Event::Closed(DIAL, CloseReason::Local));
        node.until(|stats| stats.connections == 0);
        node.stop();
    }
}

#[test]
fn a_dial_and_its_end_in_one_breath_are_one_end() {
    let server = Node::start(Role::Echo, small());
    let client = Node::start(Role::Record, small());
    let addr = server.addr;
    client.tell(move |toy| {
        toy.dial(DIAL, addr);
        toy.close(DIAL, Closing::Abort);
        toy.close(DIAL, Closing::Flush);
    });
    assert_eq!(client.next(), Event::Closed(DIAL, CloseReason::Local));
    client.until(|stats| stats.connections == 0);
    client.stop();
    server.stop();
}

#[test]
fn a_flush_writes_everything_then_ends_the_stream() {
    let server = Node::start(Role::Record, small());
    let mut stream = TcpStream::connect(server.addr).unwrap();
    let conn = server.accepted();
    let len = 8 << 20;
    server.tell(move |toy| {
        toy.send(conn, pattern(3, len).into());
        toy.close(conn, Closing::Flush);
    });
    // The write is blocked; what the peer says meanwhile and later is dropped and breaks nothing.
    server.until(|stats| stats.ring_sends > 0);
    stream.write_all(b"not heard").unwrap();
    let mut all = vec![0; len];
    stream.read_exact(&mut all).unwrap();
    assert!(all == pattern(3, len));
    assert_eq!(server.next(), Event::Closed(conn, CloseReason::Local));
    stream.write_all(b"not heard either").unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "FIN, not a reset");
    assert_eq!(server.handle.stats().connections, 1, "lingers");
    drop(stream);
    server.until(|stats| stats.connections == 0);
    server.stop();
}

#[test]
fn lingering_has_an_end_even_if_the_peer_never_closes() {
    let server = Node::start(Role::Record, Common { linger: Duration::from_millis(20), ..few() });
    let stream = TcpStream::connect(server.addr).unwrap();
    let conn = server.accepted();
    server.tell(move |toy| toy.close(conn, Closing::Flush));
    assert_eq!(server.next(), Event::Closed(conn, CloseReason::Local));
    server.until(|stats| stats.connections == 0);
    drop(stream);
    server.stop();
}

#[test]
fn a_stop_resets_no_peer_that_still_sends_accepted_or_not() {
    let server = Node::start(Role::Record, Common { linger: PATIENCE, ..few() });
    let known = TcpStream::connect(server.addr).unwrap();
    server.accepted();
    let (busy, is_busy) = channel();
    let (release, released) = channel::<()>();
    server.tell(move |_| {
        busy.send(()).unwrap();
        released.recv().unwrap();
    });
    is_busy.recv_timeout(PATIENCE).unwrap();
    // Nobody accepts this one before the stop.
    let waiting = TcpStream::connect(server.addr).unwrap();
    server.driver.halt();
    release.send(()).unwrap();
    for mut stream in [known, waiting] {
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "FIN, not a reset");
        for _ in 0..10 {
            stream.write_all(&pattern(1, 10_000)).expect("no reset");
        }
    }
    server.stop();
}

#[test]
fn an_abort_resets_the_peer_at_once_even_with_a_write_in_flight() {
    for flush_first in [false, true] {
        let server = Node::start(Role::Record, small());
        let mut stream = TcpStream::connect(server.addr).unwrap();
        let conn = server.accepted();
        server.tell(move |toy| toy.send(conn, pattern(3, 16 << 20).into()));
        server.until(|stats| stats.ring_sends > 0);
        server.tell(move |toy| {
            if flush_first {
                toy.close(conn, Closing::Flush);
            }
            toy.close(conn, Closing::Abort);
        });
        assert_eq!(server.next(), Event::Closed(conn, CloseReason::Local));
        server.until(|stats| stats.connections == 0);
        let error = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        server.stop();
    }
}

#[test]
fn a_peer_that_leaves_in_order_ends_the_connection_after_its_last_byte() {
    let server = Node::start(Role::Record, small());
    let mut stream = TcpStream::connect(server.addr).unwrap();
    let conn = server.accepted();
    stream.write_all(&pattern(5, 100_000)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(server.received(conn, 100_000) == pattern(5, 100_000));
    assert_eq!(server.next(), Event::Closed(conn, CloseReason::Eof));
    server.stop();
}

#[test]
fn a_peer_that_resets_is_told_apart_from_one_that_leaves() {
    let server = Node::start(Role::Record, small());
    let stream = Socket::from(TcpStream::connect(server.addr).unwrap());
    let conn = server.accepted();
    stream.set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(server.next(), Event::Closed(conn, CloseReason::Reset));
    server.stop();
}

#[test]
fn the_last_bytes_before_a_reset_are_heard_although_writing_fails() {
    for _ in 0..10 {
        let server = Node::start(Role::Record, small());
        let mut stream = TcpStream::connect(server.addr).unwrap();
        let conn = server.accepted();
        server.tell(move |toy| toy.send(conn, pattern(9, 16 << 20).into()));
        server.until(|stats| stats.ring_sends > 0);
        stream.write_all(b"sentinel").unwrap();
        // Unread bytes make this a reset, which also fails the write in flight.
        drop(stream);
        assert_eq!(server.received(conn, 8), b"sentinel");
        assert_eq!(server.next(), Event::Closed(conn, CloseReason::Reset));
        server.until(|stats| stats.connections == 0 && stats.ops_in_flight == 2);
        server.stop();
    }
}

#[test]
fn a_peer_that_breaks_the_protocol_gets_the_farewell_and_is_heard_no_more() {
    let server = Node::start(Role::Refuse, small());
    let mut stream = TcpStream::connect(server.addr).unwrap();
    let conn = server.accepted();
    stream.write_all(&pattern(1, 1000)).unwrap();
    let mut farewell = String::new();
    stream.read_to_string(&mut farewell).unwrap();
    assert_eq!(farewell, "farewell");
    assert_eq!(server.next(), Event::Closed(conn, CloseReason::Local));
    stream.write_all(&pattern(1, 1000)).unwrap();
    drop(stream);
    server.until(|stats| stats.connections == 0);
    server.stop();
}

#[test]
fn closing_what_is_already_gone_changes_nothing() {
    let server = Node::start(Role::Record, small());
    let stream = TcpStream::connect(server.addr).unwrap();
    let conn = server.accepted();
    drop(stream);
    assert_eq!(server.next(), Event::Closed(conn, CloseReason::Eof));
    server.tell(move |toy| {
        toy.close(conn, Closing::Flush);
        toy.close(conn, Closing::Abort);
        toy.send(conn, Bytes::from_static(b"nobody"));
    });
    server.until(|stats| stats.jobs == 1);
    server.stop();
}
