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

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::tests::net::{Mood, Net, millis, request, secs};

    #[test]
    fn a_view_tells_calls_in_flight_and_what_is_held_against_whom_for_how_long() {
        let mut net = Net::plain(2);
        net.sites[1].echoes = false;
        net.sites[2].mood = Mood::Refusing;
        let endpoint = net.endpoint(&[1, 2]);
        let calls = [net.call(endpoint, request("x")), net.call(endpoint, request("y"))];
        net.advance(millis(300));
        let now = net.now;
        let seen: Vec<InstanceView> = net.caller().view(endpoint, now).collect();
        let of = |index: usize| (seen[index].id.0, seen[index].protocol, seen[index].state, seen[index].avoided_by);
        assert_eq!([of(0), of(1)], [(1, "mux", State::Routable, 0), (2, "mux", State::Suspect, 1)]);
        assert_eq!((seen[0].in_flight, seen[1].in_flight, seen[0].remaining), (2, 0, None));
        assert!(seen[1].remaining.is_some_and(|left| left > millis(300) && left < secs(2)), "{seen:?}");
        let mut both = seen[0];
        both.merge(&InstanceView { id: both.id, ..seen[1] });
        assert_eq!((both.state, both.remaining, both.in_flight), (State::Suspect, seen[1].remaining, 2));
        assert_eq!((both.seen_by, both.avoided_by), (2, 1));
        net.caller().forget_endpoint(endpoint);
        assert_eq!(net.caller().view(endpoint, now).count(), 0);
        assert_eq!(calls.len(), 2);
    }

    #[test]
    fn a_worker_whose_idle_connection_breaks_is_known_to_be_gone_before_a_call_finds_out() {
        let mut net = Net::plain(2);
        let endpoint = net.endpoint(&[1, 2]);
        for body in ["x", "y"] {
            let call = net.call(endpoint, request(body));
            net.pump();
            assert_eq!(net.outcome(call), Ok(()));
            net.release(call);
        }
        let states = |net: &mut Net| -> Vec<State> {
            let now = net.now;
            net.caller().view(endpoint, now).map(|one| one.state).collect()
        };
        net.reset(1);
        net.pump();
        assert_eq!(states(&mut net), [State::Suspect, State::Routable]);
        let dials = net.sites[0].dials;
        let call = net.call(endpoint, request("z"));
        net.pump();
        assert_eq!((net.outcome(call), net.sites[0].dials), (Ok(()), dials), "it went to the one that is connected");
        // One that says goodbye is not gone for bad.
        net.advance(secs(2000));
        assert!(!states(&mut net).contains(&State::Suspect));
        net.release(call);
    }
}
