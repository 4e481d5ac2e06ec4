//! Which NATS server, how to log in there, and how patiently.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::vars::{Error, decoded};

/// What reaches a NATS server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Servers of one cluster. Default `nats://localhost:4222`. A login in an address goes before `login`.
    pub servers: Vec<String>,
    /// How to log in. Default without a name: Dynamo's `user` with the password `user` has to be asked for.
    pub login: Login,
    /// Whether and how connections are encrypted. Default as the servers ask for it, with the system's certificates.
    pub tls: Tls,
    /// How long the start waits for a server. Default 120 s.
    pub startup: Duration,
    /// One attempt to connect. Default 5 s.
    pub connect: Duration,
    /// Upper end of the first pause before another attempt. Default 100 ms.
    pub retry_base: Duration,
    /// Upper end of every pause; a lost server is tried for ever. Default 5 s.
    pub retry_cap: Duration,
    /// Time between pings of the server; two without an answer end the connection. Default 10 s.
    pub ping: Duration,
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
    /// With the seed of an nkey (`SU…`), which signs what the server asks.
    Nkey(String),
    /// With the JWT and the seed in a file of credentials.
    CredentialsFile(PathBuf),
}

/// How connections are encrypted. Any of these makes them be, whatever the server asks for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tls {
    /// The certificates to trust instead of the system's: a PEM file.
    pub ca: Option<PathBuf>,
    /// The certificate that we show and its key: two PEM files.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Any certificate will do: the connection is encrypted, and its other end may be anybody.
    pub insecure: bool,
}

impl Tls {
    /// Whether connections have to be encrypted.
    pub fn is_required(&self) -> bool {
        *self != Self::default()
    }
}

/// Says which kind, never the secret.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::User(..) => "User(..)",
            Self::Token(_) => "Token(..)",
            Self::Nkey(_) => "Nkey(..)",
            Self::CredentialsFile(_) => "CredentialsFile(..)",
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: vec!["nats://localhost:4222".to_owned()],
            login: Login::Anonymous,
            tls: Tls::default(),
            startup: Duration::from_secs(120),
            connect: Duration::from_secs(5),
            retry_base: Duration::from_millis(100),
            retry_cap: Duration::from_secs(5),
            ping: Duration::from_secs(10),
        }
    }
}

/// What is wrong with a login in a server's address; its value is not shown.
const TWO_LOGINS: Error = Error::Secret {
    name: "NATS_SERVER",
    wrong: "a login that differs from that of another server or of NATS_AUTH_*; there is one for all",
};
const MALFORMED: Error = Error::Secret {
    name: "NATS_SERVER",
    wrong: "a malformed login: USER:PASSWORD@ or TOKEN@, with %XX for `%`, `:`, `@` and `/`",
};

/// What a number of seconds may be.
const SECONDS: &str = "a whole number of seconds from 1 on";

impl Config {
    /// Reads Dynamo's variables through `get`: `NATS_SERVER` (several with commas between), `NATS_AUTH_USERNAME` with
    /// `NATS_AUTH_PASSWORD`, or `NATS_AUTH_TOKEN`, `NATS_AUTH_NKEY`, `NATS_AUTH_CREDENTIALS_FILE`, of which the first counts;
    /// `NATS_TLS_CA_CERT_PATH`, `NATS_TLS_CLIENT_CERT_PATH` with `NATS_TLS_CLIENT_KEY_PATH`, `NATS_TLS_INSECURE`;
    /// `NATS_STARTUP_CONNECT_TIMEOUT_SECONDS`. An empty one counts as unset.
    ///
    /// # Errors
    /// [`Error`] for the first variable that cannot be followed.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut config = Self::default();
        if let Some(servers) = get("NATS_SERVER") {
            config.servers = servers.split(',').map(|server| server.trim().to_owned()).collect();
        }
        let (name, lacks) = ("NATS_AUTH_USERNAME", "NATS_AUTH_PASSWORD");
        let login = match (get(name), get(lacks), get("NATS_AUTH_TOKEN")) {
            (Some(user), Some(password), _) => Some(Login::User(user, password)),
            (Some(_), None, _) => return Err(Error::Lacks { name, lacks }),
            (None, Some(_), _) => return Err(Error::Lacks { name: lacks, lacks: name }),
            (None, None, Some(token)) => Some(Login::Token(token)),
            (None, None, None) => match (get("NATS_AUTH_NKEY"), get("NATS_AUTH_CREDENTIALS_FILE")) {
                (Some(seed), _) => Some(Login::Nkey(seed)),
                (None, file) => file.map(|file| Login::CredentialsFile(file.into())),
            },
        };
        config.tls = tls(&get)?;
        let (servers, named) = split(&config.servers)?;
        config.servers = servers;
        config.login = match (login, named) {
            (Some(login), Some(named)) if login != named => return Err(TWO_LOGINS),
            (login, named) => login.or(named).unwrap_or(config.login),
        };
        let name = "NATS_STARTUP_CONNECT_TIMEOUT_SECONDS";
        if let Some(value) = get(name) {
            let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
            config.startup =
                seconds.map(Duration::from_secs).ok_or(Error::Malformed { name, value, wanted: SECONDS })?;
        }
        Ok(config)
    }

    /// The servers without the logins in their addresses, and how to log in there.
    pub(crate) fn resolved(&self) -> Result<(Vec<String>, Login), Error> {
        let (servers, named) = split(&self.servers)?;
        Ok((servers, named.unwrap_or_else(|| self.login.clone())))
    }

    /// Whether every server is on this host.
    pub fn is_local(&self) -> bool {
        let local = |server: &String| {
            let host = server.parse::<async_nats::ServerAddr>().map(|addr| addr.host().to_owned()).unwrap_or_default();
            let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
        };
        self.servers.iter().all(local)
    }
}

/// What the variables say of encryption. A client's certificate needs its key, and a server that is known or need not be.
fn tls(get: &impl Fn(&str) -> Option<String>) -> Result<Tls, Error> {
    let insecure = match get(INSECURE) {
        None => false,
        Some(value) => match value.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "on" | "yes" => true,
            "0" | "false" | "off" | "no" => false,
            _ => return Err(Error::Malformed { name: INSECURE, value, wanted: "true or false" }),
        },
    };
    let ca = get(CA).map(PathBuf::from);
    let client = match (get(CERT), get(KEY)) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        (Some(_), None) => return Err(Error::Lacks { name: CERT, lacks: KEY }),
        (None, Some(_)) => return Err(Error::Lacks { name: KEY, lacks: CERT }),
    };
    if client.is_some() && ca.is_none() && !insecure {
        return Err(Error::Lacks { name: CERT, lacks: CA });
    }
    Ok(Tls { ca, client, insecure })
}

const CA: &str = "NATS_TLS_CA_CERT_PATH";
const CERT: &str = "NATS_TLS_CLIENT_CERT_PATH";
const KEY: &str = "NATS_TLS_CLIENT_KEY_PATH";
const INSECURE: &str = "NATS_TLS_INSECURE";

/// Servers without the logins in their addresses, and the login they have, if any.
fn split(servers: &[String]) -> Result<(Vec<String>, Option<Login>), Error> {
    let (mut bare, mut login) = (Vec::new(), None);
    for server in servers {
        let (scheme, rest) = server.split_once("://").map_or(("", server.as_str()), |(scheme, rest)| (scheme, rest));
        let authority = rest.find(['/', '?', '#']).map_or(rest, |end| rest.split_at(end).0);
        let Some((named, host)) = authority.rsplit_once('@') else {
            bare.push(server.clone());
            continue;
        };
        let named = match named.split_once(':') {
            Some((user, password)) => part(user).zip(part(password)).map(|(user, word)| Login::User(user, word)),
            None => part(named).map(Login::Token),
        };
        let named = named.ok_or(MALFORMED)?;
        if login.as_ref().is_some_and(|other| *other != named) {
            return Err(TWO_LOGINS);
        }
        login = Some(named);
        bare.push(if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") });
    }
    Ok((bare, login))
}

/// A part of a login; `None` if it is empty, wrongly encoded or no text.
fn part(text: &str) -> Option<String> {
    decoded(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config, Error> {
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
    fn the_first_way_to_log_in_counts_and_none_is_taken_unasked() {
        assert_eq!(Config::default().login, Login::Anonymous);
        let mut vars = vec![("NATS_AUTH_CREDENTIALS_FILE", "/secret.creds")];
        let mut login = |name, value| {
            vars.push((name, value));
            read(&vars).unwrap().login
        };
        assert_eq!(login("OTHER", "x"), Login::CredentialsFile("/secret.creds".into()));
        let nkey = login("NATS_AUTH_NKEY", "SUsecret");
        assert_eq!(nkey, Login::Nkey("SUsecret".to_owned()));
        assert!(!format!("{nkey:?}").contains("secret"));
        assert_eq!(login("NATS_AUTH_TOKEN", "t"), Login::Token("t".to_owned()));
    }

    #[test]
    fn certificates_are_followed_as_dynamo_follows_them() {
        let vars = [(CA, "/ca.pem"), (CERT, "/c.pem"), (KEY, "/k.pem"), (INSECURE, " Yes ")];
        let tls = read(&vars).unwrap().tls;
        let client = Some(("/c.pem".into(), "/k.pem".into()));
        assert_eq!(tls, Tls { ca: Some("/ca.pem".into()), client, insecure: true });
        assert!(tls.is_required() && !Tls::default().is_required());
    }

    #[test]
    fn a_login_in_an_address_is_used_and_not_shown() {
        let user = |user: &str, password: &str| Login::User(user.to_owned(), password.to_owned());
        for (server, host, login) in [
            ("nats://alice:secret@host:4222", "nats://host:4222", user("alice", "secret")),
            ("alice:secret@host", "host", user("alice", "secret")),
            ("nats://al%40ice:se%2Fcr%3Aet%25@[::1]:4", "nats://[::1]:4", user("al@ice", "se/cr:et%")),
            ("nats://secret@host:4222", "nats://host:4222", Login::Token("secret".to_owned())),
            ("nats://alice:p@ss@host", "nats://host", user("alice", "p@ss")),
        ] {
            let config = read(&[("NATS_SERVER", server)]).unwrap();
            assert_eq!((config.servers.as_slice(), &config.login), ([host.to_owned()].as_slice(), &login), "{server}");
            assert!(!format!("{config:?}").contains("secret"));
            // A program that says the same.
            let config = Config { servers: vec![server.to_owned()], ..Config::default() };
            assert_eq!(config.resolved(), Ok((vec![host.to_owned()], login)));
        }
        let both = [("NATS_SERVER", "nats://a:b@h1, nats://a:b@h2, h3"), ("NATS_AUTH_TOKEN", "")];
        let config = read(&both).unwrap();
        assert_eq!((config.servers.len(), config.login), (3, user("a", "b")));
    }

    #[test]
    fn logins_that_are_malformed_or_contradict_each_other_are_refused_without_being_shown() {
        let two = TWO_LOGINS;
        assert_eq!(read(&[("NATS_SERVER", "nats://a:b@h1,nats://a:c@h2")]), Err(two.clone()));
        assert_eq!(read(&[("NATS_SERVER", "nats://a:b@h"), ("NATS_AUTH_TOKEN", "t")]), Err(two));
        for server in ["nats://alice:@h", "nats://:secret@h", "nats://@h", "nats://a:%zz@h", "nats://a:%+1@h", "a:%f@h"]
        {
            let error = read(&[("NATS_SERVER", server)]).unwrap_err();
            assert_eq!(error, MALFORMED, "{server}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn half_a_login_is_refused_by_name() {
        for (name, lacks) in
            [("NATS_AUTH_USERNAME", "NATS_AUTH_PASSWORD"), ("NATS_AUTH_PASSWORD", "NATS_AUTH_USERNAME")]
        {
            assert_eq!(read(&[(name, "x")]), Err(Error::Lacks { name, lacks }));
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        for (vars, name, lacks) in [
            (&[(CERT, "/c.pem"), (CA, "/ca.pem")][..], CERT, KEY),
            (&[(KEY, "/k.pem"), (CA, "/ca.pem")], KEY, CERT),
            (&[(KEY, "/k.pem"), (CERT, "/c.pem")], CERT, CA),
        ] {
            assert_eq!(read(vars), Err(Error::Lacks { name, lacks }));
        }
        assert!(matches!(read(&[(INSECURE, "perhaps")]), Err(Error::Malformed { name: INSECURE, .. })));
        let error = read(&[("NATS_STARTUP_CONNECT_TIMEOUT_SECONDS", "soon")]).unwrap_err();
        let expected = "NATS_STARTUP_CONNECT_TIMEOUT_SECONDS is `soon`, not a whole number of seconds from 1 on";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_server_is_local_by_its_host() {
        let local = |server: &str| Config { servers: vec![server.to_owned()], ..Config::default() }.is_local();
        assert!(local("nats://localhost:4222") && local("127.0.0.1:4222") && local("nats://[::1]:4222"));
        assert!(local("nats://[::ffff:127.0.0.1]:4222"));
        assert!(!local("nats://10.0.0.1:4222") && !local("nats://localhost.example:4222"));
    }
}
