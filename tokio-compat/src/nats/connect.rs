//! A connection to a NATS server that comes back by itself, with full jitter.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use ringplane_core::rng::Rng;
use tokio::time::{Instant, sleep, timeout};

use crate::discovery::random_u64;
use crate::nats::config::{Config, Login};

/// Why a leg does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A server's address is malformed, or none is named.
    Server(String),
    /// No server within the time for it: what the last attempt heard.
    Connect(String),
    /// Two endpoints of one worker have this subject in one of its spellings, so that a request could be for either.
    Ambiguous(String),
    /// A subscription was not taken.
    Subscribe(String),
    /// No thread for the leg.
    Thread(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(text) => write!(f, "`{text}` is no address of a NATS server"),
            Self::Connect(why) => write!(f, "no NATS server: {why}"),
            Self::Ambiguous(subject) => {
                write!(
                    f,
                    "two endpoints have the NATS subject `{subject}`; names may not differ in case or in where `_` is"
                )
            }
            Self::Subscribe(why) => write!(f, "NATS takes no subscription: {why}"),
            Self::Thread(error) => write!(f, "no thread for NATS: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Connects, for at most `config.startup`.
pub(super) async fn connect(config: &Config) -> Result<Client, Error> {
    let until = Instant::now() + config.startup;
    let pauses = Pauses::new(config);
    let mut tries = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let why = match timeout(left, options(config)?.connect(config.servers.as_slice())).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        let pause = pauses.after(tries);
        if Instant::now() + pause >= until {
            return Err(Error::Connect(why));
        }
        tracing::debug!(%why, ?pause, "no NATS server yet");
        sleep(pause).await;
        tries += 1;
    }
}

/// What every connection is made with.
pub(super) fn options(config: &Config) -> Result<ConnectOptions, Error> {
    for server in &config.servers {
        server.parse::<async_nats::ServerAddr>().map_err(|_| Error::Server(server.clone()))?;
    }
    if config.servers.is_empty() {
        return Err(Error::Server(String::new()));
    }
    let pauses = Pauses::new(config);
    let options = ConnectOptions::new()
        .name("ringplane")
        .connection_timeout(config.connect)
        .ping_interval(config.ping)
        .subscription_capacity(config.waiting)
        .client_capacity(config.in_hand)
        .max_reconnects(None)
        .reconnect_delay_callback(move |tries| pauses.after(tries))
        .event_callback(|event| async move { tell(&event) });
    Ok(match &config.login {
        Login::Anonymous => options,
        Login::User(user, password) => options.user_and_password(user.clone(), password.clone()),
        Login::Token(token) => options.token(token.clone()),
    })
}

/// Logs what a connection goes through.
pub(super) fn tell(event: &Event) {
    match event {
        Event::SlowConsumer(_) => tracing::warn!("requests by NATS come faster than they are taken; some are dropped"),
        Event::ServerError(error) => tracing::warn!(%error, "the NATS server complains"),
        Event::Disconnected => tracing::warn!("the NATS server is lost; trying again for ever"),
        other => tracing::debug!(event = %other, "NATS"),
    }
}

/// Full jitter over a doubling bound.
struct Pauses {
    base: Duration,
    cap: Duration,
    rng: Mutex<Rng>,
}

impl Pauses {
    fn new(config: &Config) -> Self {
        Self { base: config.retry_base, cap: config.retry_cap, rng: Mutex::new(Rng::new(random_u64())) }
    }

    /// The pause after so many failed tries.
    fn after(&self, tries: usize) -> Duration {
        let doubled = u32::try_from(tries).ok().and_then(|tries| 1_u32.checked_shl(tries)).unwrap_or(u32::MAX);
        let most = self.base.saturating_mul(doubled).min(self.cap);
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(most.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_are_spread_below_it() {
        let pauses = Pauses::new(&Config::default());
        for (tries, most) in [(0, 100), (1, 200), (5, 3200), (6, 5000), (31, 5000), (1000, 5000)] {
            let drawn: Vec<_> = (0..200).map(|_| pauses.after(tries)).collect();
            let most = Duration::from_millis(most);
            assert!(drawn.iter().all(|pause| *pause <= most), "{tries}: {drawn:?}");
            assert!(drawn.iter().any(|pause| *pause > most / 2) && drawn.iter().any(|pause| *pause < most / 2));
        }
    }
}
