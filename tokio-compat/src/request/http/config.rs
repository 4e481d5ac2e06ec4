//! Where requests by HTTP are taken, and the bounds of both ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::vars::Error;

/// What bounds a worker's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where to listen. Default 127.0.0.1 and any port.
    pub bind: SocketAddr,
    /// What the path of every endpoint begins with. Default `/v1/rpc`.
    pub root: String,
    /// Connections at a time; further ones wait to be accepted. Default 1 024.
    pub max_connections: usize,
    /// The longest that a connection may stay without a whole header, a new one or one that has had requests. Default
    /// 30 s.
    pub quiet: Duration,
    /// The longest that the body of a request may stand still. Default 10 s.
    pub stall: Duration,
    /// The longest that the whole body may take. Default 60 s.
    pub body: Duration,
    /// The largest body, in bytes; `None`: 32 MiB, and of a worker of the facade as much as a request over TCP may have, which
    /// `DYN_TCP_MAX_MESSAGE_SIZE` says. Default `None`.
    pub max_body: Option<usize>,
    /// Bytes of a refused request that are read and dropped, within the times of a body: a caller hears a refusal only if
    /// its connection is not closed under what it still sends. One that says it is longer is not read. Default 64 MiB.
    pub drain: usize,
    /// Requests between HTTP and the cores at a time; further ones are refused. Default 1 024.
    pub in_hand: usize,
    /// Bytes of their bodies, or those of the largest one if that is more; a request that finds no room is refused. Default
    /// 256 MiB.
    pub in_hand_bytes: usize,
    /// The longest that a core may take to say whether it takes a request. Default 4 s: before Dynamo's callers give up.
    pub answer: Duration,
    /// The longest that requests in hand may take to be answered when the worker leaves. Default 2 s.
    pub farewell: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            root: "/v1/rpc".to_owned(),
            max_connections: 1024,
            quiet: Duration::from_secs(30),
            stall: Duration::from_secs(10),
            body: Duration::from_secs(60),
            max_body: None,
            drain: 64 << 20,
            in_hand: 1024,
            in_hand_bytes: 256 << 20,
            answer: Duration::from_secs(4),
            farewell: Duration::from_secs(2),
        }
    }
}

/// What bounds a caller's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallerConfig {
    /// Requests on their way at a time, each on a connection of its own; as many more wait. Default 256.
    pub in_hand: usize,
    /// One attempt to connect. Default 5 s.
    pub connect: Duration,
    /// A connection without a request is closed after this long. Default 5 s.
    pub idle: Duration,
    /// The longest answer that is read, in bytes. Default 64 KiB.
    pub max_answer: usize,
}

impl Default for CallerConfig {
    fn default() -> Self {
        Self { in_hand: 256, connect: Duration::from_secs(5), idle: Duration::from_secs(5), max_answer: 64 << 10 }
    }
}

impl Config {
    /// The largest body, in bytes.
    pub(super) fn most(&self) -> usize {
        self.max_body.unwrap_or(32 << 20)
    }

    /// Reads Dynamo's variables through `get`: `DYN_HTTP_RPC_HOST` (an IP address), `DYN_HTTP_RPC_PORT` and
    /// `DYN_HTTP_RPC_ROOT_PATH`. An empty one counts as unset.
    ///
    /// # Errors
    /// [`Error`] for the first variable that cannot be followed.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |name: &'static str| get(name).filter(|value| !value.is_empty()).map(|value| (name, value));
        let refuse = |(name, value), wanted| Error::Malformed { name, value, wanted };
        let mut config = Self::default();
        if let Some(named) = get("DYN_HTTP_RPC_HOST") {
            let bare = named.1.trim_start_matches('[').trim_end_matches(']');
            config.bind.set_ip(bare.parse().map_err(|_| refuse(named, "an IP address"))?);
        }
        if let Some(named) = get("DYN_HTTP_RPC_PORT") {
            config.bind.set_port(named.1.parse().map_err(|_| refuse(named, "a port"))?);
        }
        if let Some(named) = get("DYN_HTTP_RPC_ROOT_PATH") {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
            if !named.1.starts_with('/') || !named.1.chars().all(plain) {
                return Err(refuse(named, "a path of letters, digits and -_.~ that begins with /"));
            }
            config.root = named.1.trim_end_matches('/').to_owned();
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config, Error> {
        Config::from_vars(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn variables_are_followed_and_what_cannot_be_is_named() {
        assert_eq!(read(&[("DYN_HTTP_RPC_HOST", "")]), Ok(Config::default()));
        let vars = [("DYN_HTTP_RPC_HOST", "[::1]"), ("DYN_HTTP_RPC_PORT", "8081"), ("DYN_HTTP_RPC_ROOT_PATH", "/rpc/")];
        let config = read(&vars).unwrap();
        assert_eq!((config.bind.to_string().as_str(), config.root.as_str()), ("[::1]:8081", "/rpc"));
        for (name, value, text) in [
            ("DYN_HTTP_RPC_HOST", "eth0", "DYN_HTTP_RPC_HOST is `eth0`, not an IP address"),
            ("DYN_HTTP_RPC_PORT", "99999", "DYN_HTTP_RPC_PORT is `99999`, not a port"),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap_err().to_string(), text);
        }
        assert!(read(&[("DYN_HTTP_RPC_ROOT_PATH", "v1")]).is_err());
        assert!(read(&[("DYN_HTTP_RPC_ROOT_PATH", "/a?b")]).is_err());
    }
}
