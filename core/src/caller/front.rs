//! The calls of one endpoint that wait for a free place, in front of the pick.

use alloc::vec::Vec;
use core::time::Duration;

use crate::caller::request::CallId;
use crate::links::LINK_TOKEN;
use crate::overload::queue::{Queue, Ticket, Wait};
use crate::overload::rate::Rate;
use crate::time::Instant;

/// Names the timer of all endpoints with calls that wait; no call has a key like that.
pub(super) const FRONT_TOKEN: u64 = LINK_TOKEN - 1;

/// How many calls are asked in vain, one after the other, when a place is free: a policy with filters of its own may have no use
/// for it for the one whose turn it is.
const MOST_ASKED: usize = 8;

/// How calls wait for a free place while every instance that would do is full, by its record, its reports or what it refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Calls of one endpoint that may wait; further ones are refused at once, or take the place of one that has to give way: of
    /// lower priority, or of a tenant that has more waiting. Default 0: no call waits, and full instances are picked as well.
    pub max_waiting: usize,
    /// The longest that a call may wait for its turn; it is refused then. Default 60 s.
    pub max_wait: Duration,
    /// Of those that wait while the oldest has waited longer than this for `wait_interval`, the newest are next. Default 500 ms.
    pub wait_target: Duration,
    /// See `wait_target`. Default 5 s.
    pub wait_interval: Duration,
    /// When a refused call is advised to come back, at the earliest: the advice is the time until the queue has moved on by its
    /// length, as it moves now. Default 100 ms.
    pub retry_after: Duration,
    /// The same, at the latest. Default 5 s; below `retry_after` it wins.
    pub max_retry_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_waiting: 0,
            max_wait: Duration::from_secs(60),
            wait_target: Duration::from_millis(500),
            wait_interval: Duration::from_secs(5),
            retry_after: Duration::from_millis(100),
            max_retry_after: Duration::from_secs(5),
        }
    }
}

/// The calls that wait, and how fast places become free for them.
#[derive(Debug)]
pub(super) struct Front {
    config: Config,
    queue: Queue<CallId>,
    rate: Rate,
    /// Places are being given out: what becomes free meanwhile is seen by who gives them.
    serving: bool,
    /// Calls that have been asked in vain meanwhile.
    aside: Vec<CallId>,
    /// Whether the newest are next this time, by a look at all that wait.
    newest_first: Option<bool>,
}

impl Front {
    pub(super) fn new(config: Config) -> Self {
        let queue = Queue::new(config.wait_target, config.wait_interval);
        Self { config, queue, rate: Rate::default(), serving: false, aside: Vec::new(), newest_first: None }
    }

    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.queue.len()
    }

    /// Makes room for one more: `Err` if there is none, else the call that gives way, if one has to.
    pub(super) fn make_room(&mut self, comer: &Wait) -> Result<Option<CallId>, ()> {
        if self.queue.len() < self.config.max_waiting {
            return Ok(None);
        }
        self.queue.displace(comer).map(Some).ok_or(())
    }

    /// One more waits, or one waits on that has a ticket.
    pub(super) fn add(&mut self, call: CallId, wait: Wait, ticket: Option<Ticket>) -> Ticket {
        match ticket {
            Some(ticket) => self.queue.put_back(call, wait, ticket),
            None => self.queue.add(call, wait),
        }
    }

    /// One waits no more.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        self.queue.remove(ticket);
    }

    /// Takes the one whose turn it is; none once enough have been asked in vain.
    pub(super) fn next(&mut self, now: Instant) -> Option<CallId> {
        if self.has_asked_enough() {
            return None;
        }
        let newest_first = *self.newest_first.get_or_insert_with(|| self.queue.stands(now));
        self.queue.next_by_age(newest_first, |_| true)
    }

    /// One that has waited finds no place that it has use for; it waits on once all places are given out. `false` if none are being
    /// given out.
    pub(super) fn set_aside(&mut self, call: CallId) -> bool {
        if self.serving {
            self.aside.push(call);
        }
        self.serving
    }

    /// A place becomes free.
    pub(super) fn on_freed(&mut self, now: Instant) {
        if self.queue.is_empty() {
            self.rate.on_slack();
        } else {
            self.rate.on_freed(now);
        }
    }

    /// Begins to give out places; `false` if that is being done.
    pub(super) const fn begin_serving(&mut self) -> bool {
        !core::mem::replace(&mut self.serving, true)
    }

    /// Takes those that were asked in vain, and whether they go behind the others of their tenants: as many as may be asked would be
    /// the next ones again, and nobody else would ever be.
    pub(super) fn end_serving(&mut self, now: Instant) -> (Vec<CallId>, bool) {
        let behind = self.has_asked_enough();
        (self.serving, self.newest_first) = (false, None);
        if self.aside.is_empty() && self.queue.is_empty() {
            // It flows.
            self.queue.stands(now);
        }
        (core::mem::take(&mut self.aside), behind)
    }

    const fn has_asked_enough(&self) -> bool {
        self.aside.len() >= MOST_ASKED
    }

    /// When a call that is turned away is to come back.
    pub(super) fn advice(&self) -> Duration {
        let Config { retry_after, max_retry_after, .. } = self.config;
        let moved_on = self.rate.until(self.queue.len().saturating_add(1)).unwrap_or(retry_after);
        moved_on.max(retry_after).min(max_retry_after)
    }
}
