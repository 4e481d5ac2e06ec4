//! Which NATS server, how to log in, and the bounds of a leg.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// What reaches and bounds a NATS leg, a worker's or a caller's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Servers of one cluster. Default `nats://localhost:4222`.
    pub servers: Vec<String>,
    /// How to log in. Default user `user` with password `user`, as Dynamo; a server without accounts ignores it.
    pub login: Login,
    /// How long the start waits for a server. Default 120 s.
    pub startup: Duration,
    /// One attempt to connect. Default 5 s.
    pub connect: Duration,
    /// Upper end of the first pause before another attempt. Default 100 ms.
    pub retry_base: Duration,
    /// Upper end of every pause; a lost server is tried for ever. Default 5 s.
    pub retry_cap: Duration,
    /// How long a caller's request waits for a lost server to come back before it counts as not delivered. Default 1 s.
    pub outage: Duration,
    /// Time between pings of the server; two without an answer end the connection. Default 10 s.
    pub ping: Duration,
    /// Requests that may wait to be handed to a core, per subject; the client library drops further ones, whose callers
    /// hear nothing before their own timeout. Default 1 024; each may be as large as the server allows.
    pub waiting: usize,
    /// Requests on their way between NATS and the cores at a time; of a caller as many more wait. Default 1 024.
    pub in_hand: usize,
    /// Bytes of their payloads at a worker; one larger request goes alone. Default 256 MiB.
    pub in_hand_bytes: usize,
    /// The longest that requests in hand may take to be answered when the leg ends. Default 2 s.
    pub farewell: Duration,
}

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Without a name.
    Anonymous,
    /// With user and password.
    User(String, String),
    /// With a token.
    Token(String),
}

/// Says which kind, never the secret.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::User(..) => "User(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: vec!["nats://localhost:4222".to_owned()],
            login: Login::User("user".to_owned(), "user".to_owned()),
            startup: Duration::from_secs(120),
            connect: Duration::from_secs(5),
            retry_base: Duration::from_millis(100),
            retry_cap: Duration::from_secs(5),
            outage: Duration::from_secs(1),
            ping: Duration::from_secs(10),
            waiting: 1024,
            in_hand: 1024,
            in_hand_bytes: 256 << 20,
            farewell: Duration::from_secs(2),
        }
    }
}

/// A variable that cannot be followed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not a whole number of seconds from 1 on.
    Seconds {
        /// Which variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// Asks for keys or certificates, which this version does without.
    Unsupported {
        /// Which variable.
        name: &'static str,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds { name, value } => write!(f, "{name} is `{value}`, not a whole number of seconds from 1 on"),
            Self::Unsupported { name } => {
                write!(f, "{name} is set; keys and certificates for NATS are not supported yet")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Variables of Dynamo that ask for what we do not have: better refused than connected without.
const UNSUPPORTED: [&str; 6] = [
    "NATS_AUTH_NKEY",
    "NATS_AUTH_CREDENTIALS_FILE",
    "NATS_TLS_CA_CERT_PATH",
    "NATS_TLS_CLIENT_CERT_PATH",
    "NATS_TLS_CLIENT_KEY_PATH",
    "NATS_TLS_INSECURE",
];

impl Config {
    /// Reads Dynamo's variables through `get`: `NATS_SERVER` (several with commas between), `NATS_AUTH_USERNAME` with
    /// `NATS_AUTH_PASSWORD`, `NATS_AUTH_TOKEN`, `NATS_STARTUP_CONNECT_TIMEOUT_SECONDS`. An empty one counts as unset.
    ///
    /// # Errors
    /// [`ConfigError`] for the first variable that cannot be followed.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut config = Self::default();
        if let Some(name) = UNSUPPORTED.into_iter().find(|name| get(name).is_some()) {
            return Err(ConfigError::Unsupported { name });
        }
        if let Some(servers) = get("NATS_SERVER") {
            config.servers = servers.split(',').map(|server| server.trim().to_owned()).collect();
        }
        if let (Some(user), Some(password)) = (get("NATS_AUTH_USERNAME"), get("NATS_AUTH_PASSWORD")) {
            config.login = Login::User(user, password);
        } else if let Some(token) = get("NATS_AUTH_TOKEN") {
            config.login = Login::Token(token);
        }
        let name = "NATS_STARTUP_CONNECT_TIMEOUT_SECONDS";
        if let Some(value) = get(name) {
            let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
            config.startup = seconds.map(Duration::from_secs).ok_or(ConfigError::Seconds { name, value })?;
        }
        Ok(config)
    }

    /// Whether every server is on this host.
    pub fn is_local(&self) -> bool {
        let local = |server: &String| {
            let host = server.parse::<async_nats::ServerAddr>().map(|addr| addr.host().to_owned()).unwrap_or_default();
            let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        };
        self.servers.iter().all(local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_vars(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn variables_are_followed_as_dynamo_follows_them() {
        assert_eq!(read(&[("NATS_SERVER", "")]), Ok(Config::default()));
        let config = read(&[("NATS_SERVER", "nats://a:1, nats://b:2"), ("NATS_AUTH_TOKEN", "t")]).unwrap();
        assert_eq!(config.servers, ["nats://a:1", "nats://b:2"]);
        assert_eq!(config.login, Login::Token("t".to_owned()));
        let config = read(&[("NATS_AUTH_USERNAME", "me"), ("NATS_AUTH_PASSWORD", "secret")]).unwrap();
        assert_eq!(config.login, Login::User("me".to_owned(), "secret".to_owned()));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        let error = read(&[("NATS_TLS_CA_CERT_PATH", "/ca.pem")]).unwrap_err();
        assert_eq!(error, ConfigError::Unsupported { name: "NATS_TLS_CA_CERT_PATH" });
        let error = read(&[("NATS_STARTUP_CONNECT_TIMEOUT_SECONDS", "soon")]).unwrap_err();
        let expected = "NATS_STARTUP_CONNECT_TIMEOUT_SECONDS is `soon`, not a whole number of seconds from 1 on";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_server_is_local_by_its_host() {
        let local = |server: &str| Config { servers: vec![server.to_owned()], ..Config::default() }.is_local();
        assert!(local("nats://localhost:4222") && local("127.0.0.1:4222") && local("nats://[::1]:4222"));
        assert!(!local("nats://10.0.0.1:4222") && !local("nats://localhost.example:4222"));
    }
}
