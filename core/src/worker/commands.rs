//! What the application does with a call: reads it, answers, ends it.

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::mux::event::{Ending, Recv};
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::mux::message::Open;
use crate::wire::trace_context::TraceParent;
use crate::worker::calls::share_mut;
use crate::worker::dynamo::failures::failure_of;
use crate::worker::job::{JobId, Place, Source};
use crate::worker::machine::Worker;

impl Worker {
    /// What the call was opened with.
    pub fn opening(&self, job: JobId) -> Option<Open<'_>> {
        Open::parse(&self.jobs.get(job.0)?.header).ok()
    }

    /// Takes the open frame's header, to keep; read it with [`Open::parse`]. [`Worker::opening`] is empty from then on.
    pub fn take_header(&mut self, job: JobId) -> Option<Bytes> {
        self.jobs.get_mut(job.0).map(|job| core::mem::take(&mut job.header))
    }

    /// The span that an [observer](crate::observer::Observer::request_running) has made for the call.
    pub fn span(&self, job: JobId) -> Option<TraceParent> {
        self.jobs.get(job.0)?.span
    }

    /// When the caller gives up, on this side's clock.
    pub fn deadline(&self, job: JobId) -> Option<Instant> {
        self.jobs.get(job.0)?.deadline
    }

    /// Takes the next item of the request or its end.
    pub fn recv(&mut self, job: JobId) -> Recv {
        let gone = || Recv::End(Ending::failed(Class::Cancelled, "request.cancelled", "the call is gone"));
        let Some(entry) = self.jobs.get_mut(job.0) else { return gone() };
        let (link, stream) = match (entry.stream, &mut entry.source) {
            (None, _) => return gone(),
            (Some(Place::Mux(link, stream)), _) => (link, stream),
            (Some(Place::CallHome(_)), Source::Fetched(link)) => {
                let link = *link;
                return self.recv_items(link);
            }
            (Some(Place::CallHome(_)), Source::Here(items)) => {
                let Some(item) = items.pop_front() else { return Recv::End(Ending::ok()) };
                let from = entry.from;
                self.memory.give_back_body(&mut entry.charge, share_mut(&mut self.links, from));
                return Recv::Item(item);
            }
            (Some(Place::CallHome(_)), Source::Mux) => return gone(),
        };
        let Some(mux) = self.links.mux(link) else { return gone() };
        let received = mux.recv(stream);
        if matches!(received, Recv::Item(_)) {
            self.links.nudge(link);
        }
        received
    }

    /// Queues an item of the answer.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn respond(&mut self, job: JobId, item: Bytes) -> Result<(), SendError> {
        let entry = self.jobs.get_mut(job.0).ok_or(SendError::Closed)?;
        let place = entry.stream.ok_or(SendError::Closed)?;
        if let Some(began) = entry.began.take() {
            self.admission.on_first(began);
        }
        self.links.send(place.link(), place.stream(), item)
    }

    /// Keeps room for an item of the answer of `len` bytes, to be made then and sent next: `false` if there is none yet, and
    /// an [`Event::Writable`](crate::worker::job::Event::Writable) follows.
    ///
    /// # Errors
    /// [`SendError::Closed`] and [`SendError::TooLarge`].
    pub fn reserve(&mut self, job: JobId, len: usize) -> Result<bool, SendError> {
        let place = self.jobs.get(job.0).and_then(|job| job.stream).ok_or(SendError::Closed)?;
        self.links.reserve(place.link(), place.stream(), len)
    }

    /// A writer that was turned away does not try again, or has no use for the room it reserved: others need not wait for it.
    pub fn forgo(&mut self, job: JobId, now: Instant) {
        if let Some(place) = self.jobs.get(job.0).and_then(|job| job.stream) {
            self.links.forgo(place.link(), place.stream());
            self.settle(place.link(), now);
        }
    }

    /// The application is done with the call; its outcome goes out after the items queued. Frees the running slot. To be
    /// called exactly once per [`Event::Request`](crate::worker::job::Event::Request), cancelled or not.
    pub fn finish(&mut self, job: JobId, ending: Ending, now: Instant) {
        let Some(gone) = self.jobs.remove(job.0) else { return };
        if self.observer.is_some() {
            self.tell_ended(job, &gone, Ok(&ending), now);
        }
        let is_well = ending.class.is_none();
        if let Some(timer) = gone.timer {
            self.wheel.cancel(timer);
        }
        match gone.stream {
            Some(Place::Mux(link, stream)) => {
                self.report_after(link, now);
                if let Some(mux) = self.links.mux(link) {
                    mux.end(stream, ending);
                }
                self.links.nudge(link);
            }
            Some(Place::CallHome(link)) => {
                self.unbind(link);
                if let Some(sender) = self.answer(link) {
                    sender.finish(failure_of(&ending), now);
                }
                self.settle(link, now);
            }
            None => {}
        }
        self.end_source(&gone.source, now);
        self.admission.on_ended(now);
        if let Some(began) = gone.began.filter(|_| is_well) {
            self.admission.on_first(began);
        }
        self.admission.adapt(now);
        self.give_back(&gone);
        self.admit_queued(now);
        self.tell_endpoint_drained(gone.endpoint);
        self.tell_drained(now);
    }
}
