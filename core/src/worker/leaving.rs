//! A worker that leaves: what runs comes to its end, what is new is refused, all within a bound.

use alloc::vec::Vec;
use core::mem;

use crate::links::set_timer;
use crate::mux::event::Ending;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::class::Class;
use crate::wire::mux::message::RejectCode;
use crate::worker::drain::{DRAIN_TOKEN, Drain};
use crate::worker::job::{Cause, Event, JobId};
use crate::worker::line::Line;
use crate::worker::machine::Worker;

impl Worker {
    /// Finishes what runs, refuses everything new, then says [`Event::Drained`]. Bounded by `drain_timeout`.
    pub fn drain(&mut self, now: Instant) {
        if self.drain.is_some() {
            return;
        }
        let until = now + self.config.drain_timeout;
        let mut timer = None;
        set_timer(&mut self.wheel, &mut timer, DRAIN_TOKEN, Some(Deadline { at: until, why: Reason::Drain }));
        self.drain = Some(Drain { until, told: false, links_left: self.links.len(), timer });
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
        let Some(drain) = &mut self.drain else { return };
        drain.timer = None;
        if drain.until > now {
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
        if !self.jobs.is_empty() || self.drain.as_ref().is_none_or(|drain| drain.told) {
            return;
        }
        // A Dynamo caller cannot be told to leave: its connections stay as long as anything runs.
        for key in self.links.keys() {
            if let Some(Line::Requests(server)) = self.links.line(key) {
                server.leave(now);
                self.settle(key, now);
            }
        }
        if self.drain.as_ref().is_some_and(|drain| drain.links_left == 0) {
            self.say_drained();
        }
    }

    fn say_drained(&mut self) {
        if let Some(drain) = &mut self.drain
            && !mem::replace(&mut drain.told, true)
        {
            if let Some(timer) = drain.timer.take() {
                self.wheel.cancel(timer);
            }
            self.events.push_back(Event::Drained);
        }
    }
}
