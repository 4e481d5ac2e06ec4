//! Which NATS server requests go by, and the bounds of both ends.

use std::time::Duration;

use async_nats::ConnectOptions;

use crate::nats::config::Config as Server;
use crate::vars::Error;

/// What reaches the server and bounds the requests that go by it, at a worker or at a caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Which server, and how to log in there.
    pub server: Server,
    /// How long a caller's request waits for a lost server to come back before it counts as not delivered. Default 1 s.
    pub outage: Duration,
    /// Requests that may wait to be handed to a core, per subject; the client library drops further ones, whose callers
    /// hear nothing before their own timeout. Default 1 024; each may be as large as the server allows.
    pub waiting: usize,
    /// Requests on their way between NATS and the cores at a time; of a caller as many more wait. Default 1 024.
    pub in_hand: usize,
    /// Bytes of their payloads at a worker; one larger request goes alone. Default 256 MiB.
    pub in_hand_bytes: usize,
    /// The longest that requests in hand may take to be answered when the worker leaves. Default 2 s.
    pub farewell: Duration,
    /// Whether a worker's components are micro services: see [`crate::service`]. Default yes. A user who may not subscribe to `$SRV.>`
    /// serves without them.
    pub services: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            outage: Duration::from_secs(1),
            waiting: 1024,
            in_hand: 1024,
            in_hand_bytes: 256 << 20,
            farewell: Duration::from_secs(2),
            services: true,
        }
    }
}

impl From<Server> for Config {
    /// By this server, with the default bounds.
    fn from(server: Server) -> Self {
        Self { server, ..Self::default() }
    }
}

impl Config {
    /// The default bounds, and the server that Dynamo's variables name: [`Server::from_vars`].
    ///
    /// # Errors
    /// As there.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        Server::from_vars(get).map(Self::from)
    }

    /// What a connection of either end is made with besides.
    pub(super) fn tune(&self, options: ConnectOptions) -> ConnectOptions {
        options.subscription_capacity(self.waiting).client_capacity(self.in_hand)
    }
}
