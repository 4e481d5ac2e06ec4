//! A connection to etcd that stays logged in, and what its answers mean.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions, Error};
use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::trouble::Cause;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long one connection attempt may take.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a login that failed speaks for others: etcd spends much on each.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of what etcd says that are passed on.
const TEXT: usize = 512;

/// A connection to etcd; clones share it, and its login.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) client: Client,
    login: Option<Arc<Login>>,
    answer: Duration,
    /// The endpoints, for people.
    place: Arc<str>,
}

struct Login {
    user: String,
    password: String,
    /// How often it has worked.
    done: AtomicU64,
    /// Held by who logs in: when that failed last, and why.
    turn: Mutex<Option<(Instant, Cause)>>,
}

impl Session {
    /// Neither connects nor logs in yet: an unreachable server and a refused login show at the first call.
    pub(super) async fn new(endpoints: &[String], config: &Config) -> Result<Self, Error> {
        let mut options = ConnectOptions::new().with_require_leader(true).with_connect_timeout(CONNECT);
        if !config.etcd.ping.is_zero() {
            options = options.with_keep_alive(config.etcd.ping, config.etcd.pong).with_keep_alive_while_idle(false);
        }
        let client = Client::connect(endpoints, Some(options)).await?;
        let login = config.etcd.user.clone().map(|(user, password)| {
            Arc::new(Login { user, password, done: AtomicU64::new(0), turn: Mutex::default() })
        });
        // What is before an `@` may be a password.
        let shown = endpoints.iter().map(|one| one.rsplit('@').next().unwrap_or_default()).collect::<Vec<_>>();
        let place = one_line(&shown.join(",")).into();
        Ok(Self { client, login, answer: config.watch.answer.min(config.lease.ttl / 3), place })
    }

    /// How often it has logged in. What was asked under an earlier login may have been refused unheard.
    pub(super) fn logins(&self) -> u64 {
        self.login.as_ref().map_or(0, |login| login.done.load(Ordering::Acquire))
    }

    /// Calls within the time an answer may take, logged in. A login that has expired is made anew, once.
    pub(super) async fn call<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Cause>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let bounded = timeout(self.answer, async {
            let logins = self.logins();
            if logins == 0 {
                self.log_in(0, None).await?;
            }
            let logins = self.logins();
            match call(self.client.clone()).await {
                Err(error) if self.login.is_some() && has_expired(&error) => {
                    self.log_in(logins, Some(&error)).await?;
                    call(self.client.clone()).await.map_err(|error| self.cause(&error))
                }
                result => result.map_err(|error| self.cause(&error)),
            }
        });
        bounded.await.unwrap_or_else(|_| Err(self.late()))
    }

    /// No answer came.
    pub(super) fn late(&self) -> Cause {
        Cause::Away(format!("no answer in {:?} from {}", self.answer, self.place))
    }

    /// What an error means, in one line.
    pub(super) fn cause(&self, error: &Error) -> Cause {
        let Error::GRpcStatus(status) = error else {
            let text = one_line(&error.to_string());
            return match error {
                Error::TransportError(_) | Error::IoError(_) => self.away(error.source(), &text),
                _ => Cause::Unable(text),
            };
        };
        let text = one_line(status.message());
        if !text.starts_with("etcdserver") && !text.starts_with("auth") {
            return self.away(status.source(), &text);
        }
        match &self.login {
            None if text.contains(NO_USER) => {
                Cause::Refused(format!("{text}: it wants a login (ETCD_AUTH_USERNAME and ETCD_AUTH_PASSWORD)"))
            }
            Some(login) if is_refusal(&text) => Cause::Refused(format!("{text} (user `{}`)", one_line(&login.user))),
            None if is_refusal(&text) => Cause::Refused(text),
            _ => Cause::Unable(text),
        }
    }

    /// Nobody is there, or what is there is no etcd. The system's own word about it is deep within.
    fn away(&self, mut source: Option<&(dyn std::error::Error + 'static)>, text: &str) -> Cause {
        while let Some(error) = source {
            if let Some(system) = error.downcast_ref::<io::Error>() {
                return Cause::Away(format!("{}: {}", self.place, one_line(&system.to_string())));
            }
            source = error.source();
        }
        Cause::Away(format!("{}: {text}", self.place))
    }

    /// Logs in unless somebody has since `logins`. One at a time.
    async fn log_in(&self, logins: u64, why: Option<&Error>) -> Result<(), Cause> {
        let Some(login) = &self.login else { return Ok(()) };
        let mut failed = login.turn.lock().await;
        if self.logins() > logins {
            return Ok(());
        }
        if let Some((at, cause)) = &*failed
            && at.elapsed() < PAUSE
        {
            return Err(cause.clone());
        }
        let mut client = self.client.clone();
        // etcd refuses whatever comes with a token that it does not know, even the wish for another: without a user there is
        // none, and nothing to be asked.
        let _ = client.update_user(None).await;
        match client.update_user(Some((login.user.clone(), login.password.clone()))).await {
            Ok(()) => {
                login.done.fetch_add(1, Ordering::Release);
                *failed = None;
                if let Some(why) = why {
                    let why = self.cause(why);
                    tracing::info!(%why, "etcd has forgotten our login; logged in again");
                }
                Ok(())
            }
            Err(error) => {
                let cause = self.cause(&error);
                *failed = Some((Instant::now(), cause.clone()));
                Err(cause)
            }
        }
    }
}

const NO_USER: &str = "user name is empty";

/// What etcd says of a login that was good once.
const EXPIRED: [&str; 3] = ["invalid auth token", "revision of auth store is old", NO_USER];

/// What it says to somebody who may not.
const REFUSALS: [&str; 4] =
    ["permission denied", "authentication failed", "authentication is not enabled", "invalid auth management"];

fn is_refusal(text: &str) -> bool {
    EXPIRED.iter().chain(&REFUSALS).any(|refusal| text.contains(refusal))
}

fn has_expired(error: &Error) -> bool {
    EXPIRED.iter().any(|what| says(error, what))
}

/// Whether etcd's own word has this in it.
pub(super) fn says(error: &Error, what: &str) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains(what))
}

/// What came from elsewhere, safe to print: without line breaks and the like, and cut.
fn one_line(text: &str) -> String {
    text.chars().take(TEXT).map(|one| if one.is_control() { ' ' } else { one }).collect()
}
