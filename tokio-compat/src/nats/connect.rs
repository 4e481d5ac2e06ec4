//! A connection to a NATS server that comes back by itself, with full jitter.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerError};
use ringplane_core::retry::backoff;
use ringplane_core::rng::Rng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::nats::config::{Config, Login};
use crate::random::random_u64;
use crate::seldom::Seldom;
use crate::vars;

/// Why a server cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A server's address is malformed, or none is named.
    Server(String),
    /// No server within the time for it: what the last attempt heard.
    Connect(String),
    /// A subscription was not taken.
    Subscribe(String),
    /// The server does not allow its user what is needed.
    Denied {
        /// `subscribe to` or `publish to`.
        what: &'static str,
        /// Which subject.
        subject: String,
    },
    /// The login in an address cannot be used.
    Login(vars::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(text) => write!(f, "`{text}` is no address of a NATS server"),
            Self::Connect(why) => write!(f, "no NATS server: {why}"),
            Self::Subscribe(why) => write!(f, "NATS takes no subscription: {why}"),
            Self::Denied { what, subject } => {
                write!(f, "the NATS server does not let this user {what} `{subject}`; its permissions must allow that")
            }
            Self::Login(_) => f.write_str("the login of the NATS server cannot be used"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Login(error) => Some(error),
            _ => None,
        }
    }
}

/// What a connection goes through: told where it is logged, seldom enough for a flood, and to whom it stops.
#[derive(Debug, Default)]
pub(crate) struct Events {
    drops: Seldom,
    complaints: Seldom,
    losses: Seldom,
    /// What the server does not allow, first come.
    denied: watch::Sender<Option<(&'static str, String)>>,
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
    };
    Ok((options, servers))
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
