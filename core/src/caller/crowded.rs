//! Calls whose every instance is full: they wait for their turn in front of the pick.

use core::time::Duration;

use crate::buf::slab::Key;
use crate::caller::call::{Call, State, Turn};
use crate::caller::error::CallError;
use crate::caller::front::{Config, FRONT_TOKEN};
use crate::caller::machine::Caller;
use crate::caller::request::CallId;
use crate::links::set_timer;
use crate::overload::queue::{Ticket, Wait};
use crate::overload::throttle::Throttle;
use crate::route::eligible::Room;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::checksum::xxh3;

impl Call {
    /// What it is among others that wait.
    fn wait(&self, since: Instant) -> Wait {
        let tenant = self.opening.tenant.as_ref().map_or(0, |tenant| xxh3(tenant.as_bytes(), &[]));
        Wait { priority: self.opening.priority, tenant, group: 0, deadline: self.deadline, since }
    }

    /// Whether a full instance will do. It will for a call that names the instances that will do, for which a place elsewhere is of
    /// no use.
    pub(super) const fn room(&self, config: &Config) -> Room {
        if config.max_waiting > 0 && self.may_go_anywhere() { Room::Free } else { Room::Any }
    }
}

impl Caller {
    /// Whether calls wait for places at all.
    pub(super) const fn may_wait(&self) -> bool {
        self.config.front.max_waiting > 0
    }

    /// Every instance that would do is full: the call waits for its turn, or another one that has to give way, or it is refused.
    pub(super) fn hold(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get(call.0) else { return };
        if entry.is_second() {
            return self.crowd_out(call, now);
        }
        let turn = entry.turn;
        if turn.is_some() && self.endpoints.front_mut(entry.endpoint).is_some_and(|front| front.set_aside(call)) {
            return;
        }
        self.stand(call, turn.map(|turn| turn.ticket), now);
    }

    /// The call waits for its turn: where its ticket says, else behind the others.
    fn stand(&mut self, call: CallId, ticket: Option<Ticket>, now: Instant) {
        let Some(entry) = self.calls.get(call.0) else { return };
        let (endpoint, wait) = (entry.endpoint, entry.wait(entry.turn.map_or(now, |turn| turn.since)));
        let Some(front) = self.endpoints.open_front(endpoint, &self.config.front) else { return };
        match front.make_room(&wait) {
            Ok(None) => {}
            Ok(Some(other)) => {
                self.stats.displaced += 1;
                self.crowd_out(other, now);
            }
            Err(()) => return self.crowd_out(call, now),
        }
        let (Some(entry), Some(front)) = (self.calls.get_mut(call.0), self.endpoints.front_mut(endpoint)) else {
            return;
        };
        self.stats.waited += u64::from(entry.turn.is_none());
        entry.turn = Some(Turn { since: wait.since, ticket: front.add(call, wait, ticket) });
        entry.on_step(State::Crowded, now);
        self.arm(call);
        self.arm_front(endpoint, now);
    }

    /// There is no place for the call, and none to wait for one, or it has waited for long enough.
    pub(super) fn crowd_out(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get(call.0) else { return };
        let waited = entry.turn.map_or(Duration::ZERO, |turn| now.since(turn.since));
        let retry_after = self.endpoints.front(entry.endpoint).map(|front| front.advice());
        self.stats.crowded_out += 1;
        self.on_turned_away(call, now);
        self.fail(call, CallError::NoPlace { waited, retry_after }, now);
    }

    /// The call was refused for want of room, by a worker or here.
    pub(super) fn on_turned_away(&mut self, call: CallId, now: Instant) {
        if let Some(throttle) = self.throttle(call) {
            throttle.on_refused(now);
        }
    }

    /// The call is tried again.
    pub(super) fn on_retry(&mut self, call: CallId, now: Instant) {
        self.stats.retries += 1;
        if let Some(throttle) = self.throttle(call) {
            throttle.on_retry(now);
        }
    }

    /// What counts the call, if anything does.
    fn throttle(&mut self, call: CallId) -> Option<&mut Throttle> {
        self.config.throttle?;
        let entry = self.calls.get(call.0).filter(|entry| entry.may_go_anywhere())?;
        self.endpoints.throttle(entry.endpoint)
    }

    /// A call has ended at the endpoint: there may be a place.
    pub(super) fn on_place_freed(&mut self, endpoint: Key, now: Instant) {
        if !self.may_wait() {
            return;
        }
        if let Some(front) = self.endpoints.front_mut(endpoint) {
            front.on_freed(now);
        }
        self.serve_front(endpoint, now);
    }

    /// Lets calls go out that wait, as many as there are places.
    pub(super) fn serve_front(&mut self, endpoint: Key, now: Instant) {
        if !self.may_wait() || !self.endpoints.is_crowded(endpoint) {
            return;
        }
        // Calls that end on the way come back here.
        if !self.endpoints.front_mut(endpoint).is_some_and(|front| front.begin_serving()) {
            return;
        }
        while self.endpoints.has_place(endpoint, now) {
            let Some(call) = self.endpoints.front_mut(endpoint).and_then(|front| front.next(now)) else { break };
            let Some(entry) = self.calls.get_mut(call.0) else { continue };
            entry.on_step(State::Waiting(None), now);
            self.dispatch(call, now);
        }
        let (aside, behind) =
            self.endpoints.front_mut(endpoint).map(|front| front.end_serving(now)).unwrap_or_default();
        for call in aside {
            let turn = self.calls.get(call.0).and_then(|entry| entry.turn).filter(|_| !behind);
            self.stand(call, turn.map(|turn| turn.ticket), now);
        }
        self.arm_front(endpoint, now);
    }

    /// The time has come at which a place may be free.
    pub(super) fn on_front_timeout(&mut self, now: Instant) {
        self.front_timer = None;
        self.serve_fronts(now);
    }

    /// There may be places anywhere.
    pub(super) fn serve_fronts(&mut self, now: Instant) {
        for endpoint in self.endpoints.crowded() {
            self.serve_front(endpoint, now);
        }
    }

    /// Sets the timer to when time makes a place free at this endpoint, unless it is due before.
    fn arm_front(&mut self, endpoint: Key, now: Instant) {
        let Some(at) = self.endpoints.place_at(endpoint, now) else { return };
        let armed = self.front_timer.and_then(|timer| self.wheel.armed(timer));
        let soonest = Deadline::soonest(armed, Some(Deadline { at, why: Reason::Place }));
        set_timer(&mut self.wheel, &mut self.front_timer, FRONT_TOKEN, soonest);
    }
}
