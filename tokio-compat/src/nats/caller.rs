//! The caller's end: requests of the cores become messages, and the replies their answers.

use std::io;
use std::sync::Arc;

use async_nats::connection::State;
use async_nats::header::{HeaderMap, HeaderValue};
use async_nats::{Client, Event, Request as Message, RequestErrorKind};
use ringplane_core::caller::leg::{Answer, Request, Way};
use ringplane_core::protocol::CloseReason;
use ringplane_core::wire::headers;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::carrier::{Carrier, Report, send_time};
use crate::nats::config::Config;
use crate::nats::connect::{Error, options, tell};

/// Brings requests to the workers behind a NATS server, from a thread of its own. It connects with the first one.
#[derive(Debug)]
pub struct CallerLeg(Carrier);

impl CallerLeg {
    /// Starts the thread. `report` is told what came of each request.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(config: Config, report: Report) -> io::Result<Self> {
        let in_hand = config.in_hand;
        let begin = move || {
            let broker = Arc::new(Broker::new(config));
            move |request| bring(Arc::clone(&broker), request)
        };
        Carrier::start("ringplane-nats-calls", in_hand, report, begin).map(Self)
    }

    /// Hands over a request of the core of that number.
    ///
    /// # Errors
    /// [`Answer::Full`] if there is no room.
    pub fn send(&self, core: usize, request: Request) -> Result<(), Answer> {
        self.0.send(core, request)
    }
}

/// A connection that comes back by itself.
struct Broker {
    config: Config,
    client: OnceCell<Client>,
    /// How often it has come up, and how often it was lost.
    ups: watch::Sender<u64>,
    losses: watch::Sender<u64>,
}

impl Broker {
    fn new(config: Config) -> Self {
        Self { config, client: OnceCell::new(), ups: watch::Sender::new(0), losses: watch::Sender::new(0) }
    }

    /// The connection, once it is up: waited for as long as a first one may take, or a lost one to come back.
    async fn client(&self) -> Option<&Client> {
        let mut ups = self.ups.subscribe();
        let bound = if *ups.borrow() == 0 { self.config.connect } else { self.config.outage };
        let until = Instant::now() + bound;
        let made = timeout_at(until, self.client.get_or_try_init(|| self.connect())).await.ok()?;
        let client = made.inspect_err(|error| tracing::warn!(%error, "requests cannot go by NATS")).ok()?;
        while client.connection_state() != State::Connected {
            timeout_at(until, ups.changed()).await.ok()?.ok()?;
        }
        Some(client)
    }

    async fn connect(&self) -> Result<Client, Error> {
        let (ups, losses) = (self.ups.clone(), self.losses.clone());
        let options = options(&self.config)?.retry_on_initial_connect().event_callback(move |event| {
            match event {
                Event::Connected => ups.send_modify(|count| *count += 1),
                Event::Disconnected => losses.send_modify(|count| *count += 1),
                _ => {}
            }
            async move { tell(&event) }
        });
        let connected = options.connect(self.config.servers.as_slice()).await;
        connected.map_err(|error| Error::Connect(error.to_string()))
    }
}

async fn bring(broker: Arc<Broker>, request: Request) -> Answer {
    let Request { way: Way::Nats { subject, .. }, headers, head, body, timeout: bound, .. } = request else {
        return Answer::Unreachable(CloseReason::NoResponders);
    };
    let Some(client) = broker.client().await else { return Answer::Unreachable(CloseReason::NoBroker) };
    let mut losses = broker.losses.subscribe();
    let map = header_map(&headers);
    let besides = head.len() + map.iter().map(|(name, values)| line(name.as_ref(), values)).sum::<usize>() + FRAME;
    let message = Message::new().headers(map).payload([head, body].concat().into()).timeout(None);
    let answered = async {
        match client.send_request(subject, message).await {
            Ok(reply) => Answer::Ack(reply.payload),
            Err(error) => match error.kind() {
                RequestErrorKind::NoResponders | RequestErrorKind::InvalidSubject => {
                    Answer::Unreachable(CloseReason::NoResponders)
                }
                RequestErrorKind::MaxPayloadExceeded => {
                    Answer::TooLarge(client.max_payload().saturating_sub(besides) as u64)
                }
                RequestErrorKind::TimedOut => Answer::TimedOut,
                RequestErrorKind::Other => Answer::Lost(CloseReason::NoBroker),
            },
        }
    };
    tokio::select! {
        answer = timeout(bound, answered) => answer.unwrap_or(Answer::TimedOut),
        // The reply would have gone to the connection that is no more.
        _ = losses.changed() => Answer::Lost(CloseReason::NoBroker),
    }
}

/// What the headers of a message take besides their lines: `NATS/1.0` and two line breaks.
const FRAME: usize = 12;

/// A header's line: name, colon, blank, value, line break.
fn line(name: &str, values: &[HeaderValue]) -> usize {
    values.iter().map(|value| name.len() + value.as_str().len() + 4).sum()
}

/// The headers of a message. A value with a line break, which NATS cannot carry, stays behind.
fn header_map(fields: &[(&'static str, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        if let Ok(value) = value.parse::<HeaderValue>() {
            map.insert(*name, value);
        }
    }
    map.insert(headers::SEND_TIME, send_time());
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_carry_the_time_of_sending_and_no_line_break() {
        let fields = [("request-id", "1".to_owned()), ("tracestate", "a=b\r\nx: y".to_owned())];
        let map = header_map(&fields);
        assert_eq!(map.get("request-id").map(HeaderValue::as_str), Some("1"));
        assert!(map.get("tracestate").is_none());
        let sent: u128 = map.get(headers::SEND_TIME).unwrap().as_str().parse().unwrap();
        assert!(sent > 1_700_000_000_000_000_000);
    }
}
