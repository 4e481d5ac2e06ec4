//! A connection to a NATS server that comes back by itself, with full jitter.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, Message, ServerError, Subscriber};
use bytes::Bytes;
use futures_core::Stream;
use ringplane_core::retry::backoff;
use ringplane_core::rng::Rng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::nats::config::{Config, Login};
use crate::nats::error::Error;
use crate::nats::tls::encrypted;
use crate::random::random_u64;
use crate::seldom::Seldom;

/// How long a server may take to say that it knows our subscriptions.
const SETTLE: Duration = Duration::from_secs(10);

/// How often other tasks get their turn before the subscriptions count as allowed: one each would do.
const TURNS: usize = 8;

/// What a connection goes through: told where it is logged, seldom enough for a flood, and to whom it stops.
#[derive(Debug, Default)]
pub(crate) struct Events {
    drops: Seldom,
    complaints: Seldom,
    losses: Seldom,
    counted: Counted,
    /// What the server does not allow, first come.
    denied: watch::Sender<Option<(&'static str, String)>>,
}

/// What happened, by number.
#[derive(Debug, Default)]
struct Counted {
    drops: AtomicU64,
    losses: AtomicU64,
}

/// A line for the log: what happened, how often since the last such line.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Line {
    Dropped(u64),
    Complained(u64, String),
    Lost(u64),
    Other(String),
}

impl Events {
    /// Takes note of an event.
    pub(crate) fn tell(&self, event: &Event) {
        if let Event::ServerError(ServerError::Other(text)) = event
            && let Some(denied) = denied(text)
        {
            self.denied.send_if_modified(|first| {
                let news = first.is_none();
                first.get_or_insert(denied);
                news
            });
        }
        match event {
            Event::SlowConsumer(_) => {
                self.counted.drops.fetch_add(1, Ordering::Relaxed);
            }
            Event::Disconnected => {
                self.counted.losses.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        match self.line(event, std::time::Instant::now()) {
            Some(Line::Dropped(times)) => {
                tracing::warn!(times, "messages by NATS come faster than they are taken; some are dropped");
            }
            Some(Line::Complained(times, error)) => tracing::warn!(times, error, "the NATS server complains"),
            Some(Line::Lost(times)) => tracing::warn!(times, "the NATS server is lost; trying again for ever"),
            Some(Line::Other(event)) => tracing::debug!(event, "NATS"),
            None => {}
        }
    }

    fn line(&self, event: &Event, now: std::time::Instant) -> Option<Line> {
        match event {
            Event::SlowConsumer(_) => self.drops.due(now).map(Line::Dropped),
            Event::ServerError(error) => {
                self.complaints.due(now).map(|times| Line::Complained(times, error.to_string()))
            }
            Event::Disconnected => self.losses.due(now).map(Line::Lost),
            other => Some(Line::Other(other.to_string())),
        }
    }

    /// How often the client library has said that it dropped a message for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.counted.drops.load(Ordering::Relaxed)
    }

    /// How often the connection was lost.
    pub(crate) fn losses(&self) -> u64 {
        self.counted.losses.load(Ordering::Relaxed)
    }

    /// What the server has been heard not to allow.
    pub(crate) fn denied(&self) -> Result<(), Error> {
        self.denied.borrow().clone().map_or(Ok(()), |(what, subject)| Err(Error::Denied { what, subject }))
    }

    /// Completes when the server does not allow something.
    pub(crate) async fn is_denied(&self) {
        let mut denied = self.denied.subscribe();
        if denied.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a server's error says is not allowed: `Permissions Violation for Subscription to "SUBJECT"`, and more behind.
fn denied(text: &str) -> Option<(&'static str, String)> {
    let lower = text.to_ascii_lowercase();
    let (_, action) = lower.split_once("permissions violation for ")?;
    let what = if action.starts_with("subscription") { "subscribe to" } else { "publish to" };
    let subject = text.split('"').nth(1)?;
    Some((what, subject.to_owned()))
}

/// Connects, for at most `config.startup`. `tune` sets what differs from user to user.
pub(crate) async fn connect(
    config: &Config,
    events: &Arc<Events>,
    tune: impl Fn(ConnectOptions) -> ConnectOptions,
) -> Result<Client, Error> {
    let until = Instant::now() + config.startup;
    let pause = pauses(config);
    let mut tries = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let (options, servers) = options(config, events)?;
        let why = match timeout(left, tune(options).connect(servers.as_slice())).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) if is_refusal(error.kind()) => return Err(Error::Refused(error.to_string())),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        let pause = pause(tries);
        if Instant::now() + pause >= until {
            return Err(Error::Connect(why));
        }
        tracing::debug!(%why, ?pause, "no NATS server yet");
        sleep(pause).await;
        tries += 1;
    }
}

/// What every connection is made with, and where to.
pub(crate) fn options(config: &Config, events: &Arc<Events>) -> Result<(ConnectOptions, Vec<String>), Error> {
    let (servers, login) = config.resolved().map_err(Error::Login)?;
    for server in &servers {
        server.parse::<async_nats::ServerAddr>().map_err(|_| Error::Server(shown(server)))?;
    }
    if servers.is_empty() {
        return Err(Error::Server(String::new()));
    }
    let events = Arc::clone(events);
    let options = ConnectOptions::new()
        .name("ringplane")
        .connection_timeout(config.connect)
        .ping_interval(config.ping)
        .max_reconnects(None)
        .reconnect_delay_callback(pauses(config))
        .event_callback(move |event| {
            events.tell(&event);
            std::future::ready(())
        });
    let options = match login {
        Login::Anonymous => options,
        Login::User(user, password) => options.user_and_password(user, password),
        Login::Token(token) => options.token(token),
        Login::Nkey(seed) => options.nkey(seed),
        Login::CredentialsFile(path) => {
            let bad = |source| Error::File { what: "credentials", path: path.clone(), source };
            let text = std::fs::read_to_string(&path).map_err(|error| bad(error.into()))?;
            options.credentials(&text).map_err(|error| bad(error.into()))?
        }
    };
    Ok((encrypted(options, &config.tls)?, servers))
}

/// Whether another try would hear the same.
const fn is_refusal(kind: ConnectErrorKind) -> bool {
    matches!(kind, ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation)
}

/// Waits until the server has worked off what this connection sent: it does so in order, so a message that comes back has
/// overtaken nothing.
///
/// # Errors
/// [`Error::Denied`] for what it was heard not to allow, [`Error::Subscribe`] if it does not answer.
pub(crate) async fn settle(client: &Client, events: &Events) -> Result<(), Error> {
    let refused = |error: &dyn fmt::Display| Error::Subscribe(error.to_string());
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
    echoed.map(|_| ()).ok_or_else(|| Error::Subscribe("the server does not answer".to_owned()))
}

/// The next message of a subscription; `None` after the last.
pub(crate) async fn next(subscriber: &mut Subscriber) -> Option<Message> {
    poll_fn(|cx| Pin::new(&mut *subscriber).poll_next(cx)).await
}

/// An address that is none, without what may be a password in it.
fn shown(server: &str) -> String {
    server.rsplit_once('@').map_or(server, |(_, host)| host).to_owned()
}

/// The pause after so many failed tries.
fn pauses(config: &Config) -> impl Fn(usize) -> Duration + Send + Sync + 'static {
    let shape = backoff::Config { base: config.retry_base, cap: config.retry_cap, attempts: u32::MAX };
    let rng = Mutex::new(Rng::new(random_u64()));
    move |tries| {
        let tries = u32::try_from(tries).unwrap_or(u32::MAX);
        shape.pause(tries, &mut rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_with_the_number_in_a_while() {
        let (events, begun) = (Events::default(), std::time::Instant::now());
        let dropped = |after| events.line(&Event::SlowConsumer(1), begun + Duration::from_millis(after));
        let told: Vec<_> = (0..9_000).filter_map(dropped).collect();
        assert_eq!(told, [Line::Dropped(1)]);
        assert_eq!(dropped(10_000), Some(Line::Dropped(9_000)));
        // One flood does not hide another thing.
        assert_eq!(events.line(&Event::Disconnected, begun), Some(Line::Lost(1)));
        let error = Event::ServerError(ServerError::Other("no".to_owned()));
        let told: Vec<_> = (0..2_000).filter_map(|_| events.line(&error, begun)).collect();
        assert_eq!(told, [Line::Complained(1, "nats: no".to_owned())]);
    }

    #[test]
    fn what_the_server_does_not_allow_is_named() {
        let events = Events::default();
        assert!(events.denied().is_ok());
        for text in [
            r#"Permissions Violation for Subscription to "ns_c.e-1" using queue "q""#,
            r#"Permissions Violation for Publish to "other""#,
            "Unknown Protocol Operation",
        ] {
            events.tell(&Event::ServerError(ServerError::Other(text.to_owned())));
        }
        let Err(error) = events.denied() else { panic!("it is allowed") };
        let expected =
            "the NATS server does not let this user subscribe to `ns_c.e-1`; its permissions must allow that";
        assert_eq!(error.to_string(), expected);
        assert_eq!(denied(r#"permissions violation for publish to "x""#), Some(("publish to", "x".to_owned())));
        assert_eq!(denied("Stale Connection"), None);
    }

    #[test]
    fn a_malformed_address_is_told_without_a_password() {
        let servers = vec!["nats://alice:se/cret@host".to_owned()];
        let Err(error) = options(&Config { servers, ..Config::default() }, &Arc::default()) else {
            panic!("it is none")
        };
        assert_eq!(error.to_string(), "`host` is no address of a NATS server");
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_are_spread_below_it() {
        let pause = pauses(&Config::default());
        for (tries, most) in [(0, 100), (1, 200), (5, 3200), (6, 5000), (31, 5000), (1000, 5000)] {
            let drawn: Vec<_> = (0..200).map(|_| pause(tries)).collect();
            let most = Duration::from_millis(most);
            assert!(drawn.iter().all(|pause| *pause <= most), "{tries}: {drawn:?}");
            assert!(drawn.iter().any(|pause| *pause > most / 2) && drawn.iter().any(|pause| *pause < most / 2));
        }
    }
}
