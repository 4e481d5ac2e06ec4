//! Events over mux: publishers that wait for subscribers, for so long and no longer.

use std::time::Duration;

use ringplane::events::{Delivery, Events, InboxConfig, Listen, MuxConfig, Scope, Slow, Speak, Subject};
use ringplane::{Config, DriverChoice};
use tokio::time::timeout;

/// The most that anything here may take.
const SOON: Duration = Duration::from_secs(60);
const EVENTS: u64 = 2_000;

async fn open(mut plane: MuxConfig) -> Events {
    plane.config = Config { driver: DriverChoice::Tokio, ..Config::default() };
    Events::builder().discovery("mem:events-over-mux").plane(plane).open().await.unwrap()
}

#[tokio::test]
async fn a_subscriber_that_takes_nothing_holds_no_publisher_and_hears_of_all_it_lost_when_it_takes_again() {
    let plane = MuxConfig { waiting: 8, max_wait: Duration::from_millis(20), ..MuxConfig::default() };
    let (publishing, listening) = (open(plane).await, open(MuxConfig::default()).await);
    let subject = Subject::new(Scope::parse("held").unwrap(), "t").unwrap();
    let publisher = publishing.publisher_of(subject.clone(), Speak::default()).await.unwrap();
    let inbox = InboxConfig { max_events: 4, slow: Slow::Wait, ..InboxConfig::default() };
    let mut subscription = listening.subscriber_of(&subject, Listen { inbox, ..Listen::default() }).await.unwrap();
    // More than all buffers on the way hold.
    let publish = async {
        for _ in 0..EVENTS {
            publisher.publish([7; 8192]).await.unwrap();
        }
    };
    timeout(SOON, publish).await.expect("the publisher is held");
    // Nothing is published any more: the last of them are told all the same.
    let (mut next, mut missing) = (0, 0);
    while next < EVENTS {
        match timeout(SOON, subscription.next()).await.expect("nothing comes").unwrap().unwrap() {
            Delivery::Event(event) => {
                assert_eq!(event.sequence, next);
                next += 1;
            }
            Delivery::Gap(gap) => {
                assert_eq!(gap.first, next);
                missing += gap.missing;
                next = gap.last + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(missing > 0 && next == EVENTS, "{missing} of {next}");
}
