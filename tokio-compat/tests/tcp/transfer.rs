//! Bytes in, bytes out: many connections, large transfers, sockets that take only parts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;

use ringplane_core::id::ConnId;
use ringplane_core::protocol::{CloseReason, Closing};
use ringplane_tokio::tcp::{Common, Given};

use crate::echo::{Event, POISON, Side};

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0].wrapping_add(seed) & 0x7F).collect()
}

fn collect(side: &Side, mut missing: BTreeMap<ConnId, usize>) -> BTreeMap<ConnId, Vec<u8>> {
    let mut got: BTreeMap<ConnId, Vec<u8>> = BTreeMap::new();
    while !missing.is_empty() {
        match side.next() {
            Event::Bytes(conn, bytes) => {
                let left = missing.get_mut(&conn).expect("nothing more than was sent");
                *left -= bytes.len();
                if *left == 0 {
                    missing.remove(&conn);
                }
                got.entry(conn).or_default().extend(bytes);
            }
            other => panic!("{other:?} instead of bytes"),
        }
    }
    got
}

#[test]
fn many_connections_get_back_what_each_of_them_sent() {
    const CONNECTIONS: u64 = 300;
    let (server, addr) = Side::listener();
    let client = Side::dialer();
    let conns: Vec<_> = (0..CONNECTIONS).map(|n| client.connect(n, addr)).collect();
    for _ in &conns {
        assert!(matches!(client.next(), Event::Open(_)));
    }
    let sent: BTreeMap<_, _> = conns.iter().map(|&conn| (conn, pattern(1000, conn.number() as u8))).collect();
    let copy = sent.clone();
    client.command(move |machine| {
        for (conn, bytes) in copy {
            bytes.chunks(100).for_each(|chunk| machine.send(conn, chunk.to_vec()));
        }
    });
    let got = collect(&client, sent.iter().map(|(conn, bytes)| (*conn, bytes.len())).collect());
    assert_eq!(got, sent);
    client.until(|stats| stats.connections == CONNECTIONS);
    client.stop();
    server.stop();
}

#[test]
fn a_large_transfer_survives_writes_the_socket_takes_in_parts() {
    let (server, addr) = Side::listener();
    // One write larger than any socket buffer.
    let client = Side::start(Common { send_batch: 24 << 20, ..Common::default() }, Given::default());
    let conn = client.connected(0, addr);
    let sent = pattern(24 << 20, 3);
    let copy = sent.clone();
    client.command(move |machine| {
        // Small pieces are copied, large ones travel by reference: both kinds are cut by short writes.
        for (n, piece) in copy.chunks(300_000).enumerate() {
            let (small, large) = piece.split_at(10 * (n % 50));
            machine.send(conn, small.to_vec());
            machine.send(conn, large.to_vec());
        }
    });
    let got = collect(&client, BTreeMap::from([(conn, sent.len())]));
    assert!(got[&conn] == sent);
    client.until(|stats| stats.short_writes > 0 && stats.bytes_out == 24 << 20 && stats.bytes_in == 24 << 20);
    client.stop();
    server.stop();
}

#[test]
fn a_connection_with_much_to_write_gives_way_after_its_share() {
    let stubborn = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Side::dialer();
    let conn = client.connected(0, stubborn.local_addr().unwrap());
    let (mut peer, _) = stubborn.accept().unwrap();
    let sent = pattern(16 << 20, 7);
    let copy = sent.clone();
    client.command(move |machine| copy.chunks(64 << 10).for_each(|piece| machine.send(conn, piece.to_vec())));
    let mut got = vec![0; sent.len()];
    peer.read_exact(&mut got).unwrap();
    assert!(got == sent);
    let (tell, told) = channel();
    client.command(move |machine| tell.send(machine.most_pulled()).unwrap());
    // A mebibyte, and what the last batch is over.
    let most = told.recv().unwrap();
    assert!(most <= (1 << 20) + (256 << 10), "{most} bytes pulled without a look at anything else");
    client.stop();
}

#[test]
fn a_peer_that_does_not_read_stops_nobody_else() {
    let stubborn = TcpListener::bind("127.0.0.1:0").unwrap();
    let (server, addr) = Side::listener();
    let client = Side::dialer();
    let stuck = client.connected(0, stubborn.local_addr().unwrap());
    let (mut peer, _) = stubborn.accept().unwrap();
    let bytes = pattern(16 << 20, 5);
    let copy = bytes.clone();
    client.command(move |machine| machine.send(stuck, copy));
    client.until(|stats| stats.short_writes > 0);
    let lively = client.connected(1, addr);
    client.command(move |machine| machine.send(lively, &b"hello"[..]));
    assert_eq!(client.next(), Event::Bytes(lively, b"hello".to_vec()));
    let mut got = vec![0; bytes.len()];
    peer.read_exact(&mut got).unwrap();
    assert!(got == bytes, "what waited arrives once the peer reads");
    client.stop();
    server.stop();
}

#[test]
fn a_violation_ends_the_connection_after_the_farewell_and_later_bytes_are_not_delivered() {
    let (server, addr) = Side::listener();
    let mut peer = TcpStream::connect(addr).unwrap();
    peer.write_all(&[POISON; 70_000]).unwrap();
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"farewell");
    let conn = ConnId::accepted(0);
    assert_eq!(server.next(), Event::Open(conn));
    assert_eq!(server.next(), Event::Closed(conn, CloseReason::Local));
    server.until(|stats| stats.faults == 1);
    server.stop();
}

#[test]
fn a_flush_of_a_blocked_connection_writes_the_rest_then_fin() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Side::start(Common { send_batch: 16 << 20, ..Common::default() }, Given::default());
    let conn = client.connected(0, listener.local_addr().unwrap());
    let (mut peer, _) = listener.accept().unwrap();
    let bytes = pattern(12 << 20, 9);
    let copy = bytes.clone();
    client.command(move |machine| machine.send(conn, copy));
    client.until(|stats| stats.short_writes > 0);
    peer.write_all(b"too late").unwrap();
    client.command(move |machine| machine.close(conn, Closing::Flush));
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
    let mut rest = vec![client.next()];
    if matches!(&rest[0], Event::Bytes(..)) {
        // Arrived before the close: allowed.
        rest.push(client.next());
    }
    assert_eq!(rest.last(), Some(&Event::Closed(conn, CloseReason::Local)));
    client.stop();
}
