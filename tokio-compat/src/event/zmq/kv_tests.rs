//! KV events from our publisher to our subscriber, over real connections.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::event::kv::frames::{self, Answer};
use ringplane_core::event::kv::source::Clear;
use ringplane_core::event::kv::{Event, Output, Removed, Stored, Tokens, publisher, subscriber};
use ringplane_core::retry::backoff;
use ringplane_core::wire::zmtp::SocketType;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::event::zmq::config::Config;
use crate::event::zmq::endpoint::Endpoint;
use crate::event::zmq::kv_publisher::{KvPublisher, KvPublisherConfig};
use crate::event::zmq::kv_subscriber::{KvSubscriber, KvSubscriberConfig};
use crate::event::zmq::shared::{Incoming, What};
use crate::event::zmq::socket::Socket;

const BOUND: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(BOUND, test).await.expect("it comes to its end") });
}

fn quick() -> Config {
    let retry = backoff::Config { base: Duration::from_millis(1), cap: Duration::from_millis(20), attempts: u32::MAX };
    Config { retry, ..Config::default() }
}

async fn publisher_at(host: &str, live: u16, replay: u16, max_batches: usize) -> KvPublisher {
    let at = |port| Endpoint { host: host.into(), port };
    loop {
        let config = KvPublisherConfig {
            endpoint: at(live),
            replay_endpoint: Some(at(replay)),
            topic: "kv@a@b".into(),
            publisher: publisher::Config { max_batches, ..Default::default() },
            socket: quick(),
            ..Default::default()
        };
        match KvPublisher::start(config).await {
            Ok(publisher) => return publisher,
            // The port of one that has just gone.
            Err(_) if live != 0 => tokio::task::yield_now().await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn subscriber_of(publisher: &KvPublisher) -> KvSubscriber {
    let config = KvSubscriberConfig {
        replay_endpoint: publisher.replay_addr().map(Into::into),
        topic: "kv@".into(),
        socket: quick(),
        ..KvSubscriberConfig::new(publisher.live_addr().unwrap().into())
    };
    KvSubscriber::start(config).unwrap()
}

fn store(hash: u64) -> [Event; 1] {
    let token_ids = Tokens::Plain(vec![1]);
    [Event::Stored(Stored { block_hashes: vec![hash], token_ids, block_size: 1, ..Stored::default() })]
}

/// Hashes as they become held, until there were `count`, with everything else in between.
async fn held(subscriber: &mut KvSubscriber, count: usize) -> (Vec<u64>, Vec<Output>) {
    let (mut hashes, mut rest) = (Vec::new(), Vec::new());
    while hashes.len() < count {
        match subscriber.next().await.unwrap() {
            Output::Stored { new, .. } => hashes.extend(new),
            other => rest.push(other),
        }
    }
    (hashes, rest)
}

async fn from_the_beginning(host: &str) {
    let publisher = publisher_at(host, 0, 0, 10_000).await;
    for hash in 0..100 {
        assert_eq!(publisher.publish(&store(hash)).unwrap(), hash + 1);
    }
    let mut subscriber = subscriber_of(&publisher);
    assert!(held(&mut subscriber, 100).await.0.into_iter().eq(0..100), "what was before it came is asked for");
    for hash in 100..1100 {
        publisher.publish(&store(hash)).unwrap();
    }
    assert!(held(&mut subscriber, 1000).await.0.into_iter().eq(100..1100));
    let gone = Removed { block_hashes: vec![7], ..Removed::default() };
    publisher.publish(&[Event::Removed(gone)]).unwrap();
    let removed = subscriber.next().await.unwrap();
    assert!(matches!(&removed, Output::Removed { gone, .. } if *gone == [7]), "{removed:?}");
    assert!(subscriber.is_exact());
    assert_eq!((subscriber.held(), subscriber.stats().missed), (1099, 0));
    publisher.close().await;
}

#[test]
fn a_late_subscriber_knows_everything_from_the_beginning() {
    run(from_the_beginning("127.0.0.1"));
}

#[test]
fn an_ipv6_address_does_as_well() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        assert!(std::env::var_os("CI").is_none(), "this machine has no IPv6");
        eprintln!("this machine has no IPv6: not tested");
        return;
    }
    run(from_the_beginning("::1"));
}

#[test]
fn history_that_is_gone_is_told_and_the_stream_goes_on() {
    run(async {
        let publisher = publisher_at("127.0.0.1", 0, 0, 10).await;
        (0..100).for_each(|hash| assert!(publisher.publish(&store(hash)).is_ok()));
        let mut subscriber = subscriber_of(&publisher);
        let (hashes, rest) = held(&mut subscriber, 10).await;
        assert!(hashes.into_iter().eq(90..100));
        assert_eq!(rest, [Output::Missed { first: 0, last: 90, confirmed: true }]);
        assert!(!subscriber.is_exact());
        publisher.publish(&store(100)).unwrap();
        assert_eq!(held(&mut subscriber, 1).await.0, [100]);
    });
}

#[test]
fn an_engine_that_starts_again_is_told_apart_from_a_gap() {
    run(async {
        let publisher = publisher_at("127.0.0.1", 0, 0, 100).await;
        let (live, replay) = (publisher.live_addr().unwrap().port(), publisher.replay_addr().unwrap().port());
        let mut subscriber = subscriber_of(&publisher);
        publisher.listened().await;
        (0..5).for_each(|hash| assert!(publisher.publish(&store(hash)).is_ok()));
        held(&mut subscriber, 5).await;
        drop(publisher);
        let publisher = publisher_at("127.0.0.1", live, replay, 100).await;
        // It overtakes the old number before anybody looks.
        (50..60).for_each(|hash| assert!(publisher.publish(&store(hash)).is_ok()));
        let (hashes, rest) = held(&mut subscriber, 10).await;
        assert!(hashes.into_iter().eq(50..60));
        let restarted = Output::Cleared { rank: None, why: Clear::Restarted };
        assert_eq!(rest.first(), Some(&restarted), "{rest:?}");
        assert!(!rest.iter().any(|output| matches!(output, Output::Missed { .. })), "{rest:?}");
        assert!(subscriber.is_exact());
        assert_eq!(subscriber.stats().restarts, 1);
    });
}

#[test]
fn a_client_that_reads_slowly_gets_a_whole_answer_and_holds_up_nobody() {
    run(async {
        let publisher = publisher_at("127.0.0.1", 0, 0, 20_000).await;
        // Each batch is some 800 bytes: far more than all buffers on the way hold.
        let hashes: Vec<u64> = (1..=80).map(|n| n << 56).collect();
        let token_ids = Tokens::Plain(vec![1; hashes.len()]);
        let large = Event::Stored(Stored { block_hashes: hashes, token_ids, block_size: 1, ..Stored::default() });
        (0..10_000).for_each(|_| assert!(publisher.publish(std::slice::from_ref(&large)).is_ok()));
        let (slow, mut answers) = Socket::new(SocketType::Dealer, quick());
        slow.connect(publisher.replay_addr().unwrap().into(), 0, CancellationToken::new());
        let Incoming { peer, what: What::Up, .. } = answers.recv().await.unwrap() else { panic!("it is up first") };
        slow.send(peer, std::sync::Arc::new(frames::request(1)));
        // Others are answered meanwhile, and live batches go out.
        let mut quick_one = subscriber_of(&publisher);
        publisher.listened().await;
        publisher.publish(&store(1)).unwrap();
        while quick_one.stats().applied < 10_002 {
            quick_one.next().await.unwrap();
        }
        assert_eq!(quick_one.stats().missed, 0);
        assert!(publisher.stats().answered < 20_000, "the slow one has taken nothing yet");
        let mut seqs = 1..=10_000;
        loop {
            let What::Messages(messages) = answers.recv().await.unwrap().what else { panic!("messages only") };
            let read = |message: &Vec<Bytes>| Answer::read(message).unwrap();
            if messages.iter().map(read).any(|answer| match answer {
                Answer::Batch { seq, .. } => {
                    assert_eq!(Some(seq), seqs.next());
                    false
                }
                Answer::End => true,
            }) {
                break;
            }
        }
        assert_eq!(seqs.next(), None, "every one of them");
    });
}

#[test]
fn ranks_have_ports_of_their_own_and_a_gap_without_anybody_to_ask_is_told() {
    run(async {
        let (engine, _) = Socket::new(SocketType::Pub, quick());
        let addr = engine.bind(&"tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut config = KvSubscriberConfig::new(Endpoint { port: addr.port() - 2, ..addr.into() });
        config.subscriber = subscriber::Config { rank: 2, ..Default::default() };
        config.socket = quick();
        let mut subscriber = KvSubscriber::start(config).unwrap();
        engine.listened(b"").await;
        for seq in [0u64, 3] {
            // An empty batch that names no rank.
            let payload = Bytes::from_static(b"\x92\xcb\0\0\0\0\0\0\0\0\x91\x91\xb0AllBlocksCleared");
            let live = frames::Live { topic: Bytes::new(), seq, payload };
            engine.publish(&(std::sync::Arc::new(live.frames()) as _));
        }
        let cleared = Output::Cleared { rank: Some(2), why: Clear::Announced };
        assert_eq!(subscriber.next().await, Some(cleared.clone()));
        assert_eq!(subscriber.next().await, Some(Output::Missed { first: 1, last: 2, confirmed: false }));
        assert_eq!(subscriber.next().await, Some(cleared));
    });
}
