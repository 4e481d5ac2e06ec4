//! Limits and time bounds of a caller.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use crate::caller::dynamo::carrier;
use crate::caller::front;
use crate::caller::target::{Target, Transport};
use crate::dynamo::{items, request, response};
use crate::mux;
use crate::mux::config::ConfigError;
use crate::overload::throttle;
use crate::retry::{backoff, budget};
use crate::route::rules;

/// Which protocol a call uses.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum Dialect {
    /// Mux where the instance offers it, Dynamo's request plane otherwise.
    #[default]
    Auto,
    /// Mux only; an instance that takes requests by NATS or HTTP only is called in Dynamo's protocol all the same.
    Mux,
    /// Dynamo's request plane only: a request connection, and one call-home connection per call.
    CallHome,
}

/// How responses reach the caller in Dynamo's request plane: the worker dials back to it, which Dynamo names a call-home.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CallHome {
    /// What the listener binds, one listener per core, opened with the first call that needs it. Default 127.0.0.1 and
    /// any port: workers on other hosts need another address.
    pub bind: SocketAddr,
    /// What workers are told to dial, if not the bound address. Needed with a wildcard in `bind`. Default none.
    pub advertise: Option<IpAddr>,
    /// Bytes of one response that lie unread, each item counted with 64 more, beyond which nothing more of it is received until
    /// half of them are left: the worker waits. Default 64 MiB. What had been received by then is taken all the same; with
    /// more than 64 MiB of that the call ends with `SlowReader`.
    pub max_unread: usize,
    /// From the ack of a request to the first word of its response. Default 60 s. Dynamo has no such bound.
    pub response_timeout: Duration,
    /// The same again, and an instance that is late is avoided like one that cannot be reached. Default none: a worker may
    /// have a call wait for its turn that long, and is not to blame. Dynamo 1.7's
    /// `DYN_RESPONSE_STREAM_ESTABLISH_TIMEOUT_SECS`.
    pub establish_timeout: Option<Duration>,
    /// How long a call that a worker has taken may wait for the first word of its response once the connection that brought it
    /// there is lost. A worker that was killed takes both with it; one that still runs dials within a moment. Default 1 s.
    pub lost_timeout: Duration,
}

impl Default for CallHome {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            advertise: None,
            max_unread: 64 << 20,
            response_timeout: Duration::from_secs(60),
            establish_timeout: None,
            lost_timeout: Duration::from_secs(1),
        }
    }
}

impl CallHome {
    /// The longest that is waited for the first word of a response.
    pub(super) fn patience(&self) -> Duration {
        self.establish_timeout.map_or(self.response_timeout, |bound| bound.min(self.response_timeout))
    }

    /// Whether an instance that has used that time up is held to be lost.
    pub(super) fn blames_the_late(&self) -> bool {
        self.establish_timeout.is_some_and(|bound| bound <= self.response_timeout)
    }
}

/// What bounds a caller on one core.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Config {
    /// Calls that may be under way at once; further ones fail at once. Default 65 536.
    pub max_calls: usize,
    /// Bytes of items of requests that wait to be written, on all connections together; beyond, `send` waits, but for the
    /// first 16 KiB of each connection. Default 256 MiB; an item larger than half of it is taken once half is free. A request
    /// that was given whole is not counted: its call keeps it.
    pub max_outgoing: usize,
    /// Connections to one address. Default 1: calls on one connection are far cheaper than on many.
    pub connections_per_address: usize,
    /// From dialing to being connected. Default 5 s.
    pub connect_timeout: Duration,
    /// From writing a call to the worker's first sign of life; also the longest to wait for a free stream on a connection
    /// that is up. Default 5 s.
    pub accept_timeout: Duration,
    /// The longest gap without an item or a sign of life once accepted. Default 120 s. A queued call that is told so is
    /// not silent.
    pub item_timeout: Duration,
    /// The longest to wait for an instance to appear, or for one to come back when all that are known are down. Default 5 s.
    pub instance_timeout: Duration,
    /// Time for a whole call unless the call says otherwise. Default none: a stream may run for as long as items flow.
    pub deadline: Option<Duration>,
    /// A connection without calls is closed after this long. Default 300 s.
    pub idle_timeout: Duration,
    /// Pauses between tries of one call.
    pub backoff: backoff::Config,
    /// How many retries all calls together may add.
    pub budget: budget::Config,
    /// How the health of instances is judged.
    pub health: rules::Config,
    /// A call that an instance fails or refuses counts on as in flight there for so long, and its latency as at least that:
    /// what fails at once is not fast. A worker's advice on when to come back takes its place, up to 60 s. Default 1 s; zero
    /// switches it off.
    pub penalty: Duration,
    /// How calls wait for a free place while every instance is full; by default none does.
    pub front: front::Config,
    /// Turns calls away here while too many of their endpoint's are refused. Default none.
    pub throttle: Option<throttle::Config>,
    /// What bounds each connection.
    pub mux: mux::Config,
    /// Which protocol calls use.
    pub dialect: Dialect,
    /// How responses in Dynamo's request plane reach this caller.
    pub call_home: CallHome,
    /// Accepted connections that have not said whose response they bring; beyond, the oldest of them is closed. Default
    /// 4096.
    pub max_unclaimed: usize,
    /// What bounds each request connection.
    pub requests: request::client::Config,
    /// What bounds requests that NATS or HTTP bring to workers.
    pub carriers: carrier::Config,
    /// What bounds each connection that brings a response.
    pub responses: response::receiver::Config,
    /// What bounds each connection that fetches the items of a request.
    pub items: items::sender::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_calls: 65_536,
            max_outgoing: 256 << 20,
            connections_per_address: 1,
            connect_timeout: Duration::from_secs(5),
            accept_timeout: Duration::from_secs(5),
            item_timeout: Duration::from_secs(120),
            instance_timeout: Duration::from_secs(5),
            deadline: None,
            idle_timeout: Duration::from_secs(300),
            backoff: backoff::Config::default(),
            budget: budget::Config::default(),
            health: rules::Config::default(),
            penalty: Duration::from_secs(1),
            front: front::Config::default(),
            throttle: None,
            mux: mux::Config::default(),
            dialect: Dialect::default(),
            call_home: CallHome::default(),
            max_unclaimed: 4096,
            requests: request::client::Config::default(),
            carriers: carrier::Config::default(),
            responses: response::receiver::Config::default(),
            items: items::sender::Config::default(),
        }
    }
}

impl Config {
    /// Whether the values can work: no bound may be zero.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        let zeroes = [
            ("max_calls", self.max_calls == 0),
            ("max_outgoing", self.max_outgoing == 0),
            ("connections_per_address", self.connections_per_address == 0),
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("accept_timeout", self.accept_timeout.is_zero()),
            ("item_timeout", self.item_timeout.is_zero()),
            ("instance_timeout", self.instance_timeout.is_zero()),
            ("idle_timeout", self.idle_timeout.is_zero()),
            ("front.max_wait", self.front.max_wait.is_zero()),
            ("throttle.window", self.throttle.is_some_and(|throttle| throttle.window.is_zero())),
            ("max_unclaimed", self.max_unclaimed == 0),
            ("response_timeout", self.call_home.response_timeout.is_zero()),
            ("lost_timeout", self.call_home.lost_timeout.is_zero()),
            ("establish_timeout", self.call_home.establish_timeout.is_some_and(|bound| bound.is_zero())),
            ("max_unacked", self.requests.max_unacked == 0 || self.carriers.max_unacked == 0),
            ("nats_timeout", self.carriers.nats_timeout.is_zero()),
            ("http_timeout", self.carriers.http_timeout.is_zero()),
        ];
        match zeroes.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(ConfigError::Zero(name)),
            None => self.mux.validate(),
        }
    }
}

impl Config {
    /// Whether a call to `target` goes over mux.
    pub(super) fn uses_mux(&self, target: &Target) -> bool {
        match self.dialect {
            _ if target.transport != Transport::Tcp => false,
            Dialect::Auto => target.mux,
            Dialect::Mux => true,
            Dialect::CallHome => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_work_and_what_is_zero_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let config = Config { idle_timeout: Duration::ZERO, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::Zero("idle_timeout")));
        let mux = mux::Config { max_streams: 0, ..mux::Config::default() };
        let config = Config { mux, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::MaxStreams));
    }
}
