//! What can be seen of an endpoint's instances from outside: where each is, and what its calls have made of it.

use core::net::SocketAddr;
use core::time::Duration;

use crate::caller::machine::Caller;
use crate::caller::request::EndpointKey;
use crate::caller::target::Transport;
use crate::id::InstanceId;
use crate::route::health::State;
use crate::time::Instant;

/// One instance, as a caller sees it; merged, as several do.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct InstanceView {
    /// Which one.
    pub id: InstanceId,
    /// The address of its record. Requests go there if `protocol` is `mux` or `dynamo`.
    pub addr: SocketAddr,
    /// What is spoken with it: `mux`, `dynamo`, `dynamo-nats` or `dynamo-http`.
    pub protocol: &'static str,
    /// Where it stands; of several callers with the one that it stands worst with.
    pub state: State,
    /// How long that lasts if nothing happens.
    pub remaining: Option<Duration>,
    /// Calls to it that are not over.
    pub in_flight: u32,
    /// How many callers know it.
    pub seen_by: u32,
    /// How many of those prefer others to it now.
    pub avoided_by: u32,
}

impl InstanceView {
    /// Adds what another caller sees of the same instance.
    pub fn merge(&mut self, other: &Self) {
        if (other.state, other.remaining) > (self.state, self.remaining) {
            (self.state, self.remaining) = (other.state, other.remaining);
        }
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        self.seen_by += other.seen_by;
        self.avoided_by += other.avoided_by;
    }
}

impl Caller {
    /// What is known of each instance of the endpoint, in order of ids; nothing of an endpoint that is not known.
    pub fn view(&self, endpoint: EndpointKey, now: Instant) -> impl Iterator<Item = InstanceView> + '_ {
        self.endpoints.each(endpoint.0).map(move |(one, target)| {
            let (state, until) = one.health.state(now);
            let protocol = match target.transport {
                _ if self.config.uses_mux(target) => "mux",
                Transport::Tcp => "dynamo",
                Transport::Nats { .. } => "dynamo-nats",
                Transport::Http(_) => "dynamo-http",
            };
            InstanceView {
                id: one.id,
                addr: target.addr,
                protocol,
                state,
                remaining: until.map(|until| until.since(now)),
                in_flight: one.in_flight,
                seen_by: 1,
                avoided_by: u32::from(one.health.is_avoided(now)),
            }
        })
    }
}
