//! Limits and time bounds of a worker.

use core::net::IpAddr;
use core::time::Duration;

use crate::buf::room::FLOOR;
use crate::dynamo::{items, request, response};
use crate::mux;
use crate::mux::config::ConfigError;
use crate::overload::gradient;
use crate::worker::canary;

/// What bounds a worker on one core.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Config {
    /// Calls that may run at once. Default 4 096.
    pub max_running: usize,
    /// Calls that may wait for one of those to finish; further ones are refused at once, or take the place of one that has to give
    /// way: of lower priority, or of a tenant that has more waiting. Default 64.
    pub max_queued: usize,
    /// Percent of `max_running` and of `max_queued` that calls from one connection may hold, and 256 of each in any case;
    /// further ones are refused at once, while others still get in. Default 25; 100 leaves all to the connection that comes first.
    pub share: u8,
    /// Percent of `max_running` and of `max_queued` that calls for one endpoint may hold, and one of each in any case: further ones
    /// wait while others pass, or are refused. Default 100.
    pub endpoint_share: u8,
    /// The longest that a call may wait for its turn; it is refused then. Default 60 s.
    pub max_wait: Duration,
    /// Of a queue whose oldest has waited longer than this for `wait_interval`, the newest are served first. Default 500 ms.
    pub wait_target: Duration,
    /// See `wait_target`. Default 5 s.
    pub wait_interval: Duration,
    /// Bytes of requests under way that no credit covers: the headers of calls that run or wait, and the bodies of requests in
    /// Dynamo's protocol until their handler reads them; a request that finds no room is refused. Those of one connection
    /// may take a quarter. Default 256 MiB; a request larger than half of what there is is taken once half is free.
    pub max_request_bytes: usize,
    /// The time between two reports of load on one connection, at least; they go with ends of replies, refusals and pongs. Default
    /// 100 ms; zero: with each; `None`: never.
    pub report_every: Option<Duration>,
    /// Finds how many calls may run by what running more of them costs, from `max_running` downwards. Default none.
    pub adaptive: Option<gradient::Config>,
    /// When a refused caller is advised to come back, at the earliest: the advice is the time until the queue has moved on by its
    /// length, as it moves now. Default 100 ms.
    pub retry_after: Duration,
    /// The same, at the latest. Default 5 s; below `retry_after` it wins.
    pub max_retry_after: Duration,
    /// Bytes of items of answers that wait to be written, on all connections together; beyond, `send` waits, but for the
    /// first 16 KiB of each connection. Default 256 MiB; an item larger than half of it is taken once half is free.
    pub max_outgoing: usize,
    /// The longest a drain may take, running calls and farewells included. Default 30 s.
    pub drain_timeout: Duration,
    /// When endpoints are sent requests of the worker's own, to see whether they answer.
    pub canary: canary::Config,
    /// What bounds each connection.
    pub mux: mux::Config,
    /// What bounds each request connection of a Dynamo caller.
    pub requests: request::server::Config,
    /// What bounds each connection that this worker dials for an answer (a call-home).
    pub responses: response::sender::Config,
    /// What bounds each connection on which this worker fetches the items of a request.
    pub items: items::receiver::Config,
    /// The addresses that a request may name for its answer, beside the requester's own: for requesters behind an address
    /// translation, or with several addresses. Default none. A requester on this host may name any address; it is one that
    /// comes over the loopback, or from the very address it has dialed. Behind a proxy on this host everybody looks like
    /// that.
    pub call_home: [Option<Prefix>; 8],
    /// The longest the dial of a call-home connection may take. Default 5 s.
    pub dial_timeout: Duration,
    /// How often such a dial is tried again for want of descriptors or ports. Default 8.
    pub redials: u32,
    /// The pause before each. Default 100 ms.
    pub redial_pause: Duration,
    /// Bytes of request frames that have come in part, on all connections of Dynamo callers together; beyond, the frame that
    /// has been under way longest is refused and its connection closed. Default 1 GiB.
    pub max_partial: usize,
    /// Call-home connections that may bring a refusal at once; further requests are refused in the ack. Default
    /// 256.
    pub max_refusals: usize,
}

/// A range of addresses: all that begin with the first `bits` bits of `addr`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Prefix {
    /// Any address of the range.
    pub addr: IpAddr,
    /// How many leading bits count; 0 means all addresses of the family.
    pub bits: u8,
}

/// The leading bits of an IPv4 address that is written as IPv6.
const MAPPED: u32 = 96;

impl Prefix {
    /// Whether `addr` lies in the range. An IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) counts as IPv4, in the
    /// range as well.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let (mut range, mut bits) = (self.addr, u32::from(self.bits));
        if range.is_ipv6() && range.to_canonical().is_ipv4() && bits >= MAPPED {
            (range, bits) = (range.to_canonical(), bits - MAPPED);
        }
        match (range, addr.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differ = ours.to_bits() ^ theirs.to_bits();
                differ.leading_zeros() >= bits.min(32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differ = ours.to_bits() ^ theirs.to_bits();
                differ.leading_zeros() >= bits.min(128)
            }
            _ => false,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_running: 4096,
            max_queued: 64,
            share: 25,
            endpoint_share: 100,
            max_wait: Duration::from_secs(60),
            wait_target: Duration::from_millis(500),
            wait_interval: Duration::from_secs(5),
            max_request_bytes: 256 << 20,
            report_every: Some(Duration::from_millis(100)),
            adaptive: None,
            retry_after: Duration::from_millis(100),
            max_retry_after: Duration::from_secs(5),
            max_outgoing: 256 << 20,
            drain_timeout: Duration::from_secs(30),
            canary: canary::Config::default(),
            mux: mux::Config::default(),
            requests: request::server::Config::default(),
            responses: response::sender::Config::default(),
            items: items::receiver::Config::default(),
            call_home: [None; 8],
            dial_timeout: Duration::from_secs(5),
            redials: 8,
            redial_pause: Duration::from_millis(100),
            max_partial: 1 << 30,
            max_refusals: 256,
        }
    }
}

/// The places one connection may hold in any case: a share of a small worker would be none.
const LEAST_SHARE: usize = 256;
/// Memory beside items and headers that a stream takes, with the call on it.
const STREAM: u64 = 1024;

impl Config {
    /// How much of `limit` one connection may hold.
    pub(super) fn share_of(&self, limit: usize) -> usize {
        let share = limit.saturating_mul(self.share.into()) / 100;
        share.max(LEAST_SHARE).min(limit)
    }

    /// How much of `limit` calls for one endpoint may hold.
    pub(super) fn endpoint_share_of(&self, limit: usize) -> usize {
        let share = limit.saturating_mul(self.endpoint_share.into()) / 100;
        share.max(1).min(limit)
    }

    /// How many calls for one endpoint may run on so many cores: what its record says.
    pub fn capacity(&self, cores: usize) -> u32 {
        let all = self.endpoint_share_of(self.max_running).saturating_mul(cores);
        u32::try_from(all).unwrap_or(u32::MAX)
    }

    /// The most memory a worker takes on one core, in bytes: for each connection, and for all together. What handlers make
    /// and hold is theirs: at most `max_running` of them run, and each has one item in hand while it waits to send it. What
    /// drivers take is theirs as well. One item may exceed a sum by half of that sum or by its own length.
    pub const fn most_memory(&self) -> (u64, u64) {
        let mux = &self.mux;
        let unread = mux.connection_window as u64 + mux.reserve_pool;
        let fetched = (self.items.max_unread + self.items.max_item) as u64;
        let more = if unread > fetched { unread } else { fetched };
        let each = more + mux.max_streams as u64 * STREAM + FLOOR as u64;
        (each, (self.max_outgoing + self.max_request_bytes + self.max_partial) as u64)
    }

    /// Whether the values can work: no bound may be zero.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        let zeroes = [
            ("max_running", self.max_running == 0),
            ("share", self.share == 0),
            ("endpoint_share", self.endpoint_share == 0),
            ("max_wait", self.max_wait.is_zero()),
            ("adaptive.least", self.adaptive.is_some_and(|adaptive| adaptive.least == 0)),
            ("adaptive.window", self.adaptive.is_some_and(|adaptive| adaptive.window.is_zero())),
            ("max_request_bytes", self.max_request_bytes == 0),
            ("max_outgoing", self.max_outgoing == 0),
            ("drain_timeout", self.drain_timeout.is_zero()),
            ("canary.wait", self.canary.wait.is_zero()),
            ("canary.timeout", self.canary.timeout.is_zero()),
            ("dial_timeout", self.dial_timeout.is_zero()),
            ("redial_pause", self.redial_pause.is_zero()),
            ("max_partial", self.max_partial == 0),
            ("requests.max_message", self.requests.max_message == 0),
            ("requests.max_acks", self.requests.max_acks == 0),
            ("items.max_item", self.items.max_item == 0),
            ("items.item_timeout", self.items.item_timeout.is_zero()),
            ("items.frame_timeout", self.items.frame_timeout.is_zero()),
        ];
        match zeroes.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(ConfigError::Zero(name)),
            None => self.mux.validate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_its_own_range_and_family_only() {
        let prefix = |addr: &str, bits| Prefix { addr: addr.parse().unwrap(), bits };
        let holds = |prefix: Prefix, addr: &str| prefix.contains(addr.parse().unwrap());
        assert!(holds(prefix("10.1.0.0", 16), "10.1.255.3") && !holds(prefix("10.1.0.0", 16), "10.2.0.0"));
        assert!(holds(prefix("0.0.0.0", 0), "1.2.3.4") && !holds(prefix("0.0.0.0", 0), "::1"));
        assert!(holds(prefix("fd00::", 8), "fd12::1") && !holds(prefix("fd00::1", 128), "fd00::2"));
        let mapped = prefix("::ffff:10.1.0.0", 112);
        assert!(holds(mapped, "10.1.255.3") && holds(mapped, "::ffff:10.1.0.1") && !holds(mapped, "10.2.0.0"));
        assert!(holds(prefix("10.1.0.0", 16), "::ffff:10.1.0.1") && !holds(prefix("::", 0), "10.1.0.1"));
    }

    #[test]
    fn the_defaults_can_work_and_what_is_zero_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let config = Config { drain_timeout: Duration::ZERO, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::Zero("drain_timeout")));
        let half = Config { endpoint_share: 50, ..Config::default() };
        assert_eq!(
            (Config::default().capacity(2), half.capacity(2), half.capacity(usize::MAX)),
            (8192, 4096, u32::MAX)
        );
        let mux = mux::Config { max_streams: 0, ..mux::Config::default() };
        let config = Config { mux, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::MaxStreams));
    }
}
