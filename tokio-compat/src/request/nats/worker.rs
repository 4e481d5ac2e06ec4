//! The worker's end: subscriptions whose messages become requests, and their acks.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_nats::{Client, HeaderMap, Subject, Subscriber};
use bytes::Bytes;
use ringplane_core::chain::Chain;
use ringplane_core::id::EndpointId;
use ringplane_core::wire::dynamo::headers::Headers;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::nats::connect::{Events, Mark, SUBSCRIBE, connect, next, settle};
use crate::nats::error::Error as Broken;
use crate::request::error::Error;
use crate::request::intake::{Ack, Answer, Left, Request, Running, twice};
use crate::request::nats::config::Config;
use crate::request::room::Room;
use crate::service::replica::{self, Service, service_name};
use crate::service::tally::Tally;

/// The queue group of Dynamo's workers: of several subscribers of one instance one gets a request.
const QUEUE: &str = "q";

/// An endpoint whose requests come by NATS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listening {
    /// What it is.
    pub endpoint: EndpointId,
    /// Where its requests come. The last one is told to those that ask for services.
    pub subjects: Vec<String>,
}

/// Where the ack of one message goes, the room that is kept for it, and who counts it.
#[derive(Debug)]
pub struct Reply {
    to: Subject,
    permit: mpsc::OwnedPermit<(Subject, Bytes)>,
    came: Instant,
    tally: Tally,
}

impl Ack for Reply {
    fn send(self, text: &str) {
        self.tally.count(self.came.elapsed(), Some(text).filter(|text| !text.is_empty()));
        self.permit.send((self.to, Bytes::copy_from_slice(text.as_bytes())));
    }
}

/// Connects and subscribes each endpoint to all its subjects; `take` gets every request from then on, and must not block.
/// When it returns, the server knows the subscriptions. Leaving is bounded by [`Config::farewell`]. Each component is a
/// [service](crate::service) meanwhile, unless [`Config::services`] says otherwise.
///
/// # Errors
/// [`Error::Ambiguous`] for one subject of two endpoints, [`Error::Broker`] with a [`crate::nats::Error`],
/// [`Error::Thread`].
pub async fn intake(
    config: Config,
    endpoints: Vec<Listening>,
    take: impl Fn(Request<Reply>) + Send + Sync + 'static,
) -> Result<Running, Error> {
    unambiguous(&endpoints)?;
    let take = Arc::new(take);
    Running::start("ringplane-nats", async move |left| {
        let broken = |error| Error::Broker(Box::new(error));
        let (client, subscribers) = subscribe(&config, &endpoints).await.map_err(broken)?;
        let services = announce(&config, &client, &endpoints).await;
        Ok(serve(config, client, subscribers, services, take, left))
    })
    .await
}

/// Of two subscriptions to one subject in one queue group either would get a request.
fn unambiguous(endpoints: &[Listening]) -> Result<(), Error> {
    match twice(endpoints.iter().flat_map(|endpoint| &endpoint.subjects).map(String::as_str)) {
        Some(subject) => {
            let why = "names may not differ in case or in where `_` is, which NATS subjects do not tell";
            Err(Error::Ambiguous { name: subject.to_owned(), why })
        }
        None => Ok(()),
    }
}

async fn serve(
    config: Config,
    client: Client,
    subscribers: Vec<(usize, Subscriber)>,
    services: Services,
    take: Arc<dyn Fn(Request<Reply>) + Send + Sync>,
    mut left: Left,
) {
    let (acks, outbox) = mpsc::channel(config.in_hand);
    let shared = Shared { take, acks, room: Room::new(config.in_hand_bytes) };
    let mut readers = JoinSet::new();
    for (endpoint, subscriber) in subscribers {
        let tally = services.tallies.get(endpoint).cloned().unwrap_or_default();
        readers.spawn(read(endpoint, subscriber, tally, shared.clone(), left.clone()));
    }
    drop(shared);
    let writer = tokio::spawn(write(client.clone(), outbox));
    if left.wait_for(|left| *left).await.is_err() {
        return;
    }
    // A worker that leaves is no replica any more.
    drop(services);
    let farewell = async {
        while readers.join_next().await.is_some() {}
        let _ = writer.await;
        let _ = client.flush().await;
    };
    if timeout(config.farewell, farewell).await.is_err() {
        tracing::warn!("requests by NATS were left without an ack");
    }
}

async fn subscribe(config: &Config, endpoints: &[Listening]) -> Result<(Client, Vec<(usize, Subscriber)>), Broken> {
    let events = Arc::new(Events::default());
    let client = connect(&config.server, &events, |options| config.tune(options)).await?;
    let refused = |error: &dyn fmt::Display| Broken::Subscribe(error.to_string());
    let mut subscribers = Vec::new();
    for (endpoint, Listening { subjects, .. }) in endpoints.iter().enumerate() {
        for subject in subjects {
            let subscribed = client.queue_subscribe(subject.clone(), QUEUE.to_owned()).await;
            subscribers.push((endpoint, subscribed.map_err(|error| refused(&error))?));
        }
    }
    settle(&client, &events).await?;
    events.denied(Mark::default(), SUBSCRIBE, None)?;
    Ok((client, subscribers))
}

/// The services of a worker, and what counts for each of its endpoints.
#[derive(Default)]
struct Services {
    tallies: Vec<Tally>,
    all: Vec<Service>,
}

/// Makes a service of each component. A worker without them serves as well: what is wrong with them is told in the log.
async fn announce(config: &Config, client: &Client, endpoints: &[Listening]) -> Services {
    let mut services = Services { tallies: vec![Tally::default(); endpoints.len()], all: Vec::new() };
    let mut components: Vec<(&str, &str)> = Vec::new();
    for Listening { endpoint: EndpointId { namespace, component, .. }, .. } in endpoints {
        if config.services && !components.contains(&(namespace, component)) {
            components.push((namespace, component));
        }
    }
    for (namespace, component) in components {
        let of = |listening: &Listening| {
            listening.endpoint.namespace == namespace && listening.endpoint.component == component
        };
        let own: Vec<usize> = (0..endpoints.len()).filter(|at| endpoints.get(*at).is_some_and(of)).collect();
        let endpoint = |at: &usize| {
            let subject =
                endpoints.get(*at).and_then(|listening| listening.subjects.last()).cloned().unwrap_or_default();
            let (name, queue_group) = (subject.replace('.', "-"), QUEUE.to_owned());
            replica::Endpoint { name, subject, queue_group, ..Default::default() }
        };
        let described = replica::Config {
            name: service_name(namespace, component),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: format!("Component {component} in namespace {namespace}"),
            endpoints: own.iter().map(endpoint).collect(),
            ..Default::default()
        };
        match replica::serve(client, described).await {
            Ok(service) => {
                for (at, endpoint) in own.into_iter().enumerate() {
                    if let (Some(place), Some(tally)) = (services.tallies.get_mut(endpoint), service.tally(at)) {
                        *place = tally;
                    }
                }
                services.all.push(service);
            }
            Err(error) => tracing::debug!(error = %Chain(&error), "a component that is no service"),
        }
    }
    services
}

/// What the readers of all subscriptions share.
#[derive(Clone)]
struct Shared {
    take: Arc<dyn Fn(Request<Reply>) + Send + Sync>,
    acks: mpsc::Sender<(Subject, Bytes)>,
    room: Room,
}

/// Hands over the messages of one subscription. Room for its ack and its bytes is reserved before a request goes on. A
/// message that wants no reply is no request.
async fn read(endpoint: usize, mut subscriber: Subscriber, tally: Tally, shared: Shared, mut left: Left) {
    let mut leaving = false;
    loop {
        let message = tokio::select! {
            message = next(&mut subscriber) => message,
            _ = left.changed(), if !leaving => {
                leaving = true;
                if subscriber.drain().await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Some(message) = message else { return };
        let Some(to) = message.reply else { continue };
        let came = Instant::now();
        let Ok(permit) = shared.acks.clone().reserve_owned().await else { return };
        let Some(share) = shared.room.reserve(message.payload.len()).await else { return };
        let (headers, payload) = (headers(message.headers.as_ref()), message.payload);
        let answer = Answer::new(Reply { to, permit, came, tally: tally.clone() });
        (shared.take)(Request { endpoint, headers, payload, peer: None, answer, share });
    }
}

async fn write(client: Client, mut outbox: mpsc::Receiver<(Subject, Bytes)>) {
    while let Some((subject, text)) = outbox.recv().await {
        if let Err(error) = client.publish(subject, text).await {
            tracing::debug!(%error, "an ack could not be sent");
        }
    }
}

/// The headers of a message as a request frame has them: nothing if they are too long for one.
fn headers(map: Option<&HeaderMap>) -> Vec<u8> {
    let mut headers = Headers::new();
    for (name, values) in map.into_iter().flat_map(HeaderMap::iter) {
        if let Some(value) = values.last() {
            headers.push(AsRef::<str>::as_ref(name).to_owned(), value.as_str().to_owned());
        }
    }
    headers.write().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_message_are_those_of_a_frame() {
        assert_eq!(headers(None), b"{}");
        let mut map = HeaderMap::new();
        map.insert("request-id", "an \"id\"");
        assert_eq!(headers(Some(&map)), br#"{"request-id":"an \"id\""}"#);
        map.insert("long", "x".repeat(70_000).as_str());
        assert_eq!(headers(Some(&map)), b"");
    }

    #[test]
    fn two_endpoints_of_one_subject_are_refused() {
        let subjects = |all: &[&[&str]]| -> Vec<Listening> {
            let endpoint = EndpointId::new("n", "c", "e");
            let of = |both: &&[&str]| Listening {
                endpoint: endpoint.clone(),
                subjects: both.iter().map(|subject| (*subject).to_owned()).collect(),
            };
            all.iter().map(of).collect()
        };
        assert!(unambiguous(&subjects(&[&["MyNs_c.e-1", "myns_c.e-1"], &["b"]])).is_ok());
        let refused = unambiguous(&subjects(&[&["MyNs_c.e-1", "myns_c.e-1"], &["myns_c.e-1"]]));
        assert!(matches!(refused, Err(Error::Ambiguous { name, .. }) if name == "myns_c.e-1"));
    }
}
