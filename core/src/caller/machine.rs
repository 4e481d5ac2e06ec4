//! The caller machine: commands and events. How a call finds its stream is in `dispatch`, what time does to it in `timeouts`.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::net::SocketAddr;
use core::time::Duration;

use crate::buf::send_queue::SendQueue;
use crate::buf::slab::{Key, Slab};
use crate::buf::wheel::{TimerId, Wheel};
use crate::caller::call::Call;
use crate::caller::config::Config;
use crate::caller::dynamo::call_home::CallHome;
use crate::caller::dynamo::window::Window;
use crate::caller::endpoints::Endpoints;
use crate::caller::front::FRONT_TOKEN;
use crate::caller::line::Line;
use crate::caller::pool::{Loss, Pool, Speaks};
use crate::caller::request::{CallId, EndpointKey, Event};
use crate::caller::stats::{Footprint, Stats};
use crate::caller::target::Target;
use crate::dynamo::request::client::Client;
use crate::id::{ConnId, ConnRole, InstanceId};
use crate::links::{LINK_TOKEN, Link, Writer};
use crate::mux::config::Config as MuxConfig;
use crate::mux::connection::Connection;
use crate::mux::event::{Role, Stats as MuxStats};
use crate::observer::Observer;
use crate::protocol::{Action, CloseReason, Fault, Protocol};
use crate::retry::budget::Budget;
use crate::rng::Rng;
use crate::route::census::{Sizes, Stats as HealthStats};
use crate::route::policy::any::AnyPolicy;
use crate::time::{Deadline, Instant};

/// The caller of one core. See [`Protocol`] for how to drive it.
///
/// # Deadlines
/// Per call the earliest of `CallDeadline`, `Retry`, `NoInstance`, `DownMark`, `QueueWait`, `Accept`, `Response` and `ItemGap`; per
/// connection `Connect`, `Idle` and the connection's own; one `Place` for all calls that wait for one.
pub struct Caller {
    pub(super) config: Config,
    /// Its part for connections, which all share it.
    mux: Arc<MuxConfig>,
    pub(super) rng: Rng,
    pub(super) endpoints: Endpoints,
    pub(super) pool: Pool,
    pub(super) call_home: CallHome,
    pub(super) window: Window,
    pub(super) calls: Slab<Call>,
    pub(super) wheel: Wheel,
    /// When time makes a place free for calls that wait for one.
    pub(super) front_timer: Option<TimerId>,
    pub(super) events: VecDeque<Event>,
    pub(super) budget: Budget,
    pub(super) stats: Stats,
    pub(super) observer: Option<Rc<dyn Observer>>,
    /// What mux connections that are gone have counted.
    mux_gone: MuxStats,
    pub(super) closing: bool,
    closed_told: bool,
}

impl Caller {
    /// A caller that knows no endpoint yet. `seed` drives jitter and random choice. It is
    /// secret: the subjects of responses in Dynamo's protocol follow from it, and a stranger that guesses a subject can send
    /// a response of its own.
    pub fn new(config: Config, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let key = [rng.next_u64(), rng.next_u64()];
        Self {
            config,
            mux: Arc::new(config.mux),
            rng,
            endpoints: Endpoints::new(config.health),
            pool: Pool::new(config.max_outgoing),
            call_home: CallHome::new(key),
            window: Window::new(config.carriers),
            calls: Slab::new(),
            wheel: Wheel::default(),
            front_timer: None,
            events: VecDeque::new(),
            budget: Budget::new(config.budget),
            stats: Stats::default(),
            observer: None,
            mux_gone: MuxStats::default(),
            closing: false,
            closed_told: false,
        }
    }

    /// Has calls watched from now on; those under way are told of from their next step on.
    pub fn observe(&mut self, observer: Rc<dyn Observer>) {
        self.observer = Some(observer);
    }

    /// An endpoint to call, with the policy that picks among its instances.
    pub fn endpoint(&mut self, policy: AnyPolicy) -> EndpointKey {
        EndpointKey(self.endpoints.insert(policy))
    }

    /// What [observers](Self::observe) are told that an endpoint is called: `namespace.component.endpoint`. Empty before.
    pub fn name(&mut self, endpoint: EndpointKey, name: &str) {
        self.endpoints.set_name(endpoint.0, name);
    }

    /// Lets go of an endpoint. Its calls under way go on; those that wait for an instance find none within their bounds.
    pub fn forget_endpoint(&mut self, endpoint: EndpointKey) {
        self.endpoints.discard(endpoint.0);
    }

    /// Whether calls of the endpoint are under way. One that pauses before its next try is not counted.
    pub fn is_called(&self, endpoint: EndpointKey) -> bool {
        self.endpoints.is_called(endpoint.0, &self.calls)
    }

    /// How many endpoints it knows.
    pub const fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// The endpoint's instances, all of them. Calls under way are not touched; waiting ones go out.
    pub fn set_instances(
        &mut self,
        endpoint: EndpointKey,
        snapshot: impl IntoIterator<Item = (InstanceId, Target)>,
        now: Instant,
    ) {
        if self.endpoints.update(endpoint.0, snapshot, now) {
            self.dispatch_waiting(endpoint, now);
        }
        self.serve_front(endpoint.0, now);
    }

    /// One more instance of the endpoint, or news of one. Calls under way are not touched; waiting ones go out.
    pub fn add_instance(&mut self, endpoint: EndpointKey, id: InstanceId, target: Target, now: Instant) {
        self.endpoints.add(endpoint.0, id, target);
        self.dispatch_waiting(endpoint, now);
        self.serve_front(endpoint.0, now);
    }

    /// The endpoint has an instance less. Calls under way are not touched.
    pub fn remove_instance(&mut self, endpoint: EndpointKey, id: InstanceId, now: Instant) {
        self.endpoints.remove(endpoint.0, id, now);
        self.serve_front(endpoint.0, now);
    }

    /// What the application knows of an instance, for policies: `name` is `value` for `lasting`. Whether it is kept: not of an
    /// instance that is unknown, nor beyond [`MAX_FACTS`](crate::route::facts::MAX_FACTS) of one.
    pub fn set_fact(
        &mut self,
        endpoint: EndpointKey,
        id: InstanceId,
        fact: (&str, i64),
        lasting: Duration,
        now: Instant,
    ) -> bool {
        let kept = self.endpoints.set_fact(endpoint.0, id, fact, lasting, now);
        // A filter may have kept calls from a free place.
        self.serve_front(endpoint.0, now);
        kept
    }

    /// Calls that wait for an instance go out.
    fn dispatch_waiting(&mut self, endpoint: EndpointKey, now: Instant) {
        for call in self.endpoints.take_waiting(endpoint.0) {
            let Some(entry) = self.calls.get_mut(call.0) else { continue };
            entry.listed = false;
            // One that was tried meanwhile is under way.
            if entry.is_waiting() {
                self.dispatch(call, now);
            }
        }
    }

    /// How many instances of the endpoint are known.
    pub fn instances(&self, endpoint: EndpointKey) -> usize {
        self.endpoints.instances(endpoint.0)
    }

    /// No new calls. The ones under way finish, connections close behind them, then [`Event::Closed`].
    pub fn shutdown(&mut self, now: Instant) {
        self.closing = true;
        for link in self.pool.links.keys() {
            self.leave_if_idle(link, now);
        }
        self.tell_closed();
    }

    /// Connections, calls and bytes held: all zero when idle.
    pub fn footprint(&self) -> Footprint {
        let (connections, calls) = (self.pool.links.len() as u64, self.calls.len() as u64);
        let mut footprint = Footprint { connections, calls, ..Footprint::default() };
        footprint.outgoing = self.pool.links.outgoing() as u64;
        footprint.waiting = self.endpoints.waiting() as u64;
        for mux in self.pool.links.iter().filter_map(|(_, link)| Link::mux(link)) {
            footprint.streams += mux.streams() as u64;
            footprint.held += mux.held();
            footprint.reserved += mux.reserved();
        }
        footprint
    }

    /// Counters.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What has happened to the health of all instances.
    pub fn health(&self) -> HealthStats {
        self.endpoints.stats()
    }

    /// How many instances are in which state, at all endpoints.
    pub fn sizes(&self, now: Instant) -> Sizes {
        self.endpoints.sizes(now)
    }

    /// What all mux connections have counted, those that are gone too.
    pub fn mux_stats(&self) -> MuxStats {
        let mut sum = self.mux_gone;
        self.pool.links.iter().filter_map(|(_, link)| Link::mux(link)).for_each(|mux| sum.merge(mux.stats()));
        sum
    }

    /// Tells those who waited for room beside others that it is their turn.
    fn call_writers(&mut self) {
        while let Some(writer) = self.pool.links.poll_writer() {
            let call = match writer {
                Writer::Stream(tag) => Some(CallId(Key::from_u64(tag))),
                Writer::Link(link) => self.pool.call(link),
            };
            self.events.extend(call.map(Event::Writable));
        }
    }

    pub(super) const fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn tell_closed(&mut self) {
        if self.closing && self.calls.is_empty() && self.pool.links.len() == 0 && !self.closed_told {
            self.closed_told = true;
            self.events.push_back(Event::Closed);
        }
    }
}

impl core::fmt::Debug for Caller {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Caller").field("footprint", &self.footprint()).finish_non_exhaustive()
    }
}

impl Caller {
    /// What the machine calls a connection.
    fn key_of(&self, conn: ConnId) -> Option<Key> {
        match conn.role() {
            ConnRole::AcceptedHome => self.call_home.link(conn.number()),
            _ => Some(Key::from_u64(conn.number())),
        }
    }
}

impl Protocol for Caller {
    type Event = Event;

    fn handle_listening(&mut self, outcome: Result<SocketAddr, CloseReason>, now: Instant) {
        self.on_listening(outcome, now);
    }

    fn handle_open(&mut self, conn: ConnId, _: Option<SocketAddr>, now: Instant) {
        let Some(key) = self.key_of(conn) else { return self.on_call_home(conn, now) };
        let requests = self.config.requests;
        if let Some(link) = self.pool.links.get_mut(key)
            && let Some(dialed) = link.dialed().filter(|dialed| !dialed.is_lost())
        {
            link.line = Some(match dialed.place.speaks {
                Speaks::Mux => Line::Mux(Box::new(Connection::shared(Role::Dialer, self.mux.clone(), now))),
                Speaks::Requests => Line::Requests(Box::new(Client::new(requests, now))),
            });
            self.settle(key, now);
        }
    }

    fn handle_recv(&mut self, conn: ConnId, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let Some(key) = self.key_of(conn) else { return Ok(()) };
        let outcome = match self.pool.links.line(key) {
            Some(Line::Mux(mux)) => mux.handle_recv(bytes, now),
            Some(Line::Requests(_)) => self.take_acks(key, bytes, now),
            Some(Line::Answers(_)) => self.take_response(key, bytes, now),
            // The worker only reads here.
            Some(Line::Items(_)) => Err(Fault::State),
            None => return Ok(()),
        };
        if let Err(fault) = outcome {
            self.on_fault(key, fault, now);
        }
        self.settle(key, now);
        outcome
    }

    fn handle_sent(&mut self, conn: ConnId, bytes: usize, now: Instant) {
        let Some(key) = self.key_of(conn) else { return };
        self.pool.links.handle_sent(key, bytes, now);
        // It closes once all is written.
        if matches!(self.pool.links.line(key), Some(Line::Items(_))) {
            self.settle_link(key, now);
        }
    }

    fn handle_close(&mut self, conn: ConnId, why: CloseReason, now: Instant) {
        let Some(key) = self.key_of(conn) else { return };
        self.pool.links.close(key);
        self.lose_link(key, Loss::Closed(why), now);
        if let Some(Line::Mux(mux)) = self.pool.links.remove(key, &mut self.wheel).and_then(|link| link.line) {
            self.mux_gone.merge(mux.stats());
        }
        if conn.role() == ConnRole::AcceptedHome {
            self.call_home.on_closed(conn.number());
        }
        self.tell_closed();
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some((token, _why)) = self.wheel.expire(now) {
            if token == FRONT_TOKEN {
                self.on_front_timeout(now);
            } else if token & LINK_TOKEN == 0 {
                self.on_call_timeout(CallId(Key::from_u64(token)), now);
            } else {
                self.on_link_timeout(Key::from_u64(token & !LINK_TOKEN), now);
            }
        }
    }

    fn poll_ready(&mut self) -> Option<ConnId> {
        self.pool.links.poll_ready()
    }

    fn writers(&self) -> usize {
        self.pool.links.writers()
    }

    fn poll_transmit(&mut self, conn: ConnId, out: &mut SendQueue, now: Instant) -> bool {
        let Some(key) = self.key_of(conn) else { return false };
        let wrote = self.pool.links.poll_transmit(key, out, now);
        let writable = match self.pool.links.line(key) {
            Some(Line::Items(feeder)) => feeder.take_writable(),
            _ => false,
        };
        if writable {
            self.events.extend(self.pool.call(key).map(Event::Writable));
        }
        self.settle(key, now);
        wrote
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.pool.links.poll_action()
    }

    fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() {
            self.call_writers();
        }
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.wheel.next()
    }

    fn bytes_wanted(&self, conn: ConnId) -> usize {
        self.key_of(conn).map_or(0, |key| self.pool.links.wanted(key))
    }
}
