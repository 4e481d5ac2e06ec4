//! A worker that leaves: what runs comes to its end, what is new is refused, all within a bound.

use alloc::vec::Vec;

use crate::links::set_timer;
use crate::mux::event::Ending;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::class::Class;
use crate::wire::mux::message::RejectCode;
use crate::worker::drain::DRAIN_TOKEN;
use crate::worker::job::{Cause, Event, JobId};
use crate::worker::line::Line;
use crate::worker::machine::Worker;

impl Worker {
    /// Finishes what runs, refuses everything new, then says [`Event::Drained`]. Bounded by `drain_timeout`.
    pub fn drain(&mut self, now: Instant) {
        let until = now + self.config.drain_timeout;
        if !self.drain.begin(until, self.links.len()) {
            return;
        }
        let deadline = Deadline { at: until, why: Reason::Drain };
        set_timer(&mut self.wheel, &mut self.drain_timer, DRAIN_TOKEN, Some(deadline));
        while let Some(job) = self.admission.pop() {
            self.refuse(job, RejectCode::Draining, "the worker is leaving", now);
        }
        for key in self.links.keys() {
            if let Some(mux) = self.links.mux(key) {
                mux.go_away();
            }
            self.settle(key, now);
        }
        self.tell_drained(now);
    }

    pub(super) fn on_drain_timeout(&mut self, now: Instant) {
        self.drain_timer = None;
        if !self.drain.is_overdue(now) {
            return;
        }
        let jobs: Vec<JobId> = self.jobs.iter().map(|(key, _)| JobId(key)).collect();
        self.stats.cut_off += jobs.len() as u64;
        for job in jobs {
            let ending = Ending::failed(Class::Unavailable, "backend.engine_shutdown", "the worker left");
            self.detach(job, Some(ending), Cause::Drain, now);
        }
        for key in self.links.keys() {
            self.settle(key, now);
        }
        self.say_drained();
    }

    pub(super) fn tell_drained(&mut self, now: Instant) {
        if !self.jobs.is_empty() || !self.drain.is_waiting() {
            return;
        }
        // A Dynamo caller cannot be told to leave: its connections stay as long as anything runs.
        for key in self.links.keys() {
            if let Some(Line::Requests(server)) = self.links.line(key) {
                server.leave(now);
                self.settle(key, now);
            }
        }
        if self.drain.has_no_links() {
            self.say_drained();
        }
    }

    fn say_drained(&mut self) {
        if self.drain.finish() {
            if let Some(timer) = self.drain_timer.take() {
                self.wheel.cancel(timer);
            }
            self.events.push_back(Event::Drained);
        }
    }
}
