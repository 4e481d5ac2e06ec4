//! The worker's end: subscriptions whose messages become requests, and their acks.

use std::collections::BTreeSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_core::Stream;
use ringplane_core::wire::ack::OVERLOADED;
use ringplane_core::wire::headers::Headers;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::nats::config::Config;
use crate::nats::connect::{Error, Events, connect};

/// The queue group of Dynamo's workers: of several subscribers of one instance one gets a request.
const QUEUE: &str = "q";
/// How long a server may take to say that it knows our subscriptions.
const SETTLE: Duration = Duration::from_secs(10);

/// How often other tasks get their turn before the subscriptions count as allowed: one each would do.
const TURNS: usize = 8;

/// One request.
#[derive(Debug)]
pub struct Request {
    /// Which of the endpoints given to [`WorkerLeg::start`] it is for, from 0.
    pub endpoint: usize,
    /// Its headers as a request frame has them: JSON.
    pub headers: Vec<u8>,
    /// One two-part frame.
    pub payload: Bytes,
    /// Where the ack goes.
    pub answer: Answer,
    /// Its share of [`Config::in_hand_bytes`], until it is dropped.
    pub room: OwnedSemaphorePermit,
}

/// A request's right to one ack. Dropped without one it tells the caller that this worker has no room.
pub struct Answer {
    reply: Option<(Subject, mpsc::OwnedPermit<Ack>)>,
}

/// Where to, and what.
type Ack = (Subject, Bytes);

impl Answer {
    /// Sends the ack; an empty text accepts.
    pub fn send(mut self, text: &str) {
        self.put(Bytes::copy_from_slice(text.as_bytes()));
    }

    fn put(&mut self, text: Bytes) {
        if let Some((subject, permit)) = self.reply.take() {
            permit.send((subject, text));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.put(Bytes::from_static(OVERLOADED.as_bytes()));
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("to", &self.reply.as_ref().map(|(subject, _)| subject)).finish()
    }
}

/// The subscriptions of a worker's endpoints, on a thread of their own. Dropping it ends them at once.
#[derive(Debug)]
pub struct WorkerLeg {
    leave: watch::Sender<bool>,
    gone: oneshot::Receiver<()>,
}

impl WorkerLeg {
    /// Connects and subscribes each endpoint to all its subjects; `take` gets every request from then on, and must not
    /// block. When it returns, the server knows the subscriptions.
    ///
    /// # Errors
    /// [`Error`]; nothing runs then.
    pub async fn start(
        config: Config,
        subjects: Vec<Vec<String>>,
        take: impl Fn(Request) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        unambiguous(&subjects)?;
        let (leave, left) = watch::channel(false);
        let (ended, gone) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let run = move || {
            runtime.block_on(serve(&config, subjects, Arc::new(take), tell, left));
            let _ = ended.send(());
        };
        std::thread::Builder::new().name("ringplane-nats".to_owned()).spawn(run).map_err(Error::Thread)?;
        told.await.unwrap_or_else(|_| Err(Error::Connect("its thread has ended".to_owned())))?;
        Ok(Self { leave, gone })
    }

    /// Takes no more requests, answers those in hand, and ends; bounded by [`Config::farewell`].
    pub async fn leave(self) {
        self.leave.send_replace(true);
        let _ = self.gone.await;
    }
}

/// Of two subscriptions to one subject in one queue group either would get a request.
fn unambiguous(subjects: &[Vec<String>]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    match subjects.iter().flatten().find(|subject| !seen.insert(subject.as_str())) {
        Some(subject) => Err(Error::Ambiguous(subject.clone())),
        None => Ok(()),
    }
}

async fn serve(
    config: &Config,
    subjects: Vec<Vec<String>>,
    take: Arc<dyn Fn(Request) + Send + Sync>,
    tell: oneshot::Sender<Result<(), Error>>,
    mut left: watch::Receiver<bool>,
) {
    let started = tokio::select! {
        started = subscribe(config, subjects) => started,
        _ = left.changed() => return,
    };
    let (client, subscribers) = match started {
        Ok(started) => started,
        Err(error) => return drop(tell.send(Err(error))),
    };
    let (acks, outbox) = mpsc::channel(config.in_hand);
    let desk = Desk { take, acks, room: Arc::new(Semaphore::new(kib(config.in_hand_bytes) as usize)) };
    let most = kib(config.in_hand_bytes);
    let mut readers = JoinSet::new();
    for (endpoint, subscriber) in subscribers {
        readers.spawn(read(endpoint, subscriber, desk.clone(), most, left.clone()));
    }
    drop(desk);
    let writer = tokio::spawn(write(client.clone(), outbox));
    if tell.send(Ok(())).is_err() || left.wait_for(|left| *left).await.is_err() {
        // Nobody holds the leg any more.
        return;
    }
    let farewell = async {
        while readers.join_next().await.is_some() {}
        let _ = writer.await;
        let _ = client.flush().await;
    };
    if timeout(config.farewell, farewell).await.is_err() {
        tracing::warn!("requests by NATS were left without an ack");
    }
}

async fn subscribe(config: &Config, subjects: Vec<Vec<String>>) -> Result<(Client, Vec<(usize, Subscriber)>), Error> {
    let events = Arc::new(Events::default());
    let client = connect(config, &events).await?;
    let refused = |error: &dyn fmt::Display| Error::Subscribe(error.to_string());
    let mut subscribers = Vec::new();
    for (endpoint, subjects) in subjects.into_iter().enumerate() {
        for subject in subjects {
            let subscribed = client.queue_subscribe(subject, QUEUE.to_owned()).await;
            subscribers.push((endpoint, subscribed.map_err(|error| refused(&error))?));
        }
    }
    // The server works off what one connection sends in order: a message that comes back has overtaken nothing.
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.map_err(|error| refused(&error))?;
    client.publish(inbox, Bytes::new()).await.map_err(|error| refused(&error))?;
    let echoed = tokio::select! {
        biased;
        () = events.is_denied() => None,
        echoed = timeout(SETTLE, next(&mut echo)) => echoed.ok().flatten(),
    };
    // What the server had to say before has been handed to another task of this thread, which shall have its turn first.
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
    events.denied()?;
    echoed.map(|_| (client, subscribers)).ok_or_else(|| Error::Subscribe("the server does not answer".to_owned()))
}

/// What every subscription hands its requests to.
#[derive(Clone)]
struct Desk {
    take: Arc<dyn Fn(Request) + Send + Sync>,
    acks: mpsc::Sender<Ack>,
    /// In KiB.
    room: Arc<Semaphore>,
}

/// Bytes in whole KiB, at least one.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(1)
}

/// Hands over the messages of one subscription. Room for its ack and its bytes, `most` KiB at the most, is reserved before
/// a request goes on. A message that wants no reply is no request.
async fn read(endpoint: usize, mut subscriber: Subscriber, desk: Desk, most: u32, mut left: watch::Receiver<bool>) {
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
        let Some(subject) = message.reply else { continue };
        let Ok(permit) = desk.acks.clone().reserve_owned().await else { return };
        let bytes = kib(message.payload.len()).min(most);
        let Ok(room) = Arc::clone(&desk.room).acquire_many_owned(bytes).await else { return };
        let headers = headers(message.headers.as_ref());
        let answer = Answer { reply: Some((subject, permit)) };
        (desk.take)(Request { endpoint, headers, payload: message.payload, answer, room });
    }
}

async fn write(client: Client, mut outbox: mpsc::Receiver<Ack>) {
    while let Some((subject, text)) = outbox.recv().await {
        if let Err(error) = client.publish(subject, text).await {
            tracing::debug!(%error, "an ack could not be sent");
        }
    }
}

async fn next(subscriber: &mut Subscriber) -> Option<Message> {
    poll_fn(|cx| Pin::new(&mut *subscriber).poll_next(cx)).await
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
        let subjects = |all: &[&[&str]]| -> Vec<Vec<String>> {
            all.iter().map(|both| both.iter().map(|subject| (*subject).to_owned()).collect()).collect()
        };
        assert!(unambiguous(&subjects(&[&["MyNs_c.e-1", "myns_c.e-1"], &["b"]])).is_ok());
        let refused = unambiguous(&subjects(&[&["MyNs_c.e-1", "myns_c.e-1"], &["myns_c.e-1"]]));
        assert!(matches!(refused, Err(Error::Ambiguous(subject)) if subject == "myns_c.e-1"));
    }

    #[tokio::test]
    async fn a_request_that_nobody_answers_is_refused_and_an_ack_is_sent_once() {
        let (acks, mut outbox) = mpsc::channel(1);
        let answer = |permit| Answer { reply: Some((Subject::from_static("inbox"), permit)) };
        answer(acks.clone().reserve_owned().await.unwrap()).send("");
        assert_eq!(outbox.recv().await.unwrap().1, "");
        drop(answer(acks.clone().reserve_owned().await.unwrap()));
        assert_eq!(outbox.recv().await.unwrap().1, OVERLOADED);
        drop(acks);
        assert_eq!(outbox.recv().await, None);
    }
}
