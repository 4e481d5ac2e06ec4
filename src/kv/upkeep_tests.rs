//! Publishers in the background: they end with their plane, and a panic in one is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringplane_core::discovery::channel::EventTransport;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::event::kv::router::Load;
use ringplane_core::event::message::Message;
use ringplane_core::event::subject::Subject;
use ringplane_core::id::InstanceId;
use ringplane_core::task::publisher::End;
use ringplane_tokio::discovery::BoxFuture;
use ringplane_tokio::event::{Error, Kind, Listen, Subscription, Transport};
use ringplane_tokio::random::random_u64;
use ringplane_tokio::task::TaskStats;

use crate::events::entry::Events;
use crate::events::plane::EventPlane;
use crate::kv::error::PublishError;
use crate::kv::forward::ForwardPublisher;
use crate::kv::load::LoadPublisher;

async fn open(plane: EventPlane) -> Events {
    Events::builder().discovery(format!("mem:{}", random_u64())).plane(plane).open().await.unwrap()
}

async fn until(events: &Events, what: &str, holds: impl Fn(&TaskStats) -> bool) {
    let begun = Instant::now();
    while !holds(&events.background()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?}", events.background());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn publishers_end_when_their_plane_is_shut_down_and_subscriptions_when_they_are_dropped() {
    let events = open(EventPlane::Mux(Box::default())).await;
    let load = LoadPublisher::open(&events, "a.b.c", InstanceId(1)).await.unwrap();
    let _passes = ForwardPublisher::open(&events, "a.b.c", "engine", 0).await.unwrap();
    let subscription = events.subscriber("a.b.c", "topic").await.unwrap();
    // Two queues and the ticks of one; what follows publishers for the subscription, and what hears the one that there is.
    until(&events, "all have begun", |all| all.pending() == 5).await;
    events.clone().shutdown().await;
    assert_eq!(events.upkeep().stats().pending(), 0, "those of the plane have ended");
    let refused = load.publish(Load::default()).unwrap_err();
    assert_eq!(refused, PublishError::Ended(End::Cancelled));
    drop(subscription);
    until(&events, "the subscription's end", |all| all.pending() == 0).await;
    assert_eq!(events.background().panicked, 0);
}

/// A transport with a defect.
#[derive(Debug)]
struct Defective;

impl Transport for Defective {
    fn kind(&self) -> Kind {
        Kind::InProc
    }

    fn open<'a>(&'a self, _: &'a Subject, _: PublisherId) -> BoxFuture<'a, Result<Option<EventTransport>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn close(&self, _: &Subject, _: PublisherId) {}

    fn publish<'a>(&'a self, _: &'a Subject, _: Message) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { panic!("a defect") })
    }

    fn subscribe<'a>(&'a self, _: &'a Subject, _: Listen) -> BoxFuture<'a, Result<Subscription, Error>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_panic_in_a_publisher_is_counted_and_said_to_the_one_that_publishes() {
    let events = open(EventPlane::Transport(Arc::new(Defective))).await;
    let load = LoadPublisher::open(&events, "a.b.c", InstanceId(1)).await.unwrap();
    load.publish(Load::default()).unwrap();
    until(&events, "the panic is counted", |all| all.panicked == 1).await;
    assert_eq!(load.publish(Load::default()), Err(PublishError::Ended(End::Cancelled)));
    events.shutdown().await;
}
