//! What every transport of events has to do.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use ringplane_core::discovery::{PublisherId, Scope};
use ringplane_core::event::inbox::{Config, Slow};
use ringplane_core::event::replay::{self, Ring};
use ringplane_core::event::{Delivery, Message, Publisher, Subject};
use ringplane_core::id::EndpointId;
use ringplane_core::wire::TraceContext;
use ringplane_tokio::event::{Error, Kept, Kind, Listen, Subscription};
use tokio::time::timeout;

use super::transports::{Ends, each_transport};

/// The most that anything here may take.
const SOON: Duration = Duration::from_secs(30);

/// A publisher of a topic on its way.
struct Speaker<'a> {
    ends: &'a Ends,
    subject: Subject,
    publisher: Publisher,
}

impl<'a> Speaker<'a> {
    async fn new(ends: &'a Ends, subject: &Subject, id: u64) -> Self {
        let publisher = Publisher::new(PublisherId(id), subject.topic());
        ends.publishing.open(subject, publisher.id()).await.unwrap();
        Self { ends, subject: subject.clone(), publisher }
    }

    /// Keeps what it says from now on.
    async fn keep(&self, config: replay::Config) -> Result<Kept, Error> {
        let kept = Kept::new(Mutex::new(Ring::new(config)));
        self.ends.publishing.keep(&self.subject, self.publisher.id(), kept.clone()).await?;
        Ok(kept)
    }

    async fn say(&mut self, count: u64) {
        for _ in 0..count {
            let payload = self.publisher.next().to_be_bytes();
            let message = self.publisher.seal(1_000, &payload).unwrap();
            self.send(message).await;
        }
        self.ends.publishing.flush(Some(&self.subject)).await.unwrap();
    }

    async fn send(&self, message: Message) {
        let sent = self.ends.publishing.publish(&self.subject, message);
        timeout(SOON, sent).await.expect("it is not waited for").unwrap();
    }
}

impl Drop for Speaker<'_> {
    fn drop(&mut self) {
        self.ends.publishing.close(&self.subject, self.publisher.id());
    }
}

fn subject(topic: &str) -> Subject {
    Subject::new(Scope::Endpoint(EndpointId::new("suite", "component", "endpoint")), topic).unwrap()
}

async fn subscribed(ends: &Ends, subject: &Subject, listen: Listen) -> Subscription {
    timeout(SOON, ends.listening.subscribe(subject, listen)).await.expect("it takes too long").unwrap()
}

async fn next(subscription: &mut Subscription) -> Delivery {
    timeout(SOON, subscription.next()).await.expect("nothing comes").expect("it is over").unwrap()
}

async fn next_event(subscription: &mut Subscription) -> Message {
    match next(subscription).await {
        Delivery::Event(message) => message,
        other => panic!("{other:?}"),
    }
}

/// Waits until so many events have come to the subscription, taken or not.
async fn received(subscription: &Subscription, count: u64) {
    let come = async {
        while subscription.stats().queued.received < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, come).await.expect("they do not come");
}

fn slow(slow: Slow, max_events: usize) -> Listen {
    Listen { inbox: Config { max_events, slow, ..Config::default() }, ..Listen::default() }
}

#[tokio::test]
async fn events_arrive_in_the_order_of_their_publisher_and_say_what_was_said() {
    each_transport(async |ends: Ends| {
        let subject = subject("order");
        let mut subscription = subscribed(&ends, &subject, Listen::default()).await;
        let mut speakers = [Speaker::new(&ends, &subject, 1).await, Speaker::new(&ends, &subject, 2).await];
        for count in [1, 7, 30] {
            for speaker in &mut speakers {
                speaker.say(count).await;
            }
        }
        let mut next_of: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..2 * 38 {
            let message = next_event(&mut subscription).await;
            let expected = next_of.entry(message.publisher.0).or_default();
            assert_eq!((message.sequence, message.published_at), (*expected, 1_000), "{}", ends.listening.kind());
            assert_eq!(message.payload, &expected.to_be_bytes()[..]);
            *expected += 1;
        }
        assert_eq!(next_of, [(1, 38), (2, 38)].into());
        // One of a trace brings it along, and the next one has none.
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let trace = TraceContext::read(Some(parent), Some("rojo=1,, congo=t61 rcWkgMzE"), Some("order 66"));
        let message = speakers[0].publisher.seal_with(1_000, b"traced", &trace).unwrap();
        speakers[0].send(message).await;
        speakers[0].say(1).await;
        let [traced, next] = [next_event(&mut subscription).await, next_event(&mut subscription).await];
        assert_eq!((&traced.payload[..], traced.trace()), (&b"traced"[..], trace), "{}", ends.listening.kind());
        assert_eq!((traced.sequence, next.sequence, next.trace().is_empty()), (38, 39, true));
    })
    .await;
}

#[tokio::test]
async fn another_topic_and_another_scope_are_not_heard() {
    each_transport(async |ends: Ends| {
        let wanted = subject("topic");
        let mut subscription = subscribed(&ends, &wanted, Listen::default()).await;
        let component = Scope::Component { namespace: "suite".to_owned(), component: "component".to_owned() };
        let others = [subject("topic2"), subject("topi"), subject("*"), Subject::new(component, "topic").unwrap()];
        for (id, other) in others.iter().enumerate() {
            Speaker::new(&ends, other, 10 + id as u64).await.say(3).await;
        }
        Speaker::new(&ends, &wanted, 1).await.say(1).await;
        assert_eq!(next_event(&mut subscription).await.publisher, PublisherId(1));
        assert_eq!(subscription.publishers(), [PublisherId(1)]);
    })
    .await;
}

#[tokio::test]
async fn each_subscriber_hears_all_and_of_a_group_one_member_each() {
    each_transport(async |ends: Ends| {
        let subject = subject("group");
        let group = || Listen { group: Some("g".to_owned()), ..Listen::default() };
        let mut alone = subscribed(&ends, &subject, Listen::default()).await;
        let members =
            [ends.listening.subscribe(&subject, group()).await, ends.listening.subscribe(&subject, group()).await];
        let mut speaker = Speaker::new(&ends, &subject, 1).await;
        speaker.say(100).await;
        for sequence in 0..100 {
            assert_eq!(next_event(&mut alone).await.sequence, sequence);
        }
        let [Ok(mut one), Ok(mut other)] = members else {
            let refused = |member: &Result<Subscription, Error>| matches!(member, Err(Error::Unsupported { .. }));
            assert!(members.iter().all(refused), "{members:?}");
            return;
        };
        // Which member gets which is the transport's business.
        let mut heard = Vec::new();
        while heard.len() < 100 {
            let message = tokio::select! {
                message = next_event(&mut one) => message,
                message = next_event(&mut other) => message,
            };
            heard.push(message.sequence);
        }
        heard.sort_unstable();
        assert_eq!(heard, (0..100).collect::<Vec<_>>());
        assert_eq!((one.stats().told.gaps, other.stats().told.gaps), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_slow_subscriber_loses_what_its_policy_says_and_is_told_of_each() {
    each_transport(async |ends: Ends| {
        for (policy, kept) in [(Slow::DropOldest, 990..1000), (Slow::DropNewest, 0..10)] {
            let subject = subject("slow");
            let mut subscription = subscribed(&ends, &subject, slow(policy, 10)).await;
            let mut speaker = Speaker::new(&ends, &subject, 1).await;
            speaker.say(1000).await;
            received(&subscription, 1000).await;
            assert!(subscription.waiting().0 <= 10);
            let (mut events, mut told) = (Vec::new(), 0);
            while told < 1000 {
                match next(&mut subscription).await {
                    Delivery::Event(message) => {
                        assert_eq!(message.sequence, told, "{policy:?}");
                        events.push(message.sequence);
                        told += 1;
                    }
                    Delivery::Gap(gap) => {
                        assert_eq!(gap.first, told, "{policy:?}");
                        told = gap.last + 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(events, kept.collect::<Vec<_>>(), "{policy:?} by {}", ends.listening.kind());
            let stats = subscription.stats();
            assert_eq!((stats.queued.dropped, stats.told.missing, stats.queued.untold), (990, 990, 0));
        }
    })
    .await;
}

#[tokio::test]
async fn what_got_lost_on_its_way_comes_again_in_its_place_as_far_as_it_is_kept() {
    each_transport(async |ends: Ends| {
        let subject = subject("again");
        let listen = Listen { replay: Some(SOON), ..Listen::default() };
        let mut subscription = subscribed(&ends, &subject, listen).await;
        let mut speaker = Speaker::new(&ends, &subject, 1).await;
        let kept = match speaker.keep(replay::Config { max_events: 4, ..replay::Config::default() }).await {
            Err(Error::Unsupported { .. }) => return assert_eq!(ends.listening.kind(), Kind::Zmq),
            kept => kept.unwrap(),
        };
        if ends.listening.kind() == Kind::InProc {
            // Nothing gets lost there.
            return;
        }
        // Three of 0 to 9 arrive. The publisher keeps the last four that there are when it is asked.
        let messages: Vec<_> = (0..10_u64).map(|n| speaker.publisher.seal(n, &n.to_be_bytes()).unwrap()).collect();
        for (arrives, message) in (0..).zip(&messages) {
            kept.lock().unwrap().push(message.clone());
            if [0, 2, 9].contains(&arrives) {
                speaker.send(message.clone()).await;
                received(&subscription, 1).await;
            }
            if arrives == 2 {
                for expected in &messages[..3] {
                    assert_eq!(next_event(&mut subscription).await, *expected);
                }
            }
        }
        assert!(matches!(next(&mut subscription).await, Delivery::Gap(gap) if (gap.first, gap.last) == (3, 5)));
        for expected in &messages[6..] {
            assert_eq!(next_event(&mut subscription).await, *expected);
        }
        let told = subscription.stats().told;
        assert_eq!((told.events, told.replayed, told.gaps, told.missing), (7, 4, 1, 3));
        // One that nobody keeps anything of.
        let mut other = Speaker::new(&ends, &subject, 2).await;
        other.say(1).await;
        other.publisher.seal(1_000, b"").unwrap();
        other.say(1).await;
        assert_eq!(next_event(&mut subscription).await.sequence, 0);
        assert!(matches!(next(&mut subscription).await, Delivery::Gap(gap) if gap.first == 1 && gap.missing == 1));
        assert_eq!(next_event(&mut subscription).await.sequence, 2);
    })
    .await;
}

#[tokio::test]
async fn a_burst_for_a_subscriber_that_is_slower_is_heard_or_told_to_the_last_event() {
    const BURST: u64 = 100_000;
    const MOST: usize = 500;
    each_transport(async |ends: Ends| {
        let subject = subject("burst");
        let mut subscription = subscribed(&ends, &subject, slow(Slow::DropOldest, MOST)).await;
        let mut speaker = Speaker::new(&ends, &subject, 1).await;
        let burst = async {
            speaker.say(BURST).await;
            // The end of a burst shows by what comes after it.
            loop {
                speaker.say(1).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let hear = async {
            let (mut told, mut heard, mut is_event) = (0, 0_u64, false);
            // The event behind a gap is counted with it.
            while told < BURST || !is_event {
                assert!(subscription.waiting().0 <= MOST);
                let delivery = next(&mut subscription).await;
                is_event = matches!(delivery, Delivery::Event(_));
                match delivery {
                    Delivery::Event(message) => {
                        assert_eq!(message.sequence, told, "by {}", ends.listening.kind());
                        (told, heard) = (told + 1, heard + 1);
                    }
                    Delivery::Gap(gap) => {
                        assert_eq!(gap.first, told, "by {}", ends.listening.kind());
                        told = gap.last + 1;
                    }
                    other => panic!("{other:?}"),
                }
                // Others have a turn for each event that is taken.
                if heard % 10 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            (told, heard)
        };
        let (told, heard) = tokio::select! {
            () = burst => panic!("it does not end"),
            told = hear => told,
        };
        let stats = subscription.stats().told;
        println!("by {}: {heard} of {told} heard, {} told as missing", ends.listening.kind(), stats.missing);
        assert_eq!((stats.events, stats.events + stats.missing), (heard, told));
    })
    .await;
}

#[tokio::test]
async fn a_subscriber_that_is_waited_for_loses_nothing() {
    each_transport(async |ends: Ends| {
        let subject = subject("wait");
        let subscription = ends.listening.subscribe(&subject, slow(Slow::Wait, 4)).await;
        let mut subscription = match subscription {
            Err(Error::Unsupported { .. }) => {
                assert!(matches!(ends.listening.kind(), Kind::Nats | Kind::Zmq));
                return;
            }
            subscription => subscription.unwrap(),
        };
        let mut speaker = Speaker::new(&ends, &subject, 1).await;
        let take = async {
            for sequence in 0..500 {
                if sequence % 50 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                assert_eq!(next_event(&mut subscription).await.sequence, sequence);
            }
        };
        tokio::join!(speaker.say(500), take);
        assert_eq!(subscription.stats().told.missing, 0);
    })
    .await;
}

#[tokio::test]
async fn a_restarted_publisher_is_told_apart_from_one_that_lost_something() {
    each_transport(async |ends: Ends| {
        let subject = subject("restart");
        let mut subscription = subscribed(&ends, &subject, Listen::default()).await;
        let mut speaker = Speaker::new(&ends, &subject, 1).await;
        speaker.say(2).await;
        // One that gets lost on its way.
        speaker.publisher.seal(1_000, b"").unwrap();
        speaker.say(1).await;
        received(&subscription, 3).await;
        drop(speaker);
        let mut again = Speaker::new(&ends, &subject, 1).await;
        let message = again.publisher.seal(2_000, b"").unwrap();
        again.send(message).await;
        for expected in [Some(0), Some(1), None, Some(3)] {
            match (next(&mut subscription).await, expected) {
                (Delivery::Event(message), Some(sequence)) => assert_eq!(message.sequence, sequence),
                (Delivery::Gap(gap), None) => assert_eq!((gap.first, gap.last, gap.missing), (2, 2, 1)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(next(&mut subscription).await, Delivery::Restart(PublisherId(1)));
        assert_eq!(next_event(&mut subscription).await.published_at, 2_000);
    })
    .await;
}

#[tokio::test]
async fn what_is_no_event_is_told_and_the_next_event_arrives() {
    each_transport(async |ends: Ends| {
        if ends.listening.kind() == Kind::InProc {
            // Nothing is written and read there.
            return;
        }
        let subject = subject("malformed");
        let mut subscription = subscribed(&ends, &subject, Listen::default()).await;
        let mut speaker = Speaker::new(&ends, &subject, 1).await;
        let broken = Message { envelope: b"\xC1no event".as_slice().into(), ..speaker.publisher.seal(1, b"").unwrap() };
        speaker.send(broken).await;
        speaker.say(1).await;
        assert!(matches!(next(&mut subscription).await, Delivery::Malformed(error, 1) if error.offset == 0));
        assert_eq!(next_event(&mut subscription).await.sequence, 1);
    })
    .await;
}
