//! Calls are admitted at once, from the queue or not at all, and lose their place again.

use alloc::vec::Vec;
use core::time::Duration;

use crate::buf::slab::Key;
use crate::links::{Links, set_timer};
use crate::mux::event::Ending;
use crate::observer::{RequestAdmitted, RequestEnded, RequestRunning};
use crate::overload::queue::Wait;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::checksum::xxh3;
use crate::wire::class::Class;
use crate::wire::dynamo::failure_key::Key as FailureKey;
use crate::wire::mux::message::{CancelMode, Open, RejectCode, Status};
use crate::worker::admission::{Comer, Places, Verdict};
use crate::worker::dynamo::failures::{failure_of, refusal};
use crate::worker::endpoints::DRAINED;
use crate::worker::job::{Cause, Event, Job, JobId, Place, Source};
use crate::worker::line::Line;
use crate::worker::machine::Worker;
use crate::worker::memory::{Charge, Share};
use crate::worker::peer::Peer;

/// What a call hears that is refused for what others of its connection hold.
const SHARE_HELD: &str = "calls from this connection hold its share of the worker";

/// Why a call is refused for which there is no place.
const FULL: &str = "running and queued calls are at their limits";
/// Why one is whose endpoint holds too many.
const ENDPOINT_FULL: &str = "calls for this endpoint hold its share of the worker";
/// Why one that waited is.
const DISPLACED: &str = "the queue is full, and calls of a higher priority or of others come first";
/// Why one that waited for too long is.
const WAITED: &str = "the call waited for its turn as long as one may";
/// Why one is for whose header there is no memory.
const HEAVY: &str = "the headers of running and queued calls are at their limit";

/// What a call hears that arrives without time left.
pub(super) const EXPIRED: &str = "the deadline passed before the call arrived";
/// What one hears that had time when it arrived.
const LATE: &str = "the deadline passed before the call could run";

/// What a caller hears whose item cannot be held.
pub(super) const NO_MEMORY: &str = "there is no memory for an item of the request";

/// Whose a call is: a tenant that it names, else the connection it came on.
pub(super) fn tenant(named: Option<&str>, from: Option<Key>) -> u64 {
    // Keys of links leave the top bit free.
    named.map_or(from.map_or(0, Key::to_u64), |name| xxh3(name.as_bytes(), &[]) | 1 << 63)
}

/// The places that a connection holds, to be counted.
fn places_mut(links: &mut Links<Peer, Line>, from: Option<Key>) -> Option<&mut Places> {
    Some(&mut links.accepted_mut(from?)?.places)
}

/// The memory that a connection holds, to be counted.
pub(super) fn share_mut(links: &mut Links<Peer, Line>, from: Option<Key>) -> Option<&mut Share> {
    Some(&mut links.accepted_mut(from?)?.share)
}

impl Worker {
    /// A caller opened a stream: it becomes a call, or is rejected.
    pub(super) fn on_open(&mut self, link: Key, stream: Key, now: Instant) {
        let header = self.links.mux(link).map_or(0, |mux| mux.header_len(stream));
        let charge = Charge::new(header, 0);
        let heavy = !self.has_memory(&charge, Some(link));
        let Some(mux) = self.links.mux(link) else { return };
        let Some(open) = mux.opening(stream) else { return };
        let Some(endpoint) = self.paths.get(open.path).copied() else {
            self.stats.refused += 1;
            mux.reject(stream, RejectCode::UnknownEndpoint, 0, "no such endpoint here");
            return;
        };
        if self.drained.refuses(endpoint) {
            self.stats.refused += 1;
            mux.reject(stream, RejectCode::Draining, 0, DRAINED);
            return;
        }
        if open.remaining_us == Some(0) {
            self.stats.expired += 1;
            mux.reject(stream, RejectCode::Expired, 0, EXPIRED);
            return;
        }
        let deadline = open.remaining_us.map(|micros| now + Duration::from_micros(micros));
        let repeated = open.attempts > 0;
        let tenant = tenant(open.tenant, Some(link));
        let wait = Wait { priority: open.priority, tenant, group: endpoint, deadline, since: now };
        let comer = Comer { places: self.places(Some(link)), wait };
        if let Some(text) = if heavy { Some(HEAVY) } else { self.make_room(&comer, now) } {
            self.stats.overloaded += 1;
            let after = self.advice();
            self.report_after(link, now);
            if let Some(mux) = self.links.mux(link) {
                mux.reject(stream, RejectCode::Overloaded, after, text);
            }
            return;
        }
        self.stats.repeated += u64::from(repeated);
        let Some(mux) = self.links.mux(link) else { return };
        let header = mux.take_header(stream).unwrap_or_default();
        let place = Place::Mux(link, stream);
        let job = self.admit(Job {
            endpoint,
            stream: Some(place),
            running: false,
            ticket: None,
            began: None,
            came: now,
            ran: None,
            cause: None,
            span: None,
            from: Some(link),
            header,
            source: Source::Mux,
            deadline,
            timer: None,
            charge,
        });
        if let Some(mux) = self.links.mux(link) {
            mux.set_tag(stream, job.0.to_u64());
        }
        self.run_or_queue(job, wait);
    }

    /// Has a call give way to one that comes now, if one has to; why there is no room even so.
    pub(super) fn make_room(&mut self, comer: &Comer, now: Instant) -> Option<&'static str> {
        match self.admission.weigh(comer) {
            Verdict::Fits => None,
            Verdict::Full => Some(FULL),
            Verdict::ShareHeld => Some(SHARE_HELD),
            Verdict::EndpointFull => Some(ENDPOINT_FULL),
            Verdict::Displaces => {
                let job = self.admission.displace(comer)?;
                self.stats.overloaded += 1;
                self.stats.displaced += 1;
                self.refuse(job, RejectCode::Overloaded, DISPLACED, now);
                None
            }
        }
    }

    /// When a call that is refused for want of room should be tried again, in milliseconds.
    fn advice(&self) -> u32 {
        let config = &self.config;
        let next = self.admission.next_place().unwrap_or_default();
        let after = next.max(config.retry_after).min(config.max_retry_after.max(config.retry_after));
        u32::try_from(after.as_millis()).unwrap_or(u32::MAX)
    }

    /// The places that the connection holds from which a call comes.
    pub(super) fn places(&self, from: Option<Key>) -> Option<Places> {
        Some(self.links.accepted(from?)?.places)
    }

    /// Whether there is memory for a request, and the connection it came on has some of its share left.
    pub(super) fn has_memory(&self, charge: &Charge, from: Option<Key>) -> bool {
        let share = from.and_then(|from| self.links.accepted(from)).map(|accepted| accepted.share);
        self.memory.fits(charge, share)
    }

    /// The call is gone from wherever it was: its place is free, and so is what it held.
    pub(super) fn give_back(&mut self, gone: &Job) {
        self.admission.give_back(gone.endpoint, gone.running, places_mut(&mut self.links, gone.from));
        self.memory.give_back(&gone.charge, share_mut(&mut self.links, gone.from));
    }

    /// Names a call, keeps what it holds and watches its deadline.
    pub(super) fn admit(&mut self, job: Job) -> JobId {
        self.memory.keep(&job.charge, share_mut(&mut self.links, job.from));
        let job = JobId(self.jobs.insert(job));
        if self.observer.is_some() {
            self.tell_admitted(job);
        }
        job
    }

    #[cold]
    fn tell_admitted(&self, job: JobId) {
        let Some((observer, entry)) = self.observer.as_ref().zip(self.jobs.get(job.0)) else { return };
        let endpoint = self.names.get(&entry.endpoint).map_or("", |name| name);
        let open = Open::parse(&entry.header).unwrap_or_default();
        let admitted = RequestAdmitted { endpoint, open, deadline: entry.deadline, now: entry.came };
        observer.request_admitted(job, &admitted);
    }

    /// The call has been taken out: its handler has ended it, or it has never run and its caller is told that.
    #[cold]
    pub(super) fn tell_ended(&self, job: JobId, gone: &Job, how: Result<&Ending, Option<RejectCode>>, now: Instant) {
        let Some(observer) = &self.observer else { return };
        let ended = RequestEnded {
            endpoint: self.names.get(&gone.endpoint).map_or("", |name| name),
            ending: how.ok(),
            cause: gone.cause,
            refused: how.err().flatten(),
            admitted: gone.came,
            running: gone.ran,
            now,
        };
        observer.request_ended(job, &ended);
    }

    pub(super) fn run_or_queue(&mut self, job: JobId, wait: Wait) {
        if self.admission.runs_at_once(wait.group) {
            return self.run(job, wait.since);
        }
        self.stats.queued += 1;
        let Some(entry) = self.jobs.get_mut(job.0) else { return };
        let (ticket, ahead) = self.admission.wait(job, wait, places_mut(&mut self.links, entry.from));
        entry.ticket = Some(ticket);
        let bound = Deadline { at: wait.since + self.config.max_wait, why: Reason::QueueWait };
        let own = entry.deadline.map(|at| Deadline { at, why: Reason::CallDeadline });
        set_timer(&mut self.wheel, &mut entry.timer, job.0.to_u64(), Deadline::soonest(Some(bound), own));
        self.set_status(job, Status::Queued(ahead));
    }

    fn run(&mut self, job: JobId, now: Instant) {
        let Some(entry) = self.jobs.get_mut(job.0) else { return };
        entry.running = true;
        entry.ran = Some(now);
        if let Some(observer) = &self.observer {
            let endpoint = self.names.get(&entry.endpoint).map_or("", |name| name);
            let running = RequestRunning { endpoint, admitted: entry.came, now };
            entry.span = observer.request_running(job, &running);
        }
        entry.began = self.admission.is_adaptive().then_some(now);
        if entry.deadline.is_some() || entry.timer.is_some() {
            let deadline = entry.deadline.map(|at| Deadline { at, why: Reason::CallDeadline });
            set_timer(&mut self.wheel, &mut entry.timer, job.0.to_u64(), deadline);
        }
        let (endpoint, from, place) = (entry.endpoint, entry.from, entry.stream);
        self.admission.run(endpoint, places_mut(&mut self.links, from));
        self.stats.admitted += 1;
        match place {
            Some(Place::CallHome(link)) => {
                if let Some(sender) = self.answer(link) {
                    sender.start();
                }
            }
            _ => self.set_status(job, Status::Running),
        }
        self.events.push_back(Event::Request { job, endpoint });
    }

    fn set_status(&mut self, job: JobId, status: Status) {
        let Some(Place::Mux(link, stream)) = self.jobs.get(job.0).and_then(|job| job.stream) else { return };
        if let Some(mux) = self.links.mux(link) {
            mux.status(stream, status);
        }
    }

    pub(super) fn admit_queued(&mut self, now: Instant) {
        while let Some(job) = self.admission.next(now) {
            let Some(entry) = self.jobs.get_mut(job.0) else { continue };
            entry.ticket = None;
            let (endpoint, from, place) = (entry.endpoint, entry.from, entry.stream);
            if entry.deadline.is_some_and(|at| at <= now) {
                self.expire(job, now);
            } else if self.admission.runs_its_share(self.places(from)) {
                // As it would be if it came now.
                self.stats.overloaded += 1;
                self.refuse(job, RejectCode::Overloaded, SHARE_HELD, now);
            } else if let Some(place) = place {
                self.admission.give_back(endpoint, false, places_mut(&mut self.links, from));
                self.run(job, now);
                self.settle(place.link(), now);
            }
        }
    }

    pub(super) fn on_cancel(&mut self, job: JobId, mode: CancelMode, now: Instant) {
        let Some(entry) = self.jobs.get_mut(job.0) else { return };
        self.stats.cancelled += 1;
        match (entry.running, mode) {
            (false, _) => self.refuse(job, RejectCode::Cancelled, "cancelled before it ran", now),
            (true, CancelMode::Stop) => {
                entry.cause = Some(Cause::Stop);
                self.events.push_back(Event::Cancelled(job, Cause::Stop));
            }
            (true, CancelMode::Kill) => {
                let ending = Ending::failed(Class::Cancelled, "request.cancelled", "killed by its caller");
                self.detach(job, Some(ending), Cause::Kill, now);
            }
        }
    }

    /// The caller kept the call waiting for too long; its stream is ending already.
    pub(super) fn on_stalled(&mut self, job: JobId, now: Instant) {
        let Some(entry) = self.jobs.get(job.0) else { return };
        self.stats.stalled += 1;
        if entry.running {
            self.detach(job, None, Cause::Deadline, now);
        } else {
            self.withdraw(job, None, now);
        }
    }

    /// An item of the call's request cannot be held: it never runs, or ends now.
    pub(super) fn on_starved(&mut self, job: JobId, now: Instant) {
        let Some(entry) = self.jobs.get(job.0) else { return };
        self.stats.overloaded += 1;
        if entry.running {
            let key = FailureKey::CapacityExhausted;
            self.detach(job, Some(Ending::failed(key.class(), key.name(), NO_MEMORY)), Cause::Kill, now);
        } else {
            self.refuse(job, RejectCode::Overloaded, NO_MEMORY, now);
        }
    }

    /// A call that has not run never will.
    pub(super) fn refuse(&mut self, job: JobId, code: RejectCode, message: &str, now: Instant) {
        match self.withdraw(job, Some(code), now) {
            Some(Place::Mux(link, stream)) => {
                let after = if code == RejectCode::Overloaded { self.advice() } else { 0 };
                if let Some(mux) = self.links.mux(link) {
                    mux.reject(stream, code, after, message);
                }
                self.links.settle(link, None, &mut self.wheel, now);
            }
            Some(Place::CallHome(link)) => {
                match (self.answer(link), refusal(code, message)) {
                    (Some(sender), Some(failure)) => sender.fail(failure, now),
                    (Some(sender), None) => sender.close(now),
                    (None, _) => {}
                }
                self.links.settle(link, None, &mut self.wheel, now);
            }
            None => {}
        }
    }

    /// Takes a call that has not run out of the queue, whose caller is told `code`; where its answer would have gone.
    pub(super) fn withdraw(&mut self, job: JobId, code: Option<RejectCode>, now: Instant) -> Option<Place> {
        let gone = self.jobs.remove(job.0)?;
        if self.observer.is_some() {
            self.tell_ended(job, &gone, Err(code), now);
        }
        if let Some(ticket) = gone.ticket {
            self.admission.withdraw(ticket);
        }
        self.give_back(&gone);
        self.stats.refused += 1;
        if let Some(timer) = gone.timer {
            self.wheel.cancel(timer);
        }
        if let Some(Place::CallHome(link)) = gone.stream {
            self.unbind(link);
        }
        self.end_source(&gone.source, now);
        gone.stream
    }

    /// A running call loses its stream; the application is told and lets go of it in its own time.
    pub(super) fn detach(&mut self, job: JobId, ending: Option<Ending>, cause: Cause, now: Instant) {
        let Some(entry) = self.jobs.get_mut(job.0) else { return };
        let Some(place) = entry.stream.take() else { return };
        entry.cause = Some(cause);
        let source = core::mem::replace(&mut entry.source, Source::Mux);
        if let Some(timer) = entry.timer.take() {
            self.wheel.cancel(timer);
        }
        match place {
            Place::Mux(link, stream) => {
                if let (Some(ending), Some(mux)) = (ending, self.links.mux(link)) {
                    mux.abort(stream, ending);
                }
            }
            Place::CallHome(link) => {
                self.unbind(link);
                if let (Some(ending), Some(sender)) = (ending, self.answer(link))
                    && let Some(failure) = failure_of(&ending)
                {
                    sender.abort(failure, now);
                }
            }
        }
        self.end_source(&source, now);
        self.events.push_back(Event::Cancelled(job, cause));
    }

    /// The way to the caller is gone: a queued call never runs, a running one is told.
    pub(super) fn lose_job(&mut self, job: JobId, now: Instant) {
        if self.jobs.get(job.0).is_some_and(|job| job.running) {
            self.detach(job, None, Cause::Disconnected, now);
        } else {
            self.refuse(job, RejectCode::Cancelled, "", now);
        }
    }

    pub(super) fn on_call_timeout(&mut self, job: JobId, now: Instant) {
        let Some(entry) = self.jobs.get_mut(job.0) else { return };
        entry.timer = None;
        if entry.running || entry.deadline.is_some_and(|at| at <= now) {
            return self.expire(job, now);
        }
        let link = entry.stream.map(Place::link);
        self.stats.overloaded += 1;
        self.refuse(job, RejectCode::Overloaded, WAITED, now);
        if let Some(link) = link {
            self.settle(link, now);
        }
    }

    fn expire(&mut self, job: JobId, now: Instant) {
        let Some(entry) = self.jobs.get(job.0) else { return };
        let link = entry.stream.map(Place::link);
        self.stats.expired += 1;
        if entry.running {
            let ending = Ending::failed(Class::DeadlineExceeded, "request.deadline_exceeded", "the deadline passed");
            self.detach(job, Some(ending), Cause::Deadline, now);
        } else {
            self.refuse(job, RejectCode::Expired, LATE, now);
        }
        if let Some(link) = link {
            self.settle(link, now);
        }
    }

    /// The connection is as good as gone: its queued calls never run, its running ones are told.
    pub(super) fn lose_jobs(&mut self, link: Key, now: Instant) {
        let on_link = |job: &Job| job.stream.is_some_and(|place| place.link() == link);
        let jobs: Vec<JobId> = self.jobs.iter().filter(|(_, job)| on_link(job)).map(|(key, _)| JobId(key)).collect();
        for job in jobs {
            self.lose_job(job, now);
        }
    }
}
