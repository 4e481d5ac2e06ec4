//! Sockets with each other, with those of the crate `zeromq`, and with peers that misbehave.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringplane_core::event::zmtp::Fault;
use ringplane_core::retry::backoff;
use ringplane_core::wire::zmtp::{self, Command, GREETING, SocketType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zeromq::{Socket as _, SocketRecv as _, SocketSend as _};

use crate::event::zmq::broker::{Broker, BrokerConfig};
use crate::event::zmq::config::Config;
use crate::event::zmq::endpoint::Endpoint;
use crate::event::zmq::lane::{Message, Pushed};
use crate::event::zmq::shared::{Down, Incoming, What};
use crate::event::zmq::socket::Socket;

/// The longest that anything here may take.
const BOUND: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(BOUND, test).await.expect("it comes to its end") });
}

fn local() -> Endpoint {
    "tcp://127.0.0.1:0".parse().unwrap()
}

fn quick() -> Config {
    let retry = backoff::Config { base: Duration::from_millis(1), cap: Duration::from_millis(20), attempts: u32::MAX };
    Config { retry, ..Config::default() }
}

fn message(parts: &[&str]) -> Message {
    parts.iter().map(|part| Bytes::copy_from_slice(part.as_bytes())).collect()
}

fn connect(socket: &Socket, addr: SocketAddr) {
    socket.connect(addr.into(), 0, CancellationToken::new());
}

/// A SUB that is connected to `addr` and wants `prefix`.
fn subscriber(addr: SocketAddr, prefix: &'static str) -> (Socket, mpsc::Receiver<Incoming>) {
    let (socket, incoming) = Socket::new(SocketType::Sub, quick());
    socket.subscribe(&Bytes::from_static(prefix.as_bytes()));
    connect(&socket, addr);
    (socket, incoming)
}

/// The messages that come next, `count` of them, without their topics.
async fn bodies(incoming: &mut mpsc::Receiver<Incoming>, count: usize) -> Vec<Bytes> {
    let mut all = Vec::new();
    while all.len() < count {
        if let What::Messages(messages) = incoming.recv().await.unwrap().what {
            all.extend(messages.into_iter().map(|message| message.last().unwrap().clone()));
        }
    }
    all
}

async fn down(incoming: &mut mpsc::Receiver<Incoming>) -> Down {
    loop {
        if let What::Down(down) = incoming.recv().await.unwrap().what {
            return down;
        }
    }
}

#[test]
fn a_subscriber_gets_what_begins_as_it_asked_in_order_and_nothing_else() {
    run(async {
        let (publisher, _) = Socket::new(SocketType::Pub, quick());
        let addr = publisher.bind(&local()).await.unwrap();
        let (_all, mut all) = subscriber(addr, "");
        let (some, mut few) = subscriber(addr, "b");
        while publisher.listeners(b"b") < 2 {
            publisher.listened(b"b").await;
            tokio::task::yield_now().await;
        }
        for number in 0..2000 {
            publisher.publish(&message(&[if number % 2 == 0 { "a" } else { "bb" }, &number.to_string()]));
        }
        let expected = |step| (0..2000).skip(step - 1).step_by(step).map(|number| Bytes::from(number.to_string()));
        assert!(bodies(&mut all, 2000).await.into_iter().eq(expected(1)));
        assert!(bodies(&mut few, 1000).await.into_iter().eq(expected(2)));
        assert_eq!((publisher.stats().sent, publisher.stats().dropped), (3000, 0));
        some.cancel(&Bytes::from_static(b"b"));
        while publisher.listeners(b"b") > 1 {
            tokio::task::yield_now().await;
        }
        drop(some);
        while publisher.peers() > 1 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn sockets_of_the_crate_zeromq_understand_ours_in_every_role() {
    run(async {
        let mut theirs = zeromq::PubSocket::new();
        let zeromq::Endpoint::Tcp(_, port) = theirs.bind("tcp://127.0.0.1:0").await.unwrap() else { panic!("by TCP") };
        let (_ours, mut incoming) = subscriber(SocketAddr::from(([127, 0, 0, 1], port)), "t");
        let sent: zeromq::ZmqMessage = vec![Bytes::from_static(b"t"), Bytes::from(vec![3; 1000])].try_into().unwrap();
        // It does not tell who listens, so it says the same until it is heard.
        let heard = bodies(&mut incoming, 1);
        tokio::pin!(heard);
        let heard = loop {
            theirs.send(sent.clone()).await.unwrap();
            match timeout(Duration::from_millis(10), &mut heard).await {
                Ok(heard) => break heard,
                Err(_) => continue,
            }
        };
        assert_eq!(heard, [Bytes::from(vec![3; 1000])]);

        let (publisher, _) = Socket::new(SocketType::Pub, quick());
        let addr = publisher.bind(&local()).await.unwrap();
        let mut theirs = zeromq::SubSocket::new();
        theirs.subscribe("t").await.unwrap();
        theirs.connect(&format!("tcp://{addr}")).await.unwrap();
        publisher.listened(b"t").await;
        publisher.publish(&message(&["t", "hello"]));
        assert_eq!(theirs.recv().await.unwrap().into_vec(), message(&["t", "hello"]).to_vec());

        let (router, mut asks) = Socket::new(SocketType::Router, quick());
        let addr = router.bind(&local()).await.unwrap();
        let mut theirs = zeromq::DealerSocket::new();
        theirs.connect(&format!("tcp://{addr}")).await.unwrap();
        theirs.send(vec![Bytes::new(), Bytes::from_static(b"q")].try_into().unwrap()).await.unwrap();
        let (peer, question) = loop {
            if let Incoming { peer, what: What::Messages(mut messages), .. } = asks.recv().await.unwrap() {
                break (peer, messages.remove(0));
            }
        };
        assert_eq!(question, message(&["", "q"]).to_vec());
        assert_eq!(router.send(peer, message(&["", "answer"])), Pushed::Taken);
        assert_eq!(theirs.recv().await.unwrap().into_vec(), message(&["", "answer"]).to_vec());
    });
}

#[test]
fn a_subscriber_that_takes_nothing_costs_a_bounded_amount_and_no_other_subscriber() {
    run(async {
        let (publisher, _) =
            Socket::new(SocketType::Pub, Config { max_waiting: 50, max_waiting_bytes: 1 << 20, ..quick() });
        let addr = publisher.bind(&local()).await.unwrap();
        // It says what it wants, and reads nothing.
        let mut stuck = tokio::net::TcpStream::connect(addr).await.unwrap();
        let mut hello = BytesMut::from(&GREETING[..]);
        Command::Ready { socket: Some(SocketType::Sub), identity: Bytes::new() }.put(&mut hello);
        Command::Subscribe(Bytes::new()).put(&mut hello);
        stuck.write_all(&hello).await.unwrap();
        publisher.listened(b"x").await;
        let (_reading, mut incoming) = subscriber(addr, "");
        while publisher.listeners(b"x") < 2 {
            tokio::task::yield_now().await;
        }
        let large: Message = Arc::new([Bytes::from_static(b"x"), Bytes::from(vec![0; 100_000])]);
        for _ in 0..400 {
            publisher.publish(&large);
            assert_eq!(bodies(&mut incoming, 1).await.len(), 1, "whoever reads gets all");
        }
        let stats = publisher.stats();
        assert!(stats.dropped > 100, "{stats:?}");
        assert_eq!(stats.sent + stats.dropped, 800);
        drop(stuck);
        while publisher.peers() > 1 {
            tokio::task::yield_now().await;
        }
    });
}

/// A publisher that accepts one connection, introduces itself and then does as it is told.
async fn peer(listener: &TcpListener, then: &[u8]) -> tokio::net::TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut hello = BytesMut::from(&GREETING[..]);
    Command::Ready { socket: Some(SocketType::Pub), identity: Bytes::new() }.put(&mut hello);
    hello.extend_from_slice(then);
    stream.write_all(&hello).await.unwrap();
    stream
}

#[test]
fn a_peer_that_falls_silent_is_noticed_and_tried_again() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config =
            Config { ping_interval: Duration::from_millis(20), ping_timeout: Duration::from_millis(40), ..quick() };
        let (socket, mut incoming) = Socket::new(SocketType::Sub, config);
        connect(&socket, listener.local_addr().unwrap());
        let _silent = peer(&listener, &[]).await;
        assert!(matches!(down(&mut incoming).await, Down::Fault(Fault::Silent)));
        // One that never introduces itself is no better.
        drop(socket);
        let config = Config { hello_timeout: Duration::from_millis(20), ..quick() };
        let (socket, _incoming) = Socket::new(SocketType::Sub, config);
        connect(&socket, listener.local_addr().unwrap());
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            // Its greeting, and then the end.
            let _ = stream.read_to_end(&mut all).await;
            assert!(all.starts_with(&GREETING));
        }
        assert!(socket.stats().refused >= 1);
    });
}

#[test]
fn a_length_no_message_has_ends_the_connection_before_memory_is_taken() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_socket, mut incoming) = subscriber(listener.local_addr().unwrap(), "");
        let _peer = peer(&listener, &[2, 0x3F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]).await;
        assert!(matches!(down(&mut incoming).await, Down::Fault(Fault::Malformed(_))));
    });
}

#[test]
fn a_publisher_that_comes_back_is_found_and_the_gap_is_told() {
    run(async {
        let (publisher, _) = Socket::new(SocketType::Pub, quick());
        let addr = publisher.bind(&local()).await.unwrap();
        let (_socket, mut incoming) = subscriber(addr, "");
        publisher.listened(b"x").await;
        publisher.publish(&message(&["x", "1"]));
        publisher.drained().await;
        assert_eq!(bodies(&mut incoming, 1).await, ["1"]);
        drop(publisher);
        down(&mut incoming).await;
        let (publisher, _) = Socket::new(SocketType::Pub, quick());
        while publisher.bind(&addr.into()).await.is_err() {
            tokio::task::yield_now().await;
        }
        publisher.listened(b"x").await;
        publisher.publish(&message(&["x", "2"]));
        assert_eq!(bodies(&mut incoming, 1).await, ["2"]);
    });
}

#[test]
fn a_broker_hands_on_what_is_wanted_and_asks_publishers_for_no_more() {
    run(async {
        let config = BrokerConfig { xsub: local(), xpub: local(), socket: quick() };
        let broker = Broker::start(config).await.unwrap();
        let (publisher, _) = Socket::new(SocketType::Pub, quick());
        connect(&publisher, broker.xsub_addr());
        let (one, mut first) = subscriber(broker.xpub_addr(), "a");
        let (_two, mut second) = subscriber(broker.xpub_addr(), "a");
        publisher.listened(b"a").await;
        while broker.listeners(b"a") < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(publisher.listeners(b"b"), 0);
        publisher.publish(&message(&["a", "1"]));
        assert_eq!(bodies(&mut first, 1).await, ["1"]);
        assert_eq!(bodies(&mut second, 1).await, ["1"]);
        drop(one);
        while broker.listeners(b"a") > 1 {
            tokio::task::yield_now().await;
        }
        publisher.publish(&message(&["a", "2"]));
        assert_eq!(bodies(&mut second, 1).await, ["2"], "the other one still wants it");
    });
}

#[test]
fn connections_beyond_the_bound_are_turned_away() {
    run(async {
        let (publisher, _) = Socket::new(SocketType::Pub, Config { max_peers: 1, ..quick() });
        let addr = publisher.bind(&local()).await.unwrap();
        let (first, _a) = subscriber(addr, "");
        publisher.listened(b"x").await;
        let (_second, _b) = subscriber(addr, "");
        while publisher.stats().refused == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(publisher.peers(), 1);
        drop(first);
        while publisher.stats().opened < 2 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn what_a_peer_says_before_it_goes_comes_before_its_end() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_socket, mut incoming) = subscriber(listener.local_addr().unwrap(), "");
        let mut bytes = BytesMut::new();
        for number in 0..50u8 {
            zmtp::put_message(&[Bytes::new(), Bytes::copy_from_slice(&[number])], &mut bytes);
        }
        drop(peer(&listener, &bytes).await);
        let got = bodies(&mut incoming, 50).await;
        assert!(got.iter().map(|body| body[0]).eq(0..50));
        down(&mut incoming).await;
    });
}
