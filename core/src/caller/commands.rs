//! What the application does with a call: makes it, sends, reads, cancels, lets go.

use core::time::Duration;

use bytes::Bytes;

use crate::buf::gate::low;
use crate::buf::outbox::SendError;
use crate::buf::slab::Key;
use crate::caller::call::{Call, State};
use crate::caller::dynamo::sent::Via;
use crate::caller::error::CallError;
use crate::caller::line::Line;
use crate::caller::machine::Caller;
use crate::caller::request::{Again, CallId, Earlier, EndpointKey, Recv, Request};
use crate::dynamo::cost::cost;
use crate::mux::event::{Ending, Recv as MuxRecv};
use crate::observer::CallBegun;
use crate::time::Instant;
use crate::wire::mux::message::CancelMode;

impl Caller {
    /// Makes a call. Its outcome comes through [`recv`](Self::recv), always, within the configured bounds.
    ///
    /// # Errors
    /// [`CallError::Overloaded`], [`CallError::Throttled`], [`CallError::HeaderTooLarge`], [`CallError::AttributesTooLarge`],
    /// [`CallError::Closed`], or [`CallError::NoBudget`] for one that is made in place of another or beside it; then there is no
    /// call.
    pub fn call(&mut self, endpoint: EndpointKey, request: Request, now: Instant) -> Result<CallId, CallError> {
        let made = self.make(endpoint, request, now);
        if let (Err(error), Some(observer)) = (&made, &self.observer) {
            observer.call_refused(self.endpoints.name(endpoint.0), error);
        }
        made
    }

    fn make(&mut self, endpoint: EndpointKey, mut request: Request, now: Instant) -> Result<CallId, CallError> {
        if self.closing || !self.endpoints.contains(endpoint.0) {
            return Err(CallError::Closed);
        }
        if self.calls.len() >= self.config.max_calls {
            return Err(CallError::Overloaded);
        }
        let mut opening = core::mem::take(&mut request.opening);
        opening.deadline = request.timeout.or(self.config.deadline).map(|timeout| now + timeout);
        if !opening.fits() {
            return Err(CallError::HeaderTooLarge);
        }
        if !request.routing.fits() {
            return Err(CallError::AttributesTooLarge);
        }
        let again = request.earlier.as_ref().map(|earlier| earlier.why);
        let pause = self.weigh(again)?;
        // Last, as it counts the call as one that is made.
        if self.is_throttled(endpoint.0, &request, now) {
            return Err(CallError::Throttled);
        }
        self.stats.calls += 1;
        match again {
            Some(Again::Broke(_)) => self.stats.continued += 1,
            Some(Again::Slow) => self.stats.hedged += 1,
            None => {}
        }
        let call = Call::new(endpoint.0, request, opening, self.config.backoff, now);
        let id = CallId(self.calls.insert(call));
        if self.observer.is_some() {
            self.tell_begun(id, again, now);
        }
        match pause {
            None => self.dispatch(id, now),
            Some(pause) => self.wait(id, now + pause),
        }
        Ok(id)
    }

    #[cold]
    fn tell_begun(&mut self, call: CallId, again: Option<Again>, now: Instant) {
        let Some((observer, entry)) = self.observer.as_ref().zip(self.calls.get_mut(call.0)) else { return };
        let begun = CallBegun {
            endpoint: self.endpoints.name(entry.endpoint),
            id: &entry.opening.request_id,
            traceparent: entry.opening.traceparent.as_deref(),
            tracestate: entry.opening.tracestate.as_deref(),
            x_request_id: entry.opening.x_request_id.as_deref(),
            bytes: entry.body().map(Bytes::len),
            again: again.map(|why| (why, entry.attempts())),
            now,
        };
        let span = observer.call_begun(call, &begun);
        entry.on_span(span);
    }

    /// Whether so many calls of the endpoint are refused that this one is not to be made. One for named instances always is, and
    /// one that goes on where another broke: the budget bounds those.
    fn is_throttled(&mut self, endpoint: Key, request: &Request, now: Instant) -> bool {
        let Some(config) = self.config.throttle else { return false };
        let named = request.direct.is_some() || !request.allow.is_empty();
        let goes_on = matches!(request.earlier.as_deref(), Some(Earlier { why: Again::Broke(_), .. }));
        if named || goes_on {
            return false;
        }
        let away = self.endpoints.turns_away(endpoint, config, &mut self.rng, now);
        self.stats.throttled += u64::from(away);
        away
    }

    /// Whether the budget has room for a call made again, and how long that waits before it goes out.
    fn weigh(&mut self, why: Option<Again>) -> Result<Option<Duration>, CallError> {
        match why {
            None => Ok(None),
            Some(Again::Broke(calls)) => {
                if !self.budget.failed() {
                    self.stats.unaffordable += 1;
                    return Err(CallError::NoBudget);
                }
                Ok(Some(self.config.backoff.pause(calls.saturating_sub(1), &mut self.rng)))
            }
            Some(Again::Slow) => {
                if !self.budget.allows() {
                    self.stats.unaffordable += 1;
                    return Err(CallError::NoBudget);
                }
                Ok(None)
            }
        }
    }

    /// Tries of a call so far, those of calls [before it](Request::earlier) included; 0 once it has been released.
    pub fn attempts(&self, call: CallId) -> u32 {
        self.calls.get(call.0).map_or(0, Call::attempts)
    }

    /// Queues an item of a streaming request.
    ///
    /// # Errors
    /// [`SendError::Blocked`] until the stream is open and while its queue is full; an
    /// [`Event::Writable`](crate::caller::request::Event::Writable) follows.
    pub fn send(&mut self, call: CallId, item: Bytes) -> Result<(), SendError> {
        let Some(entry) = self.calls.get_mut(call.0) else { return Err(SendError::Closed) };
        match entry.state {
            State::Over(_) => Err(SendError::Closed),
            State::Sent(ref sent) => {
                let feed = sent.feed;
                let outcome = self.feed(feed, item);
                if outcome.is_ok()
                    && let Some(entry) = self.calls.get_mut(call.0)
                {
                    entry.on_items_taken();
                }
                outcome
            }
            State::Waiting(_) | State::Crowded | State::Attached { .. } | State::Queued => {
                Err(SendError::Blocked(item))
            }
            State::Open { link, stream, .. } => {
                let outcome = self.pool.links.send(link, Some(stream), item);
                if outcome.is_ok() {
                    entry.on_items_taken();
                }
                outcome
            }
        }
    }

    /// A writer that was turned away does not try again: others need not wait for it.
    pub fn forgo(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get(call.0) else { return };
        let place = match &entry.state {
            State::Open { link, stream, .. } => Some((*link, Some(*stream))),
            State::Sent(sent) => sent.feed.and_then(|feed| Some((feed.link?, None))),
            State::Waiting(_) | State::Crowded | State::Attached { .. } | State::Queued | State::Over(_) => None,
        };
        if let Some((link, stream)) = place {
            self.pool.links.forgo(link, stream);
            self.settle(link, now);
        }
    }

    /// Ends a streaming request. `false` while the stream is not open yet: try again after
    /// [`Event::Writable`](crate::caller::request::Event::Writable).
    pub fn finish(&mut self, call: CallId) -> bool {
        let Some(entry) = self.calls.get_mut(call.0) else { return true };
        match entry.state {
            State::Open { link, stream, .. } => {
                entry.on_items_taken();
                if let Some(mux) = self.pool.links.mux(link) {
                    mux.end(stream, Ending::ok());
                }
                self.pool.links.nudge(link);
                true
            }
            State::Over(_) => true,
            State::Sent(ref sent) => {
                let feed = sent.feed;
                self.finish_feed(feed)
            }
            State::Waiting(_) | State::Crowded | State::Attached { .. } | State::Queued => false,
        }
    }

    /// Takes the next item or the outcome.
    pub fn recv(&mut self, call: CallId, now: Instant) -> Recv {
        let Some(entry) = self.calls.get_mut(call.0) else { return Recv::End(Err(CallError::Closed)) };
        if let Some(item) = entry.left_over.pop_front() {
            let (before, low) = (entry.unread, low(self.config.call_home.max_unread));
            entry.unread = entry.unread.saturating_sub(cost(&item));
            entry.heard = now;
            if before > low && entry.unread <= low {
                self.relieve(call);
            }
            return Recv::Item(item);
        }
        match &entry.state {
            State::Over(outcome) => Recv::End(outcome.clone()),
            State::Waiting(_) | State::Crowded | State::Attached { .. } | State::Queued | State::Sent(_) => {
                Recv::Pending
            }
            State::Open { link, stream, .. } => {
                let (link, stream) = (*link, *stream);
                match self.pool.links.mux(link).map_or(MuxRecv::Pending, |mux| mux.recv(stream)) {
                    MuxRecv::Item(item) => {
                        if let Some(entry) = self.calls.get_mut(call.0) {
                            entry.heard = now;
                        }
                        self.pool.links.nudge(link);
                        Recv::Item(item)
                    }
                    MuxRecv::Pending => Recv::Pending,
                    MuxRecv::End(ending) => {
                        let outcome = CallError::from_ending(ending).map_or(Ok(()), Err);
                        self.conclude(call, outcome.clone(), now);
                        Recv::End(outcome)
                    }
                }
            }
        }
    }

    /// Cancels a call. One that has not been written ends here and now; of one that has, a `Stop` leaves the outcome to
    /// the worker, a `Kill` ends it at once.
    pub fn cancel(&mut self, call: CallId, mode: CancelMode, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        match &entry.state {
            State::Over(_) => {}
            State::Sent(sent) if mode == CancelMode::Stop => {
                let (by, home, feed, tag) = (sent.by, sent.home, sent.feed, call.0.to_u64());
                entry.on_stop();
                let unsent = match by {
                    Via::Link(link) => {
                        matches!(self.pool.links.line(link), Some(Line::Requests(client)) if client.holds(tag))
                    }
                    Via::Carrier(posted) => !posted.is_taken(),
                };
                if unsent {
                    self.fail(call, CallError::Cancelled, now);
                } else {
                    self.say_stop(home, feed, now);
                }
            }
            &State::Open { link, stream, .. } if mode == CancelMode::Stop => {
                entry.on_stop();
                let unsent = self.pool.links.mux(link).is_some_and(|mux| mux.cancel(stream, mode));
                if unsent {
                    self.fail(call, CallError::Cancelled, now);
                }
                self.settle(link, now);
            }
            _ => self.fail(call, CallError::Cancelled, now),
        }
    }

    /// The application is done with the call, whatever its state.
    pub fn release(&mut self, call: CallId, now: Instant) {
        if let Some(entry) = self.calls.get_mut(call.0) {
            entry.on_release();
            if !entry.is_over() {
                self.fail(call, CallError::Cancelled, now);
            }
        }
        self.calls.discard(call.0);
        self.tell_closed();
    }
}
