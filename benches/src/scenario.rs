//! What is measured: a scenario is data, read from TOML.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::content::Ask;

/// One traffic pattern, and the figure by which engines are compared on it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name on the command line; the file's name without `.toml`.
    pub name: String,
    /// What it shows, in one line.
    pub about: String,
    /// The figure that is compared.
    pub headline: Headline,
    /// Connections in use. Worker `w` of the closed loop stays on connection `w % connections`.
    #[serde(default = "one")]
    pub connections: usize,
    /// Calls under way at a time.
    pub in_flight: usize,
    /// Bytes of a request, at least [`Ask::LEN`].
    #[serde(default = "default_request")]
    pub request_bytes: usize,
    /// Items of an answer.
    #[serde(default = "one")]
    pub items: usize,
    /// Bytes of an item.
    pub item_bytes: usize,
    /// Microseconds between two items of a call, by the server's clock; 0: as fast as the reader takes them.
    #[serde(default)]
    pub gap_us: u64,
    /// Calls started each second whatever becomes of them (open loop); 0: each worker starts its next call when the last
    /// one has ended (closed loop).
    #[serde(default)]
    pub rate: u64,
    /// Whether both sides poll before they sleep.
    #[serde(default)]
    pub polling: Polling,
    /// Calls on connection 0 whose reader takes an item each [`SLOW_GAP`] of an answer that does not end.
    #[serde(default)]
    pub slow_readers: usize,
    /// Connections beside those in use, opened before the start by one call each, then left alone.
    #[serde(default)]
    pub idle: usize,
    /// Each call dials a connection and closes it after.
    #[serde(default)]
    pub churn: bool,
    /// Calls that run beside the measured ones, on connection 0, closed loop.
    #[serde(default)]
    pub background: Option<Background>,
    /// The scenario that shows the same without the disturbance.
    #[serde(default)]
    pub baseline: Option<String>,
    /// Seconds to measure, times what the command line says. Default 1.
    #[serde(default = "unit")]
    pub length: f64,
    /// Engines that run it when none are asked for, as prefixes of names; empty: all.
    #[serde(default)]
    pub engines: Vec<String>,
}

/// Calls beside the measured ones.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Background {
    /// Calls under way at a time.
    pub in_flight: usize,
    /// Bytes of a request, at least [`Ask::LEN`].
    pub request_bytes: usize,
    /// Items of an answer.
    pub items: usize,
    /// Bytes of an item.
    pub item_bytes: usize,
}

/// Whether the sides of an engine look for work again and again before they sleep.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Polling {
    /// As the engine does it if nobody says otherwise.
    #[default]
    Usual,
    /// Never: they sleep as soon as nothing is left to do.
    Never,
    /// Always: they do not sleep.
    Always,
}

/// The figure by which engines are compared.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Headline {
    /// Calls per second; more is better.
    Calls,
    /// Items per second; more is better.
    Items,
    /// Bytes of requests and items per second; more is better.
    Bytes,
    /// Median latency of a call; less is better.
    CallP50,
    /// 99th percentile of the gap error of paced items; less is better.
    GapP99,
}

impl Headline {
    /// Whether more is better.
    pub const fn is_rate(self) -> bool {
        matches!(self, Self::Calls | Self::Items | Self::Bytes)
    }
}

/// How long a slow reader waits between two items.
pub const SLOW_GAP: Duration = Duration::from_millis(10);
/// Bytes of an item of a slow reader's answer.
pub const SLOW_ITEM: usize = 4096;

const fn one() -> usize {
    1
}

const fn unit() -> f64 {
    1.0
}

const fn default_request() -> usize {
    256
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        let requests = [Some(self.request_bytes), self.background.map(|background| background.request_bytes)];
        if requests.into_iter().flatten().any(|bytes| bytes < Ask::LEN) {
            return Err(format!("{}: a request needs at least {} bytes", self.name, Ask::LEN));
        }
        if self.connections == 0 || self.in_flight == 0 || self.items == 0 {
            return Err(format!("{}: connections, in_flight and items must be at least 1", self.name));
        }
        if self.connections + self.idle > MAX_CONNECTIONS {
            return Err(format!("{}: at most {MAX_CONNECTIONS} connections", self.name));
        }
        Ok(())
    }

    /// Time between two items of a call, if they are paced.
    pub const fn gap(&self) -> Option<Duration> {
        if self.gap_us == 0 { None } else { Some(Duration::from_micros(self.gap_us)) }
    }

    /// The largest request or item on either side.
    pub fn largest(&self) -> usize {
        let background = self.background.map_or(0, |background| background.request_bytes.max(background.item_bytes));
        let slow = if self.slow_readers > 0 { SLOW_ITEM } else { 0 };
        self.request_bytes.max(self.item_bytes).max(background).max(slow)
    }

    /// Whether its sides are not to sleep, which only some engines can do.
    pub const fn spins(&self) -> bool {
        matches!(self.polling, Polling::Always)
    }

    /// Connections in use and idle.
    pub const fn all_connections(&self) -> usize {
        self.connections + self.idle
    }
}

/// How many connections [`address`] tells apart.
pub const MAX_CONNECTIONS: usize = 200 * 200;

/// A loopback address of connection `index` to a server that listens on every address: distinct addresses make distinct
/// connections for callers that keep one per address, and leave the ports of one address alone when connections churn.
pub const fn address(server: SocketAddr, index: usize) -> SocketAddr {
    let index = index % MAX_CONNECTIONS;
    let ip = Ipv4Addr::new(127, 1, (1 + index / 200) as u8, (1 + index % 200) as u8);
    SocketAddr::new(IpAddr::V4(ip), server.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_named() {
        let text = "name = 'x'\nabout = ''\nheadline = 'calls'\nin_flight = 1\nitem_bytes = 1\nspeed = 3";
        assert!(Scenario::parse(text).unwrap_err().contains("speed"));
    }

    #[test]
    fn a_request_too_small_for_its_question_is_refused() {
        let text = "name = 'x'\nabout = ''\nheadline = 'calls'\nin_flight = 1\nitem_bytes = 1\nrequest_bytes = 3";
        assert!(Scenario::parse(text).unwrap_err().contains("24 bytes"));
    }

    #[test]
    fn connections_have_addresses_of_their_own() {
        let server = SocketAddr::from(([0, 0, 0, 0], 7));
        let all: std::collections::BTreeSet<_> = (0..MAX_CONNECTIONS).map(|index| address(server, index)).collect();
        assert_eq!(all.len(), MAX_CONNECTIONS);
    }
}
