//! The calls of one endpoint that wait for a free place, in front of the pick.

use core::time::Duration;

use crate::caller::request::CallId;
use crate::links::LINK_TOKEN;
use crate::overload::queue::{Queue, Ticket, Wait};
use crate::overload::rate::Rate;
use crate::time::Instant;

/// Names the timer of all endpoints with calls that wait; no call has a key like that.
pub(super) const FRONT_TOKEN: u64 = LINK_TOKEN - 1;

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
}

impl Front {
    pub(super) fn new(config: Config) -> Self {
        let queue = Queue::new(config.wait_target, config.wait_interval);
        Self { config, queue, rate: Rate::default(), serving: false }
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

    /// One more waits.
    pub(super) fn add(&mut self, call: CallId, wait: Wait) -> Ticket {
        self.queue.add(call, wait)
    }

    /// One waits no more.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        self.queue.remove(ticket);
    }

    /// Takes the one whose turn it is.
    pub(super) fn next(&mut self, now: Instant) -> Option<CallId> {
        self.queue.next(now, |_| true)
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

    pub(super) const fn end_serving(&mut self) {
        self.serving = false;
    }

    /// When a call that is turned away is to come back.
    pub(super) fn advice(&self) -> Duration {
        let Config { retry_after, max_retry_after, .. } = self.config;
        let moved_on = self.rate.until(self.queue.len().saturating_add(1)).unwrap_or(retry_after);
        moved_on.max(retry_after).min(max_retry_after)
    }
}
