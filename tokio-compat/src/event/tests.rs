//! Tests of both ends of a subscription.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::discovery::event::{PublisherId, Scope};
use ringplane_core::event::inbox::{Config, Delivery, Slow};
use ringplane_core::event::message::Message;
use ringplane_core::event::publisher::Publisher;
use ringplane_core::event::subject::Subject;

use crate::event::error::Error;
use crate::event::inproc::InProc;
use crate::event::kind::Kind;
use crate::event::listen::Listen;
use crate::event::subscription::{Feeder, Subscription, subscription};
use crate::event::transport::Transport;

fn listen(slow: Slow, max_events: usize) -> Listen {
    Listen { inbox: Config { max_events, slow, ..Config::default() }, ..Listen::default() }
}

fn pair(slow: Slow, max_events: usize) -> (Feeder, Subscription) {
    subscription("t", &listen(slow, max_events))
}

fn messages() -> impl Iterator<Item = Message> {
    let mut publisher = Publisher::new(PublisherId(5), "t");
    std::iter::repeat_with(move || publisher.seal(1, b"x").unwrap())
}

/// Whether it is not done after a turn.
async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())).await
}

async fn sequence(subscription: &mut Subscription) -> u64 {
    match subscription.next().await {
        Some(Ok(Delivery::Event(message))) => message.sequence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_subscriber_that_waits_is_woken_and_hears_of_the_end_after_all_that_came() {
    let (feeder, mut subscription) = pair(Slow::DropOldest, 9);
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(delivery) = subscription.next().await {
            seen.push(delivery.unwrap());
        }
        seen
    });
    for message in messages().take(5) {
        feeder.push(message).await;
        tokio::task::yield_now().await;
    }
    drop(feeder);
    assert_eq!(reader.await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_publisher_waits_for_room_and_for_no_one_that_is_gone() {
    let (feeder, mut subscription) = pair(Slow::Wait, 1);
    let mut messages = messages();
    feeder.push(messages.next().unwrap()).await;
    let mut second = pin!(feeder.push(messages.next().unwrap()));
    assert!(is_pending(&mut second).await);
    assert_eq!(sequence(&mut subscription).await, 0);
    second.await;
    let mut third = pin!(feeder.push(messages.next().unwrap()));
    assert!(is_pending(&mut third).await);
    drop(subscription);
    third.await;
    feeder.gone().await;
    feeder.push(messages.next().unwrap()).await;
}

#[tokio::test]
async fn a_subscriber_that_takes_nothing_is_waited_for_once_and_again_when_it_has_taken_something() {
    let listen = Listen { max_wait: Some(Duration::from_millis(50)), ..listen(Slow::Wait, 2) };
    let (feeder, mut subscription) = subscription("t", &listen);
    let mut messages = messages();
    let mut push = |waits| {
        let message = messages.next().unwrap();
        let feeder = &feeder;
        async move {
            let mut push = Box::pin(feeder.push(message));
            assert_eq!(is_pending(&mut push).await, waits);
            if waits {
                push.await;
            }
        }
    };
    // Two have room, one is waited for, and those after it are not.
    for waits in [false, false, true, false, false] {
        push(waits).await;
    }
    assert_eq!(sequence(&mut subscription).await, 0);
    push(false).await;
    push(true).await;
    assert_eq!(sequence(&mut subscription).await, 1);
    let gap = |told: Option<Result<Delivery, Error>>| match told {
        Some(Ok(Delivery::Gap(gap))) => (gap.first, gap.last),
        other => panic!("{other:?}"),
    };
    assert_eq!(gap(subscription.next().await), (2, 4));
    assert_eq!(sequence(&mut subscription).await, 5);
    assert_eq!(gap(subscription.next().await), (6, 6));
    assert_eq!(subscription.stats().told.missing, 4);
}

#[tokio::test]
async fn a_gap_is_told_once_what_it_was_about_has_been_made_good() {
    let (feeder, subscription) = pair(Slow::DropOldest, 9);
    let (begin, mut begun) = tokio::sync::mpsc::channel(1);
    let (done, end) = tokio::sync::oneshot::channel::<()>();
    let mut end = Some(end);
    let mut subscription = subscription.on_gap(move |gap| {
        begin.try_send(gap).unwrap();
        let end = end.take();
        async move { drop(end.unwrap().await) }
    });
    let mut messages = messages();
    feeder.push(messages.next().unwrap()).await;
    messages.next();
    feeder.push(messages.next().unwrap()).await;
    let mut batch = Vec::new();
    assert_eq!(subscription.next_batch(&mut batch, 9).await.unwrap(), 1);
    assert!(is_pending(&mut Box::pin(subscription.next())).await);
    assert_eq!(begun.recv().await.unwrap().first, 1);
    assert!(is_pending(&mut Box::pin(subscription.next())).await);
    drop(done);
    assert!(matches!(subscription.next().await, Some(Ok(Delivery::Gap(gap))) if (gap.first, gap.last) == (1, 1)));
    assert_eq!(sequence(&mut subscription).await, 2);
}

#[tokio::test]
async fn a_batch_takes_what_is_there_and_makes_room() {
    let (feeder, mut subscription) = pair(Slow::Wait, 3);
    let mut messages = messages();
    for message in messages.by_ref().take(3) {
        feeder.push(message).await;
    }
    let mut batch = Vec::new();
    let mut fourth = Box::pin(feeder.push(messages.next().unwrap()));
    assert!(is_pending(&mut fourth).await);
    assert_eq!(subscription.next_batch(&mut batch, 2).await.unwrap(), 2);
    fourth.await;
    assert_eq!(subscription.next_batch(&mut batch, 9).await.unwrap(), 2);
    assert_eq!(batch.len(), 4);
    drop(feeder);
    assert_eq!(subscription.next_batch(&mut batch, 9).await.unwrap(), 0);
}

#[tokio::test]
async fn a_reason_of_the_end_is_told_once_and_what_is_no_event_does_not_end_it() {
    let (feeder, mut subscription) = pair(Slow::DropOldest, 9);
    feeder.push_envelope(Bytes::from_static(&[0xC1])).await;
    let envelope = messages().next().unwrap().envelope;
    feeder.push_envelope(envelope.clone()).await;
    // Of another topic.
    feeder.push_envelope(Publisher::new(PublisherId(5), "t2").seal(1, b"").unwrap().envelope).await;
    feeder.fail(Error::broken(Kind::Nats, "it is gone"));
    assert!(matches!(subscription.next().await, Some(Ok(Delivery::Malformed(_, 1)))));
    assert_eq!(sequence(&mut subscription).await, 0);
    assert!(matches!(subscription.next().await, Some(Err(Error::Broken { .. }))));
    assert!(subscription.next().await.is_none());
}

#[tokio::test]
async fn a_place_keeps_nothing_of_subscribers_that_are_gone() {
    let place = InProc::named("kept");
    let subject = Subject::new(Scope::Namespace("n".to_owned()), "t").unwrap();
    let group = Listen { group: Some("g".to_owned()), ..Listen::default() };
    let subscriptions =
        [place.subscribe(&subject, Listen::default()).await.unwrap(), place.subscribe(&subject, group).await.unwrap()];
    let same = InProc::named("kept");
    assert!(Arc::ptr_eq(&same.topics, &place.topics));
    assert_eq!(place.topics.read().unwrap().len(), 1);
    drop(subscriptions);
    assert!(place.topics.read().unwrap().is_empty());
    drop((same, place));
    assert!(InProc::named("kept").topics.read().unwrap().is_empty());
}
