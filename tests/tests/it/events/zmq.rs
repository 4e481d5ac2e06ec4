//! ZeroMQ among the transports: directly, and through a broker.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringplane_core::discovery::{EventChannel, EventTransport, PublisherId};
use ringplane_core::event::{Message, Subject};
use ringplane_tokio::discovery::{Backend, BoxFuture, Registration, open};
use ringplane_tokio::event::zmq::{Broker, BrokerConfig, Brokers, Config, Endpoint, Way, Zmq, ZmqConfig};
use ringplane_tokio::event::{Error, Kind, Listen, Subscription, Transport};
use tokio::time::timeout;

/// The longest that a subscriber may take to reach a publisher.
const SOON: Duration = Duration::from_secs(30);

/// A transport that registers publishers, as `EventPublisher` does, and lets them speak once they are heard.
#[derive(Debug)]
pub(super) struct Heard {
    zmq: Zmq,
    backend: Arc<dyn Backend>,
    records: Mutex<HashMap<PublisherId, Option<Registration<EventChannel>>>>,
    /// Subjects that somebody listens to.
    wanted: Mutex<HashSet<String>>,
    _broker: Option<Broker>,
}

impl Transport for Heard {
    fn kind(&self) -> Kind {
        self.zmq.kind()
    }

    fn open<'a>(
        &'a self,
        subject: &'a Subject,
        publisher: PublisherId,
    ) -> BoxFuture<'a, Result<Option<EventTransport>, Error>> {
        Box::pin(async move {
            let way = self.zmq.open(subject, publisher).await?;
            let mut record = None;
            if let Some(transport) = way.clone() {
                let (scope, topic) = (subject.scope().clone(), subject.topic().to_owned());
                record =
                    Some(self.backend.channels().register(EventChannel { scope, topic, publisher, transport }).await?);
            }
            self.records.lock().unwrap().insert(publisher, record);
            let wanted = self.wanted.lock().unwrap().contains(subject.as_str());
            let heard = async {
                while wanted && self.zmq.listeners(subject) == Some(0) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(SOON, heard).await.expect("no subscriber comes");
            Ok(way)
        })
    }

    fn close(&self, subject: &Subject, publisher: PublisherId) {
        self.records.lock().unwrap().remove(&publisher);
        self.zmq.close(subject, publisher);
    }

    fn publish<'a>(&'a self, subject: &'a Subject, message: Message) -> BoxFuture<'a, Result<(), Error>> {
        self.zmq.publish(subject, message)
    }

    fn flush<'a>(&'a self, subject: Option<&'a Subject>) -> BoxFuture<'a, Result<(), Error>> {
        self.zmq.flush(subject)
    }

    fn listeners(&self, subject: &Subject) -> Option<usize> {
        self.zmq.listeners(subject)
    }

    fn subscribe<'a>(&'a self, subject: &'a Subject, listen: Listen) -> BoxFuture<'a, Result<Subscription, Error>> {
        Box::pin(async move {
            let subscription = self.zmq.subscribe(subject, listen).await?;
            self.wanted.lock().unwrap().insert(subject.as_str().to_owned());
            Ok(subscription)
        })
    }
}

fn heard(way: Way, broker: Option<Broker>) -> Arc<dyn Transport> {
    static PLACES: AtomicUsize = AtomicUsize::new(0);
    let backend = open(&format!("mem:zmq-{}", PLACES.fetch_add(1, Ordering::Relaxed))).unwrap();
    // A flush waits for as long as a busy machine needs.
    let socket = Config { linger: Duration::from_secs(30), ..Config::default() };
    let zmq = Zmq::new(backend.clone(), ZmqConfig { way, socket, ..ZmqConfig::default() });
    Arc::new(Heard { zmq, backend, records: Mutex::default(), wanted: Mutex::default(), _broker: broker })
}

/// From each publisher to each subscriber.
pub(super) fn direct() -> Arc<dyn Transport> {
    heard(Way::Direct, None)
}

fn local() -> Endpoint {
    Endpoint { host: "127.0.0.1".into(), port: 0 }
}

async fn broker() -> Broker {
    Broker::start(BrokerConfig { xsub: local(), xpub: local(), socket: Config::default() }).await.unwrap()
}

/// Through one broker that is known.
pub(super) async fn through_a_broker() -> Arc<dyn Transport> {
    let broker = broker().await;
    let brokers = Brokers { xsub: vec![broker.xsub_addr().into()], xpub: vec![broker.xpub_addr().into()] };
    heard(Way::Brokers(brokers), Some(broker))
}

mod tests {
    use ringplane_core::discovery::Scope;
    use ringplane_core::event::{Delivery, Publisher};
    use ringplane_tokio::event::zmq::BROKER_COMPONENT;

    use super::*;

    fn backend() -> Arc<dyn Backend> {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        open(&format!("mem:zmq-own-{}", PLACES.fetch_add(1, Ordering::Relaxed))).unwrap()
    }

    fn subject() -> Subject {
        Subject::new(Scope::Namespace("n".to_owned()), "t").unwrap()
    }

    async fn sequence(subscription: &mut Subscription) -> u64 {
        match timeout(SOON, subscription.next()).await.expect("nothing comes") {
            Some(Ok(Delivery::Event(message))) => message.sequence,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn brokers_are_found_as_they_come_and_what_several_carry_is_told_once() {
        let backend = backend();
        let zmq = Zmq::new(backend.clone(), ZmqConfig { way: Way::Discovered, ..ZmqConfig::default() });
        let brokers = [broker().await, broker().await];
        let mut records = Vec::new();
        for (id, broker) in (1..).zip(&brokers) {
            let scope = Scope::Component { namespace: "n".to_owned(), component: BROKER_COMPONENT.to_owned() };
            let transport = EventTransport::ZmqBroker {
                xsub_endpoints: vec![format!("tcp://{}", broker.xsub_addr())],
                xpub_endpoints: vec![format!("tcp://{}", broker.xpub_addr())],
            };
            let record = EventChannel { scope, topic: "broker".to_owned(), publisher: PublisherId(id), transport };
            records.push(backend.channels().register(record).await.unwrap());
        }
        let (subject, mut publisher) = (subject(), Publisher::new(PublisherId(7), "t"));
        let mut subscription = zmq.subscribe(&subject, Listen::default()).await.unwrap();
        assert_eq!(
            zmq.open(&subject, publisher.id()).await.unwrap(),
            None,
            "a publisher behind brokers needs no record"
        );
        while zmq.listeners(&subject) != Some(2) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for sequence_ in 0..50 {
            zmq.publish(&subject, publisher.seal(1, b"x").unwrap()).await.unwrap();
            assert_eq!(sequence(&mut subscription).await, sequence_);
        }
        while subscription.stats().told.duplicates < 50 {
            let more = timeout(Duration::from_millis(5), subscription.next()).await;
            assert!(more.is_err(), "{more:?}");
        }
        assert_eq!(subscription.stats().told.events, 50);
        // Without any broker nothing is said to have been published.
        drop((records, brokers));
        let failed = async {
            while zmq.publish(&subject, publisher.seal(1, b"x").unwrap()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SOON, failed).await.expect("publishing into nothing is an error");
    }

    #[tokio::test]
    async fn without_a_broker_a_publisher_does_not_open() {
        let socket = Config { connect_timeout: Duration::from_millis(50), ..Config::default() };
        let config = ZmqConfig { way: Way::Discovered, socket, ..ZmqConfig::default() };
        let opened = Zmq::new(backend(), config).open(&subject(), PublisherId(1)).await;
        assert!(matches!(opened, Err(Error::Unreachable { transport: Kind::Zmq, .. })), "{opened:?}");
    }

    #[tokio::test]
    async fn a_publisher_that_changes_its_address_is_followed_and_what_was_lost_on_the_way_is_told() {
        let backend = backend();
        let zmq = || Zmq::new(backend.clone(), ZmqConfig::default());
        let (before, after, listening) = (zmq(), zmq(), zmq());
        let (subject, mut publisher) = (subject(), Publisher::new(PublisherId(7), "t"));
        let register = async |zmq: &Zmq| {
            let transport = zmq.open(&subject, PublisherId(7)).await.unwrap().unwrap();
            let (scope, topic) = (subject.scope().clone(), subject.topic().to_owned());
            let record = EventChannel { scope, topic, publisher: PublisherId(7), transport };
            backend.channels().register(record).await.unwrap()
        };
        let heard = async |zmq: &Zmq| {
            while zmq.listeners(&subject) != Some(1) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let old = register(&before).await;
        let mut subscription = listening.subscribe(&subject, Listen::default()).await.unwrap();
        timeout(SOON, heard(&before)).await.expect("the first address is not connected to");
        for sequence_ in 0..3 {
            before.publish(&subject, publisher.seal(1, b"x").unwrap()).await.unwrap();
            assert_eq!(sequence(&mut subscription).await, sequence_);
        }
        let first = old.record().transport.clone();
        old.unregister().await.unwrap();
        before.close(&subject, PublisherId(7));
        // Said while nobody could hear it.
        let lost = [(); 2].map(|()| publisher.seal(1, b"x").unwrap().sequence);
        let new = register(&after).await;
        assert_ne!(new.record().transport, first);
        timeout(SOON, heard(&after)).await.expect("the new address is not connected to");
        after.publish(&subject, publisher.seal(1, b"x").unwrap()).await.unwrap();
        match timeout(SOON, subscription.next()).await.expect("nothing comes") {
            Some(Ok(Delivery::Gap(gap))) => assert_eq!([gap.first, gap.last], lost),
            other => panic!("{other:?}"),
        }
        assert_eq!(sequence(&mut subscription).await, 5);
    }
}
