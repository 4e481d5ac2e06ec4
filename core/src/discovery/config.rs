//! Where instances are found and how patient discovery is, from variables of Dynamo's and of our own.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use crate::discovery::{lease, watch};

/// The knobs of discovery.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Config {
    /// A discovery URL: `mem`, `file:DIR` or `etcd:URL,URL`. `None` if no variable says.
    pub url: Option<String>,
    /// How the lease of this process is kept.
    pub lease: lease::Config,
    /// How patient its watches are.
    pub watch: watch::Config,
    /// How etcd is reached.
    pub etcd: Etcd,
}

/// How etcd is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Etcd {
    /// How long the first registration waits for a registry that does not answer. Default 120 s.
    pub startup: Duration,
    /// Time between two pings of a connection; zero sends none. Default 15 s.
    pub ping: Duration,
    /// How long the answer to a ping may take. Default 10 s.
    pub pong: Duration,
    /// User and password. Default none.
    pub user: Option<(String, String)>,
}

impl Default for Etcd {
    fn default() -> Self {
        Self {
            startup: Duration::from_secs(120),
            ping: Duration::from_secs(15),
            pong: Duration::from_secs(10),
            user: None,
        }
    }
}

/// A variable that cannot be followed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Not a whole number of seconds from `least` on.
    Seconds {
        /// Which variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// The least that counts.
        least: u64,
    },
    /// A place nobody knows, or one that this software does without.
    Backend {
        /// What `DYN_DISCOVERY_BACKEND` holds.
        value: String,
    },
    /// One of the two is set, the other is not.
    Half {
        /// The one that is set.
        set: &'static str,
        /// The one that is missing.
        missing: &'static str,
    },
    /// Certificates for etcd are asked for; this version speaks to it without them.
    Tls {
        /// Which variable asks.
        name: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds { name, value, least } => {
                write!(f, "{name} is `{value}`, not a whole number of seconds from {least} on")
            }
            Self::Backend { value } => {
                write!(f, "DYN_DISCOVERY_BACKEND is `{value}`; ringplane knows etcd, file and mem")
            }
            Self::Half { set, missing } => write!(f, "{set} is set and {missing} is not"),
            Self::Tls { name } => write!(f, "{name} is set; certificates for etcd are not supported yet"),
        }
    }
}

impl core::error::Error for Error {}

impl Config {
    /// Reads the variables through `get`. `RINGPLANE_DISCOVERY` is a URL and wins; otherwise `DYN_DISCOVERY_BACKEND` with
    /// `DYN_FILE_KV` (default `dynamo_store_kv` below `temporary`) or `ETCD_ENDPOINTS` (default
    /// `http://localhost:2379`). An empty variable counts as unset.
    ///
    /// # Errors
    /// [`Error`] for the first variable that cannot be followed.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>, temporary: &str) -> Result<Self, Error> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut config = Self { url: url(&get, temporary)?, ..Self::default() };
        set(&get, "ETCD_LEASE_TTL", 1, &mut config.lease.ttl)?;
        set(&get, "ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS", 1, &mut config.etcd.startup)?;
        set(&get, "ETCD_KEEPALIVE_INTERVAL_SECONDS", 0, &mut config.etcd.ping)?;
        set(&get, "ETCD_KEEPALIVE_TIMEOUT_SECONDS", 1, &mut config.etcd.pong)?;
        set(&get, "RINGPLANE_DISCOVERY_ANSWER_SECONDS", 1, &mut config.watch.answer)?;
        set(&get, "RINGPLANE_DISCOVERY_QUIET_SECONDS", 1, &mut config.watch.quiet)?;
        set(&get, "RINGPLANE_DISCOVERY_GRACE_SECONDS", 0, &mut config.watch.grace)?;
        set(&get, "RINGPLANE_DISCOVERY_CHECK_SECONDS", 1, &mut config.lease.check)?;
        config.lease.answer = config.watch.answer;
        let (user, password) = ("ETCD_AUTH_USERNAME", "ETCD_AUTH_PASSWORD");
        config.etcd.user = match (get(user), get(password)) {
            (Some(user), Some(password)) => Some((user, password)),
            (Some(_), None) => return Err(Error::Half { set: user, missing: password }),
            (None, Some(_)) => return Err(Error::Half { set: password, missing: user }),
            (None, None) => None,
        };
        let tls = ["ETCD_AUTH_CA", "ETCD_AUTH_CLIENT_CERT", "ETCD_AUTH_CLIENT_KEY"];
        match tls.into_iter().find(|name| get(name).is_some()) {
            Some(name) => Err(Error::Tls { name }),
            None => Ok(config),
        }
    }
}

fn url(get: &impl Fn(&str) -> Option<String>, temporary: &str) -> Result<Option<String>, Error> {
    if let Some(url) = get("RINGPLANE_DISCOVERY") {
        return Ok(Some(url));
    }
    let Some(backend) = get("DYN_DISCOVERY_BACKEND") else { return Ok(None) };
    Ok(Some(match backend.as_str() {
        "mem" => "mem".to_owned(),
        "file" => match get("DYN_FILE_KV") {
            Some(directory) => format!("file:{directory}"),
            None => format!("file:{}/dynamo_store_kv", temporary.trim_end_matches('/')),
        },
        "etcd" => {
            format!("etcd:{}", get("ETCD_ENDPOINTS").unwrap_or_else(|| "http://localhost:2379".to_owned()))
        }
        _ => return Err(Error::Backend { value: backend }),
    }))
}

fn set(
    get: &impl Fn(&str) -> Option<String>,
    name: &'static str,
    least: u64,
    knob: &mut Duration,
) -> Result<(), Error> {
    let Some(value) = get(name) else { return Ok(()) };
    match value.trim().parse() {
        Ok(seconds) if seconds >= least => *knob = Duration::from_secs(seconds),
        _ => return Err(Error::Seconds { name, value, least }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config, Error> {
        let get = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_string());
        Config::from_vars(get, "/tmp/")
    }

    #[test]
    fn without_variables_there_are_dynamos_defaults_and_no_place() {
        let config = read(&[]).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!((config.lease.ttl, config.etcd.startup), (Duration::from_secs(30), Duration::from_secs(120)));
    }

    #[test]
    fn our_url_wins_over_dynamos_backend_and_an_empty_variable_is_none() {
        let url = |vars: &[(&str, &str)]| read(vars).unwrap().url;
        let backend = |name| ("DYN_DISCOVERY_BACKEND", name);
        assert_eq!(url(&[backend("file")]).unwrap(), "file:/tmp/dynamo_store_kv");
        assert_eq!(url(&[backend("file"), ("DYN_FILE_KV", "/d")]).unwrap(), "file:/d");
        assert_eq!(url(&[backend("etcd")]).unwrap(), "etcd:http://localhost:2379");
        assert_eq!(url(&[backend("etcd"), ("ETCD_ENDPOINTS", "a,b")]).unwrap(), "etcd:a,b");
        assert_eq!(url(&[backend("mem"), ("RINGPLANE_DISCOVERY", "file:/x")]).unwrap(), "file:/x");
        assert_eq!(url(&[backend("mem"), ("RINGPLANE_DISCOVERY", "")]).unwrap(), "mem");
    }

    #[test]
    fn numbers_are_whole_seconds_and_have_a_least() {
        let config = read(&[("ETCD_LEASE_TTL", " 5 "), ("ETCD_KEEPALIVE_INTERVAL_SECONDS", "0")]).unwrap();
        assert_eq!((config.lease.ttl, config.etcd.ping), (Duration::from_secs(5), Duration::ZERO));
        for value in ["0", "-1", "1.5", "x", "99999999999999999999"] {
            let error = read(&[("ETCD_LEASE_TTL", value)]).unwrap_err();
            assert_eq!(error, Error::Seconds { name: "ETCD_LEASE_TTL", value: value.to_string(), least: 1 });
        }
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let error = read(&[("DYN_DISCOVERY_BACKEND", "kubernetes")]).unwrap_err().to_string();
        assert_eq!(error, "DYN_DISCOVERY_BACKEND is `kubernetes`; ringplane knows etcd, file and mem");
        let error = read(&[("ETCD_AUTH_PASSWORD", "x")]).unwrap_err().to_string();
        assert_eq!(error, "ETCD_AUTH_PASSWORD is set and ETCD_AUTH_USERNAME is not");
        assert!(matches!(read(&[("ETCD_AUTH_CA", "x")]), Err(Error::Tls { name: "ETCD_AUTH_CA" })));
    }
}
