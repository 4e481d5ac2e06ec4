//! A NATS server that is lost or stands still under load: what does not arrive is told, to the last number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringplane::events::{
    Delivery, EventPublisher, Events, InboxConfig, Listen, NatsConfig, Scope, Subject, Subscription,
};
use ringplane_servers::nats::NatsServer;
use tokio::time::timeout;

use super::transports::nats_at;
use crate::facade::child::in_children;
use crate::facade::proxy::{Proxy, Way};
use crate::facade::support::{resident, runtime};

/// The most that anything here may take.
const SOON: Duration = Duration::from_secs(60);

async fn open(config: &NatsConfig) -> Events {
    Events::builder().discovery("mem:outage").plane(config.clone()).open().await.unwrap()
}

/// What becomes of a stream of events while `trouble` goes on: all arrive in order, or are told as missing. Answers how many are
/// missing.
async fn under_load<T: Send + 'static>(
    address: &str,
    topic: &str,
    trouble: impl FnOnce(&AtomicU64) -> T + Send + 'static,
) -> u64 {
    let mut config = nats_at(address);
    // Pauses that a test can wait for; and a publisher that is told soon that there is no room.
    config.server.retry_cap = Duration::from_millis(100);
    config.unwritten = 64;
    config.stall = Duration::from_millis(50);
    let (publishing, listening) = (open(&config).await, open(&config).await);
    let mut subscription = listening.subscriber("outage", topic).await.unwrap();
    let publisher = Arc::new(publishing.publisher("outage", topic).await.unwrap());
    let (is_over, stalled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publishing = tokio::spawn(publish(publisher.clone(), is_over.clone(), stalled.clone()));
    // Some before the trouble.
    let mut next = 0;
    let mut missing = 0;
    while next < 100 {
        hear(&mut subscription, &mut next, &mut missing).await;
    }
    let trouble = tokio::task::spawn_blocking(move || trouble(&stalled));
    let server = timeout(SOON, trouble).await.expect("the trouble is over").unwrap();
    // Once an event arrives that was published after it, all before it are accounted for.
    let after = timeout(SOON, async {
        loop {
            if let Ok(sequence) = publisher.publish(b"after").await {
                break sequence;
            }
        }
    });
    let after = after.await.expect("there is room again");
    while next <= after {
        hear(&mut subscription, &mut next, &mut missing).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let last = publishing.await.unwrap();
    publisher.flush().await.unwrap();
    let last = publisher.publish(b"last").await.unwrap().max(last);
    while next <= last {
        hear(&mut subscription, &mut next, &mut missing).await;
    }
    let stats = subscription.stats();
    assert_eq!((stats.told.events + stats.told.missing, stats.told.missing), (last + 1, missing));
    assert_eq!((stats.told.duplicates, stats.told.restarts, stats.queued.dropped), (0, 0, 0));
    drop(server);
    missing
}

/// Publishes until it is over and answers the last number. An event that finds no room is lost, and told as such.
async fn publish(publisher: Arc<EventPublisher>, is_over: Arc<AtomicBool>, stalled: Arc<AtomicU64>) -> u64 {
    let mut last = 0;
    while !is_over.load(Ordering::Relaxed) {
        match publisher.publish([7; 128]).await {
            Ok(sequence) => last = sequence,
            Err(_) => drop(stalled.fetch_add(1, Ordering::Relaxed)),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    last
}

/// The next that is told, which goes on from `next`.
async fn hear(subscription: &mut Subscription, next: &mut u64, missing: &mut u64) {
    let delivery = timeout(SOON, subscription.next()).await.expect("nothing comes").expect("it is over").unwrap();
    match delivery {
        Delivery::Event(message) => {
            assert_eq!(message.sequence, *next);
            *next += 1;
        }
        Delivery::Gap(gap) => {
            assert_eq!(gap.first, *next);
            *missing += gap.missing;
            *next = gap.last + 1;
        }
        other => panic!("{other:?}"),
    }
}

/// Waits on a thread of its own until something holds, and fails before it is given up from outside.
fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(50), "still not: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn server() -> Option<NatsServer> {
    match NatsServer::start() {
        Ok(server) => Some(server),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no NATS server: {why}");
            eprintln!("no NATS server: {why}; nothing is tested");
            None
        }
    }
}

#[tokio::test]
async fn a_server_that_restarts_under_load_costs_what_is_told() {
    let Some(mut server) = server() else { return };
    let address = server.address().to_owned();
    let missing = under_load(&address, "restarted", move |stalled| {
        server.stop();
        // What may wait for the server is bounded: publishers fill it, and are told.
        until("a publisher is told that there is no room", || stalled.load(Ordering::Relaxed) > 0);
        server.resume().unwrap();
        server
    })
    .await;
    println!("{missing} were missing, and told");
    assert!(missing > 0);
}

#[tokio::test]
async fn a_server_that_stands_still_under_load_costs_what_is_told() {
    let Some(mut server) = server() else { return };
    let address = server.address().to_owned();
    let missing = under_load(&address, "paused", move |_| {
        server.pause().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        server.go_on().unwrap();
        server
    })
    .await;
    println!("{missing} were missing, and told");
}

/// Bytes stop, so that what is published now gets lost; then the connections end as `end` has it.
async fn cut_off(topic: &str, end: fn(&Proxy)) {
    let Some(server) = server() else { return };
    let proxy = Proxy::to(server.address().parse().unwrap(), None);
    let missing = under_load(&proxy.addr().to_string(), topic, move |_| {
        proxy.hold(Way::Up);
        proxy.hold(Way::Down);
        std::thread::sleep(Duration::from_millis(200));
        let passed = proxy.passed(Way::Up);
        end(&proxy);
        proxy.release();
        until("bytes pass again", || proxy.passed(Way::Up) > passed);
        (server, proxy)
    })
    .await;
    println!("{missing} were missing, and told");
}

#[tokio::test]
async fn a_server_that_is_cut_off_under_load_costs_what_is_told() {
    cut_off("cut", Proxy::cut).await;
}

#[tokio::test]
async fn connections_that_are_reset_under_load_cost_what_is_told() {
    cut_off("reset", Proxy::reset).await;
}

/// The most that a publisher and a subscriber may take beside what the process had, in bytes.
const MOST: usize = 48 << 20;

/// Four times as many bytes as that are published, at a server that stands still and for a subscriber that does not read.
async fn much_is_published(server: &mut NatsServer) {
    const EVENT: usize = 64 << 10;
    let mut config = nats_at(server.address());
    // 4 MiB of each side, and 8 MiB of the subscription.
    (config.unwritten, config.waiting) = (64, 64);
    config.stall = Duration::from_millis(1);
    let (publishing, listening) = (open(&config).await, open(&config).await);
    let inbox = InboxConfig { max_bytes: 8 << 20, ..InboxConfig::default() };
    let subject = Subject::new(Scope::Namespace("outage".to_owned()), "memory").unwrap();
    let subscription = listening.subscriber_of(&subject, Listen { inbox, ..Listen::default() }).await.unwrap();
    let publisher = publishing.publisher("outage", "memory").await.unwrap();
    let before = resident();
    let (mut lost, mut most) = (0_usize, 0);
    for number in 0..4 * MOST / EVENT {
        // It stands still for the first half.
        if number == 0 {
            server.pause().unwrap();
        } else if number == 2 * MOST / EVENT {
            server.go_on().unwrap();
        }
        lost += usize::from(publisher.publish([7; EVENT]).await.is_err());
        most = most.max(resident().saturating_sub(before));
    }
    publisher.flush().await.unwrap();
    println!("{lost} found no room, {} wait, {most} bytes more of memory at most", subscription.waiting().0);
    assert!(most < MOST, "{most} bytes");
    assert!(lost > 0, "there was room for all");
}

#[test]
fn neither_a_server_that_stands_still_nor_a_subscriber_that_does_not_read_takes_memory_beyond_the_bounds() {
    in_children(&["memory"], |_| {
        let Some(mut server) = server() else { return };
        runtime().block_on(much_is_published(&mut server));
    });
}
