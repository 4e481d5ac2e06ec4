//! A connection to a NATS server that comes back by itself, with full jitter.

use std::collections::VecDeque;
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

/// Denials that are kept in mind, one for each use of a subject; the oldest goes first.
const MOST_DENIALS: usize = 64;

/// What a user may be denied, as errors name it.
pub(crate) const SUBSCRIBE: &str = "subscribe to";
/// The other thing.
pub(crate) const PUBLISH: &str = "publish to";

/// What a connection goes through: told where it is logged, seldom enough for a flood, and to whom it stops.
#[derive(Debug, Default)]
pub(crate) struct Events {
    drops: Seldom,
    complaints: Seldom,
    losses: Seldom,
    counted: Counted,
    denied: watch::Sender<Denials>,
}

/// What the server has been heard not to allow. A denial concerns its own subject, and what was asked before it came: the
/// server's permissions may change.
#[derive(Debug, Default)]
struct Denials {
    told: VecDeque<Denial>,
    /// How many there have been.
    count: u64,
}

#[derive(Debug)]
struct Denial {
    number: u64,
    what: &'static str,
    subject: String,
}

impl Denials {
    fn add(&mut self, what: &'static str, subject: String) {
        self.told.retain(|denial| !denial.is(what, &subject));
        if self.told.len() >= MOST_DENIALS {
            self.told.pop_front();
        }
        self.told.push_back(Denial { number: self.count, what, subject });
        self.count += 1;
    }

    fn since(&self, mark: Mark, what: &str, subject: Option<&str>) -> Option<&Denial> {
        let concerns = |denial: &&Denial| match subject {
            Some(subject) => denial.is(what, subject),
            None => denial.what == what,
        };
        self.told.iter().filter(|denial| denial.number >= mark.0).find(concerns)
    }
}

impl Denial {
    fn is(&self, what: &str, subject: &str) -> bool {
        self.what == what && self.subject == subject
    }

    fn error(&self) -> Error {
        Error::Denied { what: self.what, subject: self.subject.clone() }
    }
}

/// A moment among the denials that a connection hears.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Mark(u64);

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
            let (what, subject) = denied;
            self.denied.send_modify(|denials| denials.add(what, subject));
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

    /// The moment between the denials that have come and those to come.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.denied.borrow().count)
    }

    /// What the server has been heard not to allow since then: this use of `subject`, or of any.
    pub(crate) fn denied(&self, since: Mark, what: &str, subject: Option<&str>) -> Result<(), Error> {
        self.denied.borrow().since(since, what, subject).map_or(Ok(()), |denial| Err(denial.error()))
    }

    /// The same, which is told once.
    pub(crate) fn take_denied(&self, what: &str, subject: Option<&str>) -> Result<(), Error> {
        let mut taken = Ok(());
        self.denied.send_if_modified(|denials| {
            if let Some(denial) = denials.since(Mark::default(), what, subject) {
                taken = Err(denial.error());
                let number = denial.number;
                denials.told.retain(|denial| denial.number != number);
            }
            false
        });
        taken
    }

    /// Completes when the server does not allow this use of `subject`, or of any.
    pub(crate) async fn is_denied(&self, since: Mark, what: &str, subject: Option<&str>) -> Error {
        let mut denied = self.denied.subscribe();
        loop {
            if let Some(denial) = denied.borrow_and_update().since(since, what, subject) {
                return denial.error();
            }
            if denied.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What a server's error says is not allowed: `Permissions Violation for Subscription to "SUBJECT"`, and more behind.
fn denied(text: &str) -> Option<(&'static str, String)> {
    let lower = text.to_ascii_lowercase();
    let (_, action) = lower.split_once("permissions violation for ")?;
    let what = if action.starts_with("subscription") { SUBSCRIBE } else { PUBLISH };
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
    let mut why = "it does not answer".to_owned();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let (options, servers) = options(config, events)?;
        match timeout(left, tune(options).connect(servers.as_slice())).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) if is_refusal(error.kind()) => return Err(Error::Refused(error.to_string())),
            Ok(Err(error)) => why = error.to_string(),
            // What was heard before says more.
            Err(_) => {}
        }
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
/// overtaken nothing. What the server had to say before has been heard then, if this runs on the connection's own runtime, and
/// that has one thread.
///
/// # Errors
/// [`Error::Denied`] if this user may not ask, [`Error::Subscribe`] if there is no answer.
pub(crate) async fn settle(client: &Client, events: &Events) -> Result<(), Error> {
    let refused = |error: &dyn fmt::Display| Error::Subscribe(error.to_string());
    let (inbox, before) = (client.new_inbox(), events.mark());
    let mut echo = client.subscribe(inbox.clone()).await.map_err(|error| refused(&error))?;
    client.publish(inbox.clone(), Bytes::new()).await.map_err(|error| refused(&error))?;
    let echoed = tokio::select! {
        biased;
        error = events.is_denied(before, SUBSCRIBE, Some(&inbox)) => return Err(error),
        error = events.is_denied(before, PUBLISH, Some(&inbox)) => return Err(error),
        echoed = timeout(SETTLE, next(&mut echo)) => echoed.ok().flatten(),
    };
    // Errors of the server are handed to another task of this thread, which shall have its turn first.
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
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
    fn what_the_server_does_not_allow_is_named_to_those_it_concerns() {
        let events = Events::default();
        let hear = |text: &str| events.tell(&Event::ServerError(ServerError::Other(text.to_owned())));
        let before = events.mark();
        hear(r#"Permissions Violation for Subscription to "ns_c.e-1" using queue "q""#);
        hear(r#"Permissions Violation for Publish to "other""#);
        hear("Unknown Protocol Operation");
        let Err(error) = events.denied(before, SUBSCRIBE, Some("ns_c.e-1")) else { panic!("it is allowed") };
        let expected =
            "the NATS server does not let this user subscribe to `ns_c.e-1`; its permissions must allow that";
        assert_eq!(error.to_string(), expected);
        // Other subjects, other uses, and what is asked later are not concerned.
        assert!(events.denied(before, SUBSCRIBE, Some("ns_c.e-2")).is_ok());
        assert!(events.denied(before, PUBLISH, Some("ns_c.e-1")).is_ok());
        assert!(events.denied(before, PUBLISH, None).is_err());
        assert!(events.denied(events.mark(), SUBSCRIBE, None).is_ok());
        assert!(events.take_denied(PUBLISH, Some("other")).is_err() && events.take_denied(PUBLISH, None).is_ok());
        // However many there are, a bounded number is kept, the newest.
        (0..1000).for_each(|n| hear(&format!(r#"Permissions Violation for Publish to "{n}""#)));
        assert_eq!(events.denied.borrow().told.len(), MOST_DENIALS);
        assert!(
            events.denied(before, PUBLISH, Some("999")).is_err() && events.denied(before, PUBLISH, Some("0")).is_ok()
        );
        assert_eq!(denied(r#"permissions violation for publish to "x""#), Some((PUBLISH, "x".to_owned())));
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
