//! The caller's end: requests of the cores become messages, and the replies their answers.

use std::io;
use std::sync::Arc;

use async_nats::connection::State;
use async_nats::header::{HeaderMap, HeaderValue};
use async_nats::{Client, Event, Request as Message, RequestErrorKind};
use ringplane_core::caller::dynamo::carrier::{Answer, Request};
use ringplane_core::caller::target::Transport;
use ringplane_core::chain::Chain;
use ringplane_core::wire::dynamo::headers;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::nats::connect::{Events, options};
use crate::nats::error::Error;
use crate::request::carrier::{Carrier, Report, send_time};
use crate::request::nats::config::Config;
use crate::seldom::Seldom;

/// What brings requests to the workers behind a NATS server. It connects with the first one; `report` is told what came of
/// each.
///
/// # Errors
/// If there is no thread to be had.
pub fn carrier(config: Config, report: Report) -> io::Result<Carrier> {
    let in_hand = config.in_hand;
    let begin = move || {
        let broker = Arc::new(Broker::new(config));
        move |request| bring(Arc::clone(&broker), request)
    };
    Carrier::start("ringplane-nats-calls", in_hand, report, begin)
}

/// A connection that comes back by itself.
struct Broker {
    config: Config,
    client: OnceCell<Client>,
    events: Arc<Events>,
    refusals: Seldom,
    /// Until when requests wait for the first connection: since the first of them.
    first: std::sync::OnceLock<Instant>,
    /// How often it has come up, and how often it was lost.
    ups: watch::Sender<u64>,
    losses: watch::Sender<u64>,
}

impl Broker {
    fn new(config: Config) -> Self {
        let (ups, losses) = (watch::Sender::new(0), watch::Sender::new(0));
        let (client, events) = (OnceCell::new(), Arc::default());
        Self { config, client, events, refusals: Seldom::new(), first: std::sync::OnceLock::new(), ups, losses }
    }

    /// The connection, once it is up. A first one is waited for as long as it may take, once and not by every request anew;
    /// a lost one as long as it may take to come back.
    async fn client(&self) -> Option<&Client> {
        let mut ups = self.ups.subscribe();
        let now = Instant::now();
        let first = *self.first.get_or_init(|| now + self.config.server.connect);
        let until = if *ups.borrow() == 0 { first } else { now + self.config.outage };
        let made = timeout_at(until, self.client.get_or_try_init(|| self.connect())).await.ok()?;
        let refused = |error: &Error| {
            if let Some(times) = self.refusals.due(std::time::Instant::now()) {
                tracing::warn!(times, error = %Chain(error), "requests cannot go by NATS");
            }
        };
        let client = made.inspect_err(refused).ok()?;
        while client.connection_state() != State::Connected {
            timeout_at(until, ups.changed()).await.ok()?.ok()?;
        }
        Some(client)
    }

    async fn connect(&self) -> Result<Client, Error> {
        let (ups, losses) = (self.ups.clone(), self.losses.clone());
        let (options, servers) = options(&self.config.server, &self.events)?;
        let events = Arc::clone(&self.events);
        let options = self.config.tune(options).retry_on_initial_connect().event_callback(move |event| {
            match event {
                Event::Connected => ups.send_modify(|count| *count += 1),
                Event::Disconnected => losses.send_modify(|count| *count += 1),
                _ => {}
            }
            events.tell(&event);
            std::future::ready(())
        });
        let connected = options.connect(servers.as_slice()).await;
        connected.map_err(|error| Error::Connect(error.to_string()))
    }
}

async fn bring(broker: Arc<Broker>, request: Request) -> Answer {
    let Request { transport: Transport::Nats { subject, .. }, headers, head, body, timeout: bound, .. } = request
    else {
        return Answer::NoResponders;
    };
    let Some(client) = broker.client().await else { return Answer::NoBroker { sent: false } };
    let mut losses = broker.losses.subscribe();
    let map = header_map(&headers);
    let besides = head.len() + map.iter().map(|(name, values)| line(name.as_ref(), values)).sum::<usize>() + FRAME;
    let message = Message::new().headers(map).payload([head, body].concat().into()).timeout(None);
    let answered = async {
        match client.send_request(subject, message).await {
            Ok(reply) => Answer::Ack(reply.payload),
            Err(error) => match error.kind() {
                RequestErrorKind::NoResponders | RequestErrorKind::InvalidSubject => Answer::NoResponders,
                RequestErrorKind::MaxPayloadExceeded => {
                    Answer::TooLarge(client.max_payload().saturating_sub(besides) as u64)
                }
                RequestErrorKind::TimedOut => Answer::TimedOut,
                RequestErrorKind::Other => Answer::NoBroker { sent: true },
            },
        }
    };
    tokio::select! {
        answer = timeout(bound, answered) => answer.unwrap_or(Answer::TimedOut),
        // The reply would have gone to the connection that is no more.
        _ = losses.changed() => Answer::NoBroker { sent: true },
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
    use crate::nats::config::Config as Server;

    #[tokio::test]
    async fn a_server_that_never_was_there_is_waited_for_once() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let servers = vec![format!("nats://{}", nobody.local_addr().unwrap())];
        drop(nobody);
        let connect = std::time::Duration::from_millis(300);
        let server = Server { servers, connect, ..Server::default() };
        let broker = Broker::new(server.into());
        let begun = Instant::now();
        assert!(broker.client().await.is_none());
        let first = begun.elapsed();
        assert!(first >= connect, "{first:?}");
        // All the others together take less than the first did.
        let begun = Instant::now();
        for _ in 0..20 {
            assert!(broker.client().await.is_none());
        }
        assert!(begun.elapsed() < 20 * connect / 2, "{:?}", begun.elapsed());
    }

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
