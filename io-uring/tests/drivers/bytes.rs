//! Bytes arrive complete and in order, whatever the sizes and the pace.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ringplane_core::id::ConnId;
use ringplane_core::local::Host;
use ringplane_core::protocol::CloseReason;
use ringplane_io_uring::{Common, Config, Flavor};

use crate::toy::{Event, Node, PATIENCE, Role, few, pattern, small};

#[test]
fn two_hundred_connections_get_back_what_they_sent() {
    Flavor::ALL.into_iter().for_each(echo);
}

fn echo(flavor: Flavor) {
    let server = Node::start(Role::Echo, Config { flavor, ..small() });
    let client = Node::start(Role::Record, Config { flavor, ..small() });
    let (addr, count, len) = (server.addr, 200, 50_000);
    client.tell(move |toy| (0..count).for_each(|n| toy.dial(ConnId::dialed(n), addr)));
    let mut received = vec![Vec::new(); count as usize];
    let mut missing = count as usize * len;
    while missing > 0 {
        match client.next() {
            Event::Open(conn) => client.tell(move |toy| toy.send(conn, pattern(conn.number(), len).into())),
            Event::Received(conn, bytes) => {
                missing -= bytes.len();
                received[conn.number() as usize].extend(bytes);
            }
            other => panic!("{other:?}"),
        }
    }
    for (n, bytes) in (0..).zip(received) {
        assert!(bytes == pattern(n, len), "connection {n}");
    }
    assert_eq!(server.handle.stats().accepts, count);
    client.stop();
    server.stop();
}

#[test]
fn a_slow_reader_gets_everything_through_partial_writes() {
    let server = Node::start(Role::Record, Common { send_batch: 3 << 20, ..few() });
    let mut reader = TcpStream::connect(server.addr).unwrap();
    let conn = server.accepted();
    let len = 24 << 20;
    server.tell(move |toy| {
        // Small pieces and large ones, so that both ways of queueing are cut at any place.
        for (n, part) in pattern(1, len).chunks(1_000_003).enumerate() {
            let cut = if n % 2 == 0 { 100 } else { 300_000 };
            part.chunks(cut).for_each(|piece| toy.send(conn, bytes::Bytes::copy_from_slice(piece)));
        }
    });
    // Nothing is read before the socket is full.
    server.until(|stats| stats.ring_sends > 0);
    let mut all = vec![0; len];
    for part in all.chunks_mut(777_777) {
        reader.read_exact(part).unwrap();
    }
    assert!(all == pattern(1, len));
    assert_eq!(server.until(|stats| stats.bytes_out == len as u64).ops_in_flight, 3, "accept, bell, receive");
    server.stop();
}

#[test]
fn a_connection_with_much_to_write_gives_way_after_its_share() {
    let batch = 4 << 10;
    let server = Node::start(Role::Record, Common { send_batch: batch, ..few() });
    let mut reader = TcpStream::connect(server.addr).unwrap();
    let (conn, len) = (server.accepted(), 4 << 20);
    server.tell(move |toy| {
        pattern(3, len).chunks(1000).for_each(|piece| toy.send(conn, bytes::Bytes::copy_from_slice(piece)));
    });
    let mut all = vec![0; len];
    reader.read_exact(&mut all).unwrap();
    assert!(all == pattern(3, len));
    let (tell, told) = std::sync::mpsc::channel();
    server.tell(move |toy| tell.send(toy.most_pulled()).unwrap());
    // A batch, and what it may be over.
    let most = told.recv_timeout(PATIENCE).unwrap();
    assert!(most <= batch + 1000, "{most} bytes pulled without a look at anything else");
    server.stop();
}

#[test]
fn after_a_wait_the_first_answers_leave_before_the_last_are_made_and_later_ones_together() {
    let server = Node::start(Role::Record, small());
    let mut reader = TcpStream::connect(server.addr).unwrap();
    let (conn, answers) = (server.accepted(), 64);
    // Longer than the driver has worked so far: the wait.
    std::thread::sleep(Duration::from_millis(200));
    let (tell, told) = std::sync::mpsc::channel();
    server
        .handle
        .submit(move |host, env| {
            for _ in 0..answers {
                let (host, tell) = (host.clone(), tell.clone());
                env.spawn(async move {
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_micros(50) {}
                    host.with(|toy| {
                        tell.send(toy.sent()).unwrap();
                        toy.send(conn, bytes::Bytes::from_static(b"answer"));
                    });
                });
            }
        })
        .unwrap();
    let mut all = vec![0; answers * b"answer".len()];
    reader.read_exact(&mut all).unwrap();
    let sent: Vec<usize> = told.iter().collect();
    assert_eq!(sent.len(), answers);
    assert!(sent[answers / 4] > 0, "nothing was written while a quarter of the answers were made: {sent:?}");
    let writes = server.handle.stats().writes;
    assert!(writes <= answers as u64 / 2, "{writes} writes: {sent:?}");
    server.stop();
}

#[test]
fn running_out_of_receive_buffers_pauses_and_loses_nothing() {
    let config = Config { recv_buffers: 1, recv_buffer: 512, ..small() };
    let server = Node::start(Role::Record, config);
    let (writers, len) = (8, 400_000);
    let addr = server.addr;
    let threads = (0..writers).map(|n| {
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(&pattern(n, len)).unwrap();
        })
    });
    let threads: Vec<_> = threads.collect();
    let mut received = std::collections::BTreeMap::<_, Vec<u8>>::new();
    let mut open = writers;
    while open > 0 {
        match server.next() {
            Event::Open(_) => {}
            Event::Received(conn, bytes) => received.entry(conn).or_default().extend(bytes),
            Event::Closed(_, why) => {
                assert_eq!(why, CloseReason::Eof);
                open -= 1;
            }
            Event::Timeout => panic!("no deadline was set"),
        }
    }
    let mut received: Vec<_> = received.into_values().collect();
    let mut expected: Vec<_> = (0..writers).map(|n| pattern(n, len)).collect();
    received.sort();
    expected.sort();
    assert!(received == expected);
    assert!(server.handle.stats().no_buffers > 0);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    server.stop();
}

#[test]
fn an_accepted_socket_inherits_the_options_of_its_listener() {
    crate::child::in_child(inherits);
}

fn inherits() {
    let common = few();
    let (user_timeout, keepalive) = (common.user_timeout, common.keepalive.unwrap());
    let server = Node::start(Role::Echo, common);
    // The socket belongs to the driver: it is found among the descriptors of this process.
    let stream = TcpStream::connect(server.addr).unwrap();
    server.accepted();
    let peer = stream.local_addr().unwrap();
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    let accepted = fds.filter_map(|entry| {
        let fd: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let socket = crate::limits::duplicate(fd)?;
        (socket.peer_addr().ok()?.as_socket()? == peer).then_some(socket)
    });
    let accepted: Vec<socket2::Socket> = accepted.collect();
    assert_eq!(accepted.len(), 1);
    assert!(accepted[0].tcp_nodelay().unwrap());
    assert_eq!(accepted[0].tcp_user_timeout().unwrap(), Some(user_timeout));
    assert_eq!(accepted[0].tcp_keepalive_time().unwrap(), keepalive.idle);
    drop(accepted);
    server.stop();
}
