//! One call: its states, and what each event makes of it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::buf::slab::Key;
use crate::buf::wheel::TimerId;
use crate::caller::dynamo::sent::Sent;
use crate::caller::error::CallError;
use crate::caller::phase::Phase;
use crate::caller::request::{Again, MAX_AVOIDED, Request};
use crate::id::InstanceId;
use crate::mux::event::Opening;
use crate::observer::CallTimes;
use crate::overload::queue::Ticket;
use crate::retry::backoff::{self, Backoff};
use crate::route::eligible::Ask;
use crate::route::health::Probe;
use crate::route::routing::Routing;
use crate::time::Instant;
use crate::wire::trace_context::TraceParent;

/// One call.
///
/// ```text
///  Waiting ──every instance is full──▶ Crowded ──its turn──▶ Waiting
///  Waiting ──instance picked──▶ Attached ──stream opened──▶ Open ──outcome──▶ Over ──released──▶ gone
///     ▲                            │                          │                ▲
///     └──not delivered, may retry──┴──not delivered / refused─┘                │
///     Attached ──request frame queued──▶ Sent ──outcome──▶ Over      (Dynamo's protocol)
///     Waiting ──instance by NATS or HTTP──▶ Queued ──room──▶ Sent    (Dynamo's protocol)
///     any state ──deadline, cancel, failure without retry──────────────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Call {
    pub(super) endpoint: Key,
    pub(super) direct: Option<InstanceId>,
    /// The only instances that will do; empty: any.
    pub(super) allow: Vec<InstanceId>,
    pub(super) routing: Routing,
    /// What a stream is opened with, without the path.
    pub(super) opening: Arc<Opening>,
    pub(super) items: Items,
    /// Running it twice does no harm.
    idempotent: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) state: State,
    interest: Interest,
    /// The instance it was sent to, counted there as in flight.
    pub(super) instance: Option<InstanceId>,
    /// When it was: a call's time at an instance begins with the pick.
    pub(super) sent: Instant,
    begun: Instant,
    /// The instance of its last try, also once it is there no more.
    pub(super) last: Option<InstanceId>,
    /// When the request of this try was queued on its connection.
    opened: Option<Instant>,
    /// When the worker gave its first sign of life with this try.
    accepted: Option<Instant>,
    /// It shows what its instance is worth.
    pub(super) probe: Option<Probe>,
    /// Instances that failed it, to be avoided.
    avoid: Vec<InstanceId>,
    /// The first so many of those are out for good: a call beside this one is there.
    barred: usize,
    /// It is made beside another one that is slow to begin.
    second: bool,
    /// Tries so far, those of calls before it included.
    attempts: u32,
    pub(super) backoff: Backoff,
    /// When its first try failed.
    pub(super) failing: Option<Instant>,
    /// Its turn among those that wait for a free place, from the first time that it waits for one until it is tried.
    pub(super) turn: Option<Turn>,
    /// It has used its tries and waits for an instance to come back; how the last one failed.
    pub(super) stranded: Option<Box<CallError>>,
    /// It is among those that wait for news of its endpoint's instances.
    pub(super) listed: bool,
    pub(super) timer: Option<TimerId>,
    /// When an item, or the end, has arrived: the call has had an effect.
    answered: Option<Instant>,
    /// Last sign of life, or when the present state began.
    pub(super) heard: Instant,
    /// Bytes of the items in `left_over` that came in Dynamo's protocol.
    pub(super) unread: usize,
    /// Complete items that outlived their mux connection, bounded by its window, or that a call-home connection brought, bounded
    /// by the configuration.
    pub(super) left_over: VecDeque<Bytes>,
}

/// Where a call stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// For an instance (`None`), or for the next try: after a pause, or because every instance is down.
    Waiting(Option<Instant>),
    /// For its turn, as every instance is full.
    Crowded,
    /// For its connection to be able to open a stream.
    Attached { link: Key },
    /// For room with the carrier that brings requests to its instance.
    Queued,
    /// On a stream.
    Open { link: Key, stream: Key, phase: Phase },
    /// On a request connection or with a carrier, or its response is coming in.
    Sent(Box<Sent>),
    /// It has its outcome.
    Over(Result<(), CallError>),
}

/// Of a call that waits for a free place.
#[derive(Copy, Clone, Debug)]
pub(super) struct Turn {
    /// Since when it waits; to be asked in vain is no new beginning.
    pub(super) since: Instant,
    pub(super) ticket: Ticket,
}

/// The items of a request.
///
/// ```text
///  Follow ──one is taken, or their end──▶ Taken ◀──the outcome──  One
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Items {
    /// One, kept until the outcome so that the call can be tried again.
    One(Bytes),
    /// Any number: they follow, and none has been taken.
    Follow,
    /// A stream has taken some, or their end: they cannot be sent again.
    Taken,
}

/// What the application wants of a call.
///
/// ```text
///  All ──cancel(Stop)──▶ Stopping ──release()──▶ Nothing
///   └────────────────────────release()──────────────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Interest {
    /// All of it.
    All,
    /// What the worker still sends; it has been asked to stop, and the call is not tried again.
    Stopping,
    /// Nobody reads any more.
    Nothing,
}

impl Call {
    /// A call that has not been tried. `opening` has everything of the request but the path.
    pub(super) fn new(
        endpoint: Key,
        request: Request,
        opening: Opening,
        backoff: backoff::Config,
        now: Instant,
    ) -> Self {
        let second = request.earlier.as_ref().is_some_and(|own| own.why == Again::Slow);
        let (attempts, mut avoid) = request.earlier.map_or_else(Default::default, |own| (own.attempts, own.avoid));
        avoid.drain(..avoid.len().saturating_sub(MAX_AVOIDED));
        let barred = if second { avoid.len() } else { 0 };
        Self {
            endpoint,
            direct: request.direct,
            allow: request.allow,
            routing: request.routing,
            items: request.body.map_or(Items::Follow, Items::One),
            idempotent: request.idempotent,
            deadline: opening.deadline,
            opening: Arc::new(opening),
            state: State::Waiting(None),
            interest: Interest::All,
            instance: None,
            sent: now,
            begun: now,
            last: None,
            opened: None,
            accepted: None,
            probe: None,
            avoid,
            barred,
            second,
            attempts,
            backoff: Backoff::new(backoff),
            failing: None,
            turn: None,
            stranded: None,
            listed: false,
            timer: None,
            answered: None,
            heard: now,
            unread: 0,
            left_over: VecDeque::new(),
        }
    }

    /// It is sent to an instance.
    pub(super) fn on_tried(&mut self, instance: InstanceId, now: Instant) {
        (self.instance, self.last) = (Some(instance), Some(instance));
        (self.sent, self.turn) = (now, None);
        (self.opened, self.accepted) = (None, None);
        if self.attempts > 0 {
            // Shared only while the stream of an earlier try has not been written.
            Arc::make_mut(&mut self.opening).attempts = self.attempts;
        }
        self.attempts = self.attempts.saturating_add(1);
    }

    /// The instance it was sent to failed it, and is avoided from now on; `false` if it has been already, or if no more can be.
    pub(super) fn on_failed_by(&mut self, instance: InstanceId) -> bool {
        let is_new = self.avoid.len() < MAX_AVOIDED && !self.avoid.contains(&instance);
        if is_new {
            self.avoid.push(instance);
        }
        is_new
    }

    /// Whether it has failed there, as far as it remembers.
    pub(super) fn has_failed_at(&self, instance: InstanceId) -> bool {
        self.avoid.contains(&instance)
    }

    /// Whether all its tries were at one instance.
    pub(super) fn has_failed_at_one(&self) -> bool {
        self.avoid.len() == 1
    }

    /// Something else is waited for from now on.
    pub(super) fn on_step(&mut self, state: State, now: Instant) {
        self.state = state;
        self.heard = now;
    }

    /// A stream has taken items of the request, or their end.
    pub(super) fn on_items_taken(&mut self) {
        self.items = Items::Taken;
    }

    /// The worker has got at least this far with the try.
    pub(super) fn on_sign(&mut self, phase: Phase, now: Instant) {
        self.heard = now;
        match &mut self.state {
            State::Open { phase: before, .. } => *before = phase.max(*before),
            State::Sent(sent) => sent.phase = phase.max(sent.phase),
            State::Waiting(_) | State::Crowded | State::Attached { .. } | State::Queued | State::Over(_) => {}
        }
    }

    /// Its request is queued on a connection, or is with its carrier.
    pub(super) const fn on_opened(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// The worker has said that it takes the try.
    pub(super) fn on_accepted(&mut self, now: Instant) {
        self.on_sign(Phase::Accepted, now);
        self.accepted.get_or_insert(now);
    }

    /// The worker has answered; whether for the first time.
    pub(super) const fn on_answer(&mut self, now: Instant) -> bool {
        let is_first = self.answered.is_none();
        if is_first {
            self.answered = Some(now);
        }
        is_first
    }

    /// The span of the call, or of its next try, is the parent that it names from now on.
    pub(super) fn on_span(&mut self, span: Option<TraceParent>) {
        if let Some(span) = span {
            Arc::make_mut(&mut self.opening).traceparent = Some(span.to_string());
        }
    }

    /// The application asks it to stop.
    pub(super) fn on_stop(&mut self) {
        self.interest = Interest::Stopping;
    }

    /// The application is done with it.
    pub(super) fn on_release(&mut self) {
        self.interest = Interest::Nothing;
    }

    /// It has its outcome, which needs no request any more.
    pub(super) fn on_outcome(&mut self, outcome: Result<(), CallError>) {
        self.state = State::Over(outcome);
        self.items = Items::Taken;
    }

    /// Instances to avoid while there are others.
    pub(super) fn avoid(&self) -> &[InstanceId] {
        &self.avoid
    }

    /// What its policy is shown.
    pub(super) fn ask(&self) -> Ask<'_> {
        Ask { second: self.second, ..self.routing.ask() }
    }

    /// Whether it is made beside another one that is slow to begin: it waits for nothing, as the other does that.
    pub(super) const fn is_second(&self) -> bool {
        self.second
    }

    /// Whether it must not go there, as the call that it is made beside is there.
    pub(super) fn is_barred(&self, id: InstanceId) -> bool {
        self.avoid.iter().take(self.barred).any(|barred| *barred == id)
    }

    /// Tries so far, those of calls before it included.
    pub(super) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether it is at an instance, where it counts as in flight.
    pub(super) const fn is_at_instance(&self) -> bool {
        self.instance.is_some() && !matches!(self.state, State::Waiting(_) | State::Crowded | State::Over(_))
    }

    /// Whether the worker has answered.
    pub(super) const fn is_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// How far it has got, and when.
    pub(super) fn times(&self) -> CallTimes {
        let tried = self.last.map(|_| self.sent);
        let (sent, answered) = (self.opened, self.answered);
        CallTimes { begun: self.begun, tried, sent, accepted: self.accepted.or(answered), answered }
    }

    /// Whether nobody reads it any more.
    pub(super) fn is_left(&self) -> bool {
        self.interest == Interest::Nothing
    }

    /// Whether it has been asked to stop, and is still read.
    pub(super) fn is_stopping(&self) -> bool {
        self.interest == Interest::Stopping
    }

    /// Whether it has no outcome, or nobody who would read it.
    pub(super) fn is_awaited(&self) -> bool {
        !self.is_over() && self.interest != Interest::Nothing
    }

    /// Whether it waits for an instance, or for its next try.
    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Since when it waits for a free place.
    pub(super) fn crowded_since(&self) -> Instant {
        self.turn.map_or(self.heard, |turn| turn.since)
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    /// Whether it may be tried again although a worker may have run it.
    pub(super) fn may_run_twice(&self) -> bool {
        self.idempotent && self.answered.is_none() && matches!(self.items, Items::One(_))
    }

    /// The request, if it is one item.
    pub(super) const fn body(&self) -> Option<&Bytes> {
        match &self.items {
            Items::One(body) => Some(body),
            Items::Follow | Items::Taken => None,
        }
    }

    /// Whether the instance is one that will do.
    pub(super) fn may_go_to(&self, id: InstanceId) -> bool {
        self.direct.is_none_or(|direct| direct == id) && (self.allow.is_empty() || self.allow.contains(&id))
    }

    /// Whether it names no instances.
    pub(super) const fn may_go_anywhere(&self) -> bool {
        self.direct.is_none() && self.allow.is_empty()
    }

    /// Whether a worker has taken the call in Dynamo's protocol: it has no more need of what brought it there.
    pub(super) fn is_taken(&self) -> bool {
        matches!(&self.state, State::Sent(sent) if sent.phase >= Phase::Accepted || sent.home.is_some())
    }

    /// The link it stands on.
    pub(super) fn link(&self) -> Option<Key> {
        match self.state {
            State::Attached { link } | State::Open { link, .. } => Some(link),
            State::Sent(ref sent) => sent.link(),
            State::Queued | State::Waiting(_) | State::Crowded | State::Over(_) => None,
        }
    }

    /// The stream it has.
    pub(super) const fn stream(&self) -> Option<(Key, Key)> {
        match self.state {
            State::Open { link, stream, .. } => Some((link, stream)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(request: Request) -> Call {
        let endpoint = Key { index: 0, generation: 0 };
        Call::new(endpoint, request, Opening::default(), backoff::Config::default(), Instant::ZERO)
    }

    fn one() -> Request {
        Request { body: Some(Bytes::from_static(b"a")), ..Request::default() }
    }

    #[test]
    fn a_call_runs_twice_only_if_that_does_no_harm_and_nothing_has_come_back() {
        assert!(!call(one()).may_run_twice());
        let mut twice = call(Request { idempotent: true, ..one() });
        assert!(twice.may_run_twice());
        assert!(twice.on_answer(Instant::ZERO) && !twice.on_answer(Instant::ZERO));
        assert!(!twice.may_run_twice());
        assert!(!call(Request { idempotent: true, ..Request::default() }).may_run_twice(), "its items are not kept");
    }

    #[test]
    fn a_sign_of_life_belongs_to_its_try_and_never_goes_back() {
        let (link, stream) = (Key { index: 1, generation: 0 }, Key { index: 2, generation: 0 });
        let open = State::Open { link, stream, phase: Phase::Asked };
        let mut call = call(one());
        call.on_sign(Phase::Accepted, Instant::ZERO);
        assert_eq!(call.state, State::Waiting(None));
        call.on_step(open.clone(), Instant::ZERO);
        call.on_sign(Phase::Accepted, Instant::ZERO);
        call.on_sign(Phase::Asked, Instant::ZERO);
        assert!(matches!(call.state, State::Open { phase: Phase::Accepted, .. }));
        call.on_step(open, Instant::ZERO);
        assert!(matches!(call.state, State::Open { phase: Phase::Asked, .. }));
    }

    #[test]
    fn a_call_is_awaited_until_it_is_released_or_over_and_lets_go_of_its_request_then() {
        let mut call = call(one());
        call.on_stop();
        assert!(call.is_stopping() && call.is_awaited());
        call.on_release();
        assert!(!call.is_stopping() && !call.is_awaited());
        let mut call = self::call(one());
        call.on_outcome(Ok(()));
        assert!(!call.is_awaited() && call.body().is_none());
    }
}
