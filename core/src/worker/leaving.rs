//! A worker that leaves, or one of its endpoints: what runs comes to its end, what is new is refused, all within a bound.

use alloc::vec::Vec;

use crate::links::set_timer;
use crate::mux::event::Ending;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::class::Class;
use crate::wire::mux::message::RejectCode;
use crate::worker::drain::DRAIN_TOKEN;
use crate::worker::endpoints::{DRAINED, ENDPOINT_TOKEN};
use crate::worker::job::{Cause, Event, Job, JobId};
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

impl Worker {
    /// Refuses calls for `path` from now on, as a worker does that leaves, while all else is served: callers try elsewhere.
    /// Those in the queue are refused too, running ones finish within `drain_timeout`, and
    /// [`Event::EndpointDrained`] follows. The endpoint's number; `None` if there is no such path.
    pub fn drain_endpoint(&mut self, path: &str, now: Instant) -> Option<u32> {
        let endpoint = self.paths.get(path).copied()?;
        self.drained.begin(endpoint, now + self.config.drain_timeout);
        for job in self.jobs_of(endpoint, |job| !job.running) {
            self.refuse(job, RejectCode::Draining, DRAINED, now);
        }
        self.arm_endpoints();
        self.tell_endpoint_drained(endpoint);
        Some(endpoint)
    }

    /// Takes calls for `path` again. The endpoint's number; `None` if there is no such path.
    pub fn resume_endpoint(&mut self, path: &str) -> Option<u32> {
        let endpoint = self.paths.get(path).copied()?;
        self.drained.resume(endpoint);
        self.arm_endpoints();
        Some(endpoint)
    }

    fn jobs_of(&self, endpoint: u32, which: impl Fn(&Job) -> bool) -> Vec<JobId> {
        let jobs = self.jobs.iter().filter(|(_, job)| job.endpoint == endpoint && which(job));
        jobs.map(|(key, _)| JobId(key)).collect()
    }

    /// A call of the endpoint has ended: it may have been the last.
    pub(super) fn tell_endpoint_drained(&mut self, endpoint: u32) {
        if self.drained.is_waiting(endpoint) && !self.jobs.iter().any(|(_, job)| job.endpoint == endpoint) {
            self.say_endpoint_drained(endpoint, 0);
        }
    }

    fn say_endpoint_drained(&mut self, endpoint: u32, cut_off: u64) {
        if self.drained.finish(endpoint) {
            self.arm_endpoints();
            self.events.push_back(Event::EndpointDrained { endpoint, cut_off });
        }
    }

    pub(super) fn on_endpoint_timeout(&mut self, now: Instant) {
        self.endpoint_timer = None;
        for endpoint in self.drained.overdue(now) {
            let jobs = self.jobs_of(endpoint, |_| true);
            let cut_off = jobs.len() as u64;
            self.stats.cut_off += cut_off;
            for job in jobs {
                let link = self.jobs.get(job.0).and_then(|job| job.stream).map(|place| place.link());
                let ending = Ending::failed(Class::Unavailable, "backend.engine_shutdown", "the endpoint was drained");
                self.detach(job, Some(ending), Cause::Drain, now);
                link.into_iter().for_each(|link| self.settle(link, now));
            }
            self.say_endpoint_drained(endpoint, cut_off);
        }
        self.arm_endpoints();
    }

    fn arm_endpoints(&mut self) {
        let deadline = self.drained.next().map(|at| Deadline { at, why: Reason::Drain });
        if deadline.is_none()
            && let Some(timer) = self.endpoint_timer.take()
        {
            self.wheel.cancel(timer);
        }
        set_timer(&mut self.wheel, &mut self.endpoint_timer, ENDPOINT_TOKEN, deadline);
    }
}
