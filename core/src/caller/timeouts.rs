//! Time bounds of calls and of their connections: when they are due, and what happens then.

use core::time::Duration;

use crate::buf::slab::Key;
use crate::caller::call::State;
use crate::caller::config::Config;
use crate::caller::dynamo::sent::Via;
use crate::caller::error::CallError;
use crate::caller::line::Line;
use crate::caller::machine::Caller;
use crate::caller::phase::Phase;
use crate::caller::pool::{Loss, Peer};
use crate::caller::request::CallId;
use crate::links::{Link, set_timer};
use crate::mux::connection::State as MuxState;
use crate::protocol::{Action, CloseReason, Closing};
use crate::time::{Deadline, Instant, Reason};
use crate::wire::mux::message::RejectCode;

impl Via {
    /// How long the ack of a request may take.
    const fn patience(&self, config: &Config) -> Duration {
        match self {
            Self::Link(_) => config.accept_timeout,
            Self::Carrier(posted) => posted.patience,
        }
    }
}

impl Caller {
    /// Sets the call's timer to the earliest of its deadlines.
    pub(super) fn arm(&mut self, call: CallId) {
        let token = call.0.to_u64();
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        let own = entry.deadline.map(|at| Deadline { at, why: Reason::CallDeadline });
        let next = match &entry.state {
            State::Over(_) => return,
            State::Waiting(None) => {
                Some(Deadline { at: entry.heard + self.config.instance_timeout, why: Reason::NoInstance })
            }
            State::Waiting(Some(at)) => {
                let why = if entry.stranded.is_some() { Reason::DownMark } else { Reason::Retry };
                Some(Deadline { at: *at, why })
            }
            State::Crowded => {
                Some(Deadline { at: entry.crowded_since() + self.config.front.max_wait, why: Reason::QueueWait })
            }
            State::Attached { .. } => {
                Some(Deadline { at: entry.heard + self.config.accept_timeout, why: Reason::Accept })
            }
            State::Open { phase: Phase::Asked, .. } => {
                Some(Deadline { at: entry.heard + self.config.accept_timeout, why: Reason::Accept })
            }
            State::Queued => Some(Deadline { at: entry.heard + self.config.accept_timeout, why: Reason::Accept }),
            State::Sent(sent) if sent.phase == Phase::Asked => {
                Some(Deadline { at: entry.heard + sent.by.patience(&self.config), why: Reason::Accept })
            }
            State::Sent(sent) if sent.phase == Phase::Accepted => {
                Some(Deadline { at: sent.home_until(entry.heard, &self.config.call_home), why: Reason::Response })
            }
            State::Open { .. } | State::Sent(_) => {
                Some(Deadline { at: entry.heard + self.config.item_timeout, why: Reason::ItemGap })
            }
        };
        set_timer(&mut self.wheel, &mut entry.timer, token, Deadline::soonest(own, next));
    }

    pub(super) fn on_call_timeout(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        entry.timer = None;
        let (heard, absent) = (entry.heard, entry.state == State::Waiting(None));
        let overdue = |bound: Duration| heard + bound <= now;
        if entry.deadline.is_some_and(|at| at <= now) {
            if !self.end_if_complete(call, now) {
                self.fail(call, if absent { CallError::NoInstances } else { CallError::DeadlineExceeded }, now);
            }
            return;
        }
        match entry.state {
            State::Sent(_) => self.on_sent_timeout(call, now),
            State::Waiting(None) if overdue(self.config.instance_timeout) => {
                self.fail(call, CallError::NoInstances, now);
            }
            State::Waiting(Some(at)) if at <= now && entry.stranded.is_some() => self.retry_stranded(call, now),
            State::Waiting(Some(at)) if at <= now => self.dispatch(call, now),
            State::Crowded if entry.crowded_since() + self.config.front.max_wait <= now => self.crowd_out(call, now),
            State::Queued if overdue(self.config.accept_timeout) => {
                self.on_not_delivered(call, CallError::Overloaded, None, now);
            }
            State::Attached { link } if overdue(self.config.accept_timeout) => {
                let up = match self.pool.links.line(link) {
                    Some(Line::Mux(mux)) => mux.state() == MuxState::Up,
                    line => line.is_some(),
                };
                if up {
                    let message = "the connection has no stream free".into();
                    let error =
                        CallError::Rejected { code: RejectCode::Overloaded, retry_after: None, message, at: None };
                    self.on_not_delivered(call, error, None, now);
                } else if let Some(entry) = self.calls.get_mut(call.0) {
                    // Whether its connection comes up is the connection's own question.
                    entry.heard = now;
                }
            }
            State::Open { link, stream, phase } => {
                let accepted = phase != Phase::Asked;
                let written = self.pool.links.get(link).and_then(Link::mux).is_some_and(|mux| mux.was_written(stream));
                if !written {
                    // It has not left yet; whether its connection moves is the connection's own question.
                    if let Some(entry) = self.calls.get_mut(call.0) {
                        entry.heard = now;
                    }
                } else if !accepted && overdue(self.config.accept_timeout) {
                    self.fail(call, CallError::NotAccepted, now);
                } else if accepted && overdue(self.config.item_timeout) && !self.has_unread(link, stream) {
                    self.fail(call, CallError::Idle, now);
                } else if accepted && overdue(self.config.item_timeout) {
                    // The reader is slow, not the worker.
                    if let Some(entry) = self.calls.get_mut(call.0) {
                        entry.heard = now;
                    }
                }
            }
            _ => {}
        }
        self.arm(call);
    }

    /// A call sent in Dynamo's protocol has heard nothing for one of its bounds.
    fn on_sent_timeout(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        let State::Sent(sent) = &entry.state else { return };
        let overdue = |bound: Duration| entry.heard + bound <= now;
        let unread = !entry.left_over.is_empty();
        let error = match sent.phase {
            Phase::Asked if overdue(sent.by.patience(&self.config)) => {
                let written = match sent.by {
                    Via::Link(link) => match self.pool.links.line(link) {
                        Some(Line::Requests(client)) => client.was_written(call.0.to_u64()),
                        _ => true,
                    },
                    Via::Carrier(posted) => posted.is_taken(),
                };
                // One that has not left yet waits for its connection, which has bounds of its own.
                written.then_some(CallError::NotAccepted)
            }
            Phase::Accepted if sent.home_until(entry.heard, &self.config.call_home) <= now => {
                return match sent.lost {
                    Some((loss, _)) if sent.is_awaited_home() => self.on_lost_with_worker(call, loss, now),
                    _ => self.fail(call, CallError::NoResponse, now),
                };
            }
            // The reader is slow, not the worker.
            Phase::Started if overdue(self.config.item_timeout) => (!unread).then_some(CallError::Idle),
            _ => return,
        };
        match error {
            Some(CallError::Idle) if self.end_if_complete(call, now) => {}
            Some(error) => self.fail(call, error, now),
            None => {
                if let Some(entry) = self.calls.get_mut(call.0) {
                    entry.heard = now;
                }
            }
        }
    }

    fn has_unread(&self, link: Key, stream: Key) -> bool {
        self.pool.links.get(link).and_then(Link::mux).is_some_and(|mux| mux.has_unread(stream))
    }

    pub(super) fn on_link_timeout(&mut self, key: Key, now: Instant) {
        let Some(link) = self.pool.links.get_mut(key) else { return };
        link.timer = None;
        let outcome = match &mut link.line {
            Some(Line::Mux(mux)) => mux.handle_timeout(now),
            Some(Line::Requests(client)) => client.handle_timeout(now),
            Some(Line::Items(feeder)) => feeder.handle_timeout(now),
            Some(Line::Answers(_)) => {
                self.on_response_timeout(key, now);
                Ok(())
            }
            None => {
                if link.dialed().is_some_and(|dialed| dialed.is_overdue(&self.config, now)) {
                    let conn = link.conn;
                    self.pool.links.act(Action::Close { conn, how: Closing::Abort });
                    self.lose_link(key, Loss::Closed(CloseReason::TimedOut), now);
                }
                Ok(())
            }
        };
        if let Err(fault) = outcome {
            self.on_fault(key, fault, now);
        }
        self.leave_if_idle(key, now);
        self.settle(key, now);
    }

    /// Says goodbye on a connection nobody has used for long enough, or that a shutdown leaves without calls.
    pub(super) fn leave_if_idle(&mut self, key: Key, now: Instant) {
        let closing = self.is_closing();
        let Some(link) = self.pool.links.get_mut(key) else { return };
        let dialed = match &mut link.owner {
            Peer::Dialed(dialed) => dialed,
            Peer::Accepted(home) => {
                if let Some(Line::Answers(receiver)) = &mut link.line
                    && closing
                    && home.call.is_none()
                {
                    receiver.close(Closing::Flush, now);
                    self.settle_link(key, now);
                }
                return;
            }
        };
        if !dialed.is_idle(closing, &self.config, now) {
            return;
        }
        match &mut link.line {
            Some(Line::Mux(mux)) => mux.go_away(),
            Some(Line::Requests(client)) => client.leave(),
            None if closing => {
                let conn = link.conn;
                self.pool.lose(key);
                self.pool.links.act(Action::Close { conn, how: Closing::Abort });
            }
            Some(Line::Answers(_) | Line::Items(_)) | None => {}
        }
        self.settle(key, now);
    }

    pub(super) fn settle(&mut self, key: Key, now: Instant) {
        self.take_mux_events(key, now);
        self.open_waiting(key, now);
        self.settle_link(key, now);
    }

    /// Lists the connection, closes it and moves its timer as it asks for, without a look at what it says.
    pub(super) fn settle_link(&mut self, key: Key, now: Instant) {
        let bound = self.pool.bound(key, &self.config);
        self.pool.links.settle(key, bound, &mut self.wheel, now);
    }
}
