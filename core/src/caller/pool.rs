//! The connections of a caller: which of those to an address a call goes on, and when one is dialed or left.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::buf::ages::Ticket;
use crate::buf::slab::{Key, Slab};
use crate::caller::config::Config;
use crate::caller::line::Line;
use crate::caller::request::CallId;
use crate::caller::waiting::Waiting;
use crate::id::{ConnId, InstanceId};
use crate::links::{Link, Links};
use crate::mux::connection::State as MuxState;
use crate::protocol::{Action, CloseReason, Fault};
use crate::time::{Deadline, Instant, Reason};

/// What a caller keeps beside a connection.
#[derive(Debug)]
pub(super) enum Peer {
    /// A connection to an instance, dialed from here.
    Dialed(Dialed),
    /// A connection that a worker has dialed, to bring a response or to fetch items.
    Accepted(Accepted),
}

/// Where a connection is dialed to, and to speak what.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) addr: SocketAddr,
    pub(super) speaks: Speaks,
}

/// What is spoken on a connection that is dialed.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Speaks {
    /// Our own dialect.
    Mux,
    /// Dynamo's request frames.
    Requests,
}

/// A connection that was dialed, up or not yet.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) place: Place,
    state: State,
    /// Calls on it, attached or open.
    calls: usize,
    /// Calls that wait for a stream.
    pub(super) waiting: Waiting,
    /// Whose calls have been put on it, for what its worker says of itself; the first of them.
    pub(super) called: Vec<(Key, InstanceId)>,
    since: Instant,
    idle_since: Instant,
}

/// Instances behind one connection that hear of its worker's load.
const MOST_CALLED: usize = 64;

/// ```text
///  Open ◀──▶ Handing (streams are being opened for the calls that wait)
///    └─────────┴──lost, or given up──▶ Lost (only the driver's last word is missing)
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Open,
    Handing,
    Lost,
}

/// A call-home connection.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    /// Whose it is.
    pub(super) call: Option<CallId>,
    /// Its place among those that have not said so yet.
    pub(super) seat: Option<Ticket>,
}

/// How a link was lost.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// The socket is gone.
    Closed(CloseReason),
    /// The protocol was broken, or the peer fell silent.
    Fault(Fault),
}

impl Dialed {
    const fn new(place: Place, now: Instant) -> Self {
        Self {
            place,
            state: State::Open,
            calls: 0,
            waiting: Waiting::new(),
            called: Vec::new(),
            since: now,
            idle_since: now,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// A call of `calls` is put on it, and waits for a stream.
    pub(super) fn attach<T>(&mut self, call: CallId, calls: &Slab<T>) {
        self.calls += 1;
        self.waiting.push(call, calls);
    }

    /// A call to an instance of an endpoint is put on it.
    pub(super) fn note(&mut self, endpoint: Key, instance: InstanceId) {
        // As a rule there is one.
        if !self.called.contains(&(endpoint, instance)) && self.called.len() < MOST_CALLED {
            self.called.push((endpoint, instance));
        }
    }

    /// A call leaves it.
    pub(super) fn detach(&mut self, now: Instant) {
        self.calls -= 1;
        if self.calls == 0 {
            self.idle_since = now;
            self.waiting.clear();
        }
    }

    /// Streams are to be opened for the calls that wait; `false` if none waits, or if that is under way further up the stack.
    pub(super) fn begin_handing(&mut self) -> bool {
        let begins = self.state == State::Open && !self.waiting.is_empty();
        if begins {
            self.state = State::Handing;
        }
        begins
    }

    /// Those that could be opened are.
    pub(super) fn end_handing(&mut self) {
        if self.state == State::Handing {
            self.state = State::Open;
        }
    }

    /// It is lost, or given up while it is dialed: no call waits for it any more.
    fn lose(&mut self) {
        self.waiting.clear();
        self.state = State::Lost;
    }

    /// Whether nobody has used it for long enough, or at all if the caller closes.
    pub(super) fn is_idle(&self, closing: bool, config: &Config, now: Instant) -> bool {
        self.calls == 0 && !self.is_lost() && (closing || self.idle_since + config.idle_timeout <= now)
    }

    /// Whether a dial has taken too long, if it is one.
    pub(super) fn is_overdue(&self, config: &Config, now: Instant) -> bool {
        !self.is_lost() && self.since + config.connect_timeout <= now
    }

    /// What the caller bounds on it, beside what the connection bounds by itself.
    fn bound(&self, line: Option<&Line>, config: &Config) -> Option<Deadline> {
        let idle = Deadline { at: self.idle_since + config.idle_timeout, why: Reason::Idle };
        let stays = match line {
            None => {
                let at = self.since + config.connect_timeout;
                return (!self.is_lost()).then_some(Deadline { at, why: Reason::Connect });
            }
            // One that is leaving already has bounds of its own.
            Some(Line::Mux(mux)) => matches!(mux.state(), MuxState::Opening | MuxState::Up),
            Some(Line::Requests(client)) => !client.is_leaving(),
            Some(Line::Answers(_) | Line::Items(_)) => false,
        };
        (stays && self.calls == 0).then_some(idle)
    }
}

impl Link<Peer, Line> {
    /// What is kept of it, if it was dialed.
    pub(super) const fn dialed(&self) -> Option<&Dialed> {
        match &self.owner {
            Peer::Dialed(dialed) => Some(dialed),
            Peer::Accepted(_) => None,
        }
    }
}

/// The connections of one caller.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) links: Links<Peer, Line>,
    by_place: BTreeMap<Place, Vec<Key>>,
}

impl Pool {
    /// No connections. On all of them `max_outgoing` bytes of items may wait to be written.
    pub(super) const fn new(max_outgoing: usize) -> Self {
        Self { links: Links::new(max_outgoing), by_place: BTreeMap::new() }
    }

    /// The connection to `place` with the fewest calls, if it is idle or there may be no more of them.
    pub(super) fn least_loaded(&mut self, place: Place, most: usize) -> Option<Key> {
        let links = &self.links;
        let at_place = self.by_place.get_mut(&place)?;
        let calls = |key: &Key| links.get(*key).and_then(Link::dialed).map_or(0, |dialed| dialed.calls);
        let serves = |key: &Key| links.get(*key).and_then(Link::dialed).is_some_and(|dialed| !dialed.is_lost());
        at_place.retain(|key| serves(key) && !links.is_leaving(*key));
        let least = at_place.iter().copied().min_by_key(calls)?;
        (calls(&least) == 0 || at_place.len() >= most.max(1)).then_some(least)
    }

    /// Dials one more.
    pub(super) fn dial(&mut self, place: Place, now: Instant) -> Key {
        let key = self.links.insert(Peer::Dialed(Dialed::new(place, now)), |key| ConnId::dialed(key.to_u64()));
        self.links.act(Action::Connect { conn: ConnId::dialed(key.to_u64()), addr: place.addr });
        self.by_place.entry(place).or_default().push(key);
        key
    }

    /// A connection is lost: no call goes on it any more. `false` if that is known, or if it was not dialed.
    pub(super) fn lose(&mut self, key: Key) -> bool {
        let Some(dialed) = self.dialed(key).filter(|dialed| !dialed.is_lost()) else { return false };
        dialed.lose();
        let place = dialed.place;
        if let Some(at_place) = self.by_place.get_mut(&place) {
            at_place.retain(|other| *other != key);
            if at_place.is_empty() {
                self.by_place.remove(&place);
            }
        }
        true
    }

    /// What is kept of a connection that was dialed.
    pub(super) fn dialed(&mut self, key: Key) -> Option<&mut Dialed> {
        match &mut self.links.get_mut(key)?.owner {
            Peer::Dialed(dialed) => Some(dialed),
            Peer::Accepted(_) => None,
        }
    }

    /// What is kept of a call-home connection.
    pub(super) fn accepted(&mut self, key: Key) -> Option<&mut Accepted> {
        match &mut self.links.get_mut(key)?.owner {
            Peer::Accepted(home) => Some(home),
            Peer::Dialed(_) => None,
        }
    }

    /// The call of a call-home connection.
    pub(super) fn call(&self, key: Key) -> Option<CallId> {
        match &self.links.get(key)?.owner {
            Peer::Accepted(home) => home.call,
            Peer::Dialed(_) => None,
        }
    }

    /// What the caller bounds on a connection, beside what the connection bounds by itself.
    pub(super) fn bound(&self, key: Key, config: &Config) -> Option<Deadline> {
        let link = self.links.get(key)?;
        link.dialed()?.bound(link.line.as_ref(), config)
    }

    /// Whether there is no connection that calls could go on.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }

    /// Calls on each connection that was dialed, and how many names wait on all of them.
    #[cfg(test)]
    pub(super) fn loads(&self) -> (Vec<usize>, usize) {
        let dialed = || self.links.iter().filter_map(|(_, link)| link.dialed());
        (dialed().map(|dialed| dialed.calls).collect(), dialed().map(|dialed| dialed.waiting.len()).sum())
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const T0: Instant = Instant::ZERO;

    fn place() -> Place {
        Place { addr: SocketAddr::from(([10, 0, 0, 1], 9000)), speaks: Speaks::Mux }
    }

    fn attach(pool: &mut Pool, key: Key, calls: &mut Slab<()>) {
        let call = CallId(calls.insert(()));
        pool.dialed(key).unwrap().attach(call, calls);
    }

    #[test]
    fn a_call_goes_where_the_fewest_are_and_a_new_connection_is_dialed_while_all_are_used() {
        let (mut pool, mut calls) = (Pool::new(1000), Slab::new());
        assert_eq!(pool.least_loaded(place(), 2), None);
        let one = pool.dial(place(), T0);
        assert_eq!(
            pool.links.poll_action(),
            Some(Action::Connect { conn: ConnId::dialed(one.to_u64()), addr: place().addr })
        );
        assert_eq!(pool.least_loaded(place(), 2), Some(one), "it is idle");
        attach(&mut pool, one, &mut calls);
        assert_eq!((pool.least_loaded(place(), 2), pool.least_loaded(place(), 1)), (None, Some(one)));
        let two = pool.dial(place(), T0);
        attach(&mut pool, two, &mut calls);
        attach(&mut pool, one, &mut calls);
        assert_eq!(pool.least_loaded(place(), 2), Some(two));
        let other = Place { speaks: Speaks::Requests, ..place() };
        assert_eq!(pool.least_loaded(other, 2), None, "another dialect has connections of its own");
    }

    #[test]
    fn a_connection_is_lost_once_and_no_call_goes_on_it_any_more() {
        let mut pool = Pool::new(1000);
        let key = pool.dial(place(), T0);
        assert!(pool.lose(key) && !pool.lose(key));
        assert!(pool.is_empty() && pool.least_loaded(place(), 1).is_none());
        assert_eq!(pool.bound(key, &Config::default()), None);
    }

    #[test]
    fn calls_that_end_while_streams_are_opened_find_that_under_way() {
        let (mut pool, mut calls) = (Pool::new(1000), Slab::new());
        let key = pool.dial(place(), T0);
        assert!(!pool.dialed(key).unwrap().begin_handing(), "nobody waits");
        attach(&mut pool, key, &mut calls);
        let dialed = pool.dialed(key).unwrap();
        assert!(dialed.begin_handing() && !dialed.begin_handing());
        dialed.end_handing();
        assert!(dialed.begin_handing());
        dialed.lose();
        dialed.end_handing();
        assert!(dialed.is_lost());
    }

    #[test]
    fn a_dial_has_its_bound() {
        let (mut pool, config) = (Pool::new(1000), Config::default());
        let key = pool.dial(place(), T0);
        let due = T0 + config.connect_timeout;
        assert_eq!(pool.bound(key, &config), Some(Deadline { at: due, why: Reason::Connect }));
        let dialed = pool.dialed(key).unwrap();
        assert!(dialed.is_overdue(&config, due) && !dialed.is_overdue(&config, T0));
        assert!(dialed.is_idle(true, &config, T0) && !dialed.is_idle(false, &config, T0 + Duration::from_secs(1)));
    }
}
