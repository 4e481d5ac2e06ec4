//! The worker's end of requests that are streams: their items, and what becomes of a call whose items fail to come.

use core::task::Poll;

use crate::buf::slab::Key;
use crate::dynamo::items::receiver::{Event as FetchEvent, Receiver, State};
use crate::mux::event::{Ending, Recv};
use crate::time::Instant;
use crate::wire::dynamo::failure_key::Key as FailureKey;
use crate::wire::mux::message::RejectCode;
use crate::worker::calls::NO_MEMORY;
use crate::worker::dynamo::failures::failure;
use crate::worker::job::{Cause, Event, JobId, Place, Source};
use crate::worker::line::Line;
use crate::worker::machine::Worker;

impl Worker {
    pub(in crate::worker) fn take_items_events(&mut self, link: Key, now: Instant) {
        loop {
            let Some(Line::Items(fetcher)) = self.links.line(link) else { return };
            let Some(event) = fetcher.poll_event() else { return };
            let Some(job) = self.links.job(link) else { continue };
            match event {
                FetchEvent::Readable if self.is_running(job) => self.events.push_back(Event::Readable(job)),
                FetchEvent::Readable => {}
                FetchEvent::Stop => self.on_request_aborted(job, Cause::Stop, now),
                FetchEvent::Kill => self.on_request_aborted(job, Cause::Kill, now),
                FetchEvent::Silent => {
                    let text = "no item of the request came for too long";
                    self.give_up(job, FailureKey::DeadlineExceeded, text, Cause::Deadline, now);
                }
                FetchEvent::TooLarge => {
                    let limit = self.config.items.max_item;
                    let text =
                        alloc::format!("an item of the request has more than the {limit} bytes this worker takes");
                    self.give_up(job, FailureKey::PayloadTooLarge, &text, Cause::Kill, now);
                }
                FetchEvent::NoMemory => {
                    self.give_up(job, FailureKey::CapacityExhausted, NO_MEMORY, Cause::Kill, now);
                }
                FetchEvent::Overrun => {
                    let text = "too many bytes of the request wait for the handler";
                    self.give_up(job, FailureKey::CapacityExhausted, text, Cause::Kill, now);
                }
            }
        }
    }

    /// Takes the next item of a request that is a stream, or its end.
    pub(in crate::worker) fn recv_items(&mut self, link: Key) -> Recv {
        let Some(Line::Items(fetcher)) = self.links.line(link) else { return Recv::Pending };
        match fetcher.recv() {
            Poll::Ready(Some(item)) => {
                self.links.relieve(link);
                Recv::Item(item)
            }
            Poll::Ready(None) => Recv::End(Ending::ok()),
            Poll::Pending => Recv::Pending,
        }
    }

    /// The connection of a call's items is gone. Items that are all here outlive it; else the call is broken off.
    pub(in crate::worker) fn on_items_closed(&mut self, job: JobId, fetcher: Receiver, now: Instant) {
        let (up, over) = (fetcher.is_up(), fetcher.state() != State::Reading);
        match (fetcher.into_rest(), self.jobs.get_mut(job.0)) {
            (Some(rest), Some(job)) => job.source = Source::Here(rest),
            (None, Some(_)) if !up => self.on_items_unreachable(job, now),
            (None, Some(_)) if !over => self.on_request_aborted(job, Cause::Disconnected, now),
            _ => {}
        }
    }

    /// Nobody listens where the items of a call are to be fetched.
    pub(in crate::worker) fn on_items_unreachable(&mut self, job: JobId, now: Instant) {
        let text = "cannot connect to fetch the items of the request";
        self.give_up(job, FailureKey::CannotConnect, text, Cause::Disconnected, now);
    }

    /// The handler needs no more items.
    pub(in crate::worker) fn end_source(&mut self, source: &Source, now: Instant) {
        let Some(link) = source.link() else { return };
        self.unbind(link);
        if let Some(Line::Items(fetcher)) = self.links.line(link) {
            fetcher.leave(now);
        }
        self.settle(link, now);
    }

    /// The caller ends its call on the request's stream: the response's ends with it, without its end.
    fn on_request_aborted(&mut self, job: JobId, cause: Cause, now: Instant) {
        self.stats.cancelled += 1;
        let home = if self.is_running(job) {
            let home = self.jobs.get(job.0).and_then(|job| job.stream);
            self.detach(job, None, cause, now);
            home
        } else {
            self.withdraw(job, Some(RejectCode::Cancelled), now)
        };
        let Some(Place::CallHome(home)) = home else { return };
        if let Some(sender) = self.answer(home) {
            sender.cut(now);
        }
        self.settle(home, now);
    }

    /// The call fails though the caller has not ended it: its answer says why.
    fn give_up(&mut self, job: JobId, key: FailureKey, text: &str, cause: Cause, now: Instant) {
        let home = if self.is_running(job) {
            let home = self.jobs.get(job.0).and_then(|job| job.stream);
            self.detach(job, Some(Ending::failed(key.class(), key.name(), text)), cause, now);
            home
        } else {
            self.withdraw(job, None, now)
        };
        let Some(Place::CallHome(home)) = home else { return };
        if let Some(sender) = self.answer(home) {
            // Of no effect but on a call that never ran.
            sender.fail(failure(key, text), now);
        }
        self.settle(home, now);
    }

    fn is_running(&self, job: JobId) -> bool {
        self.jobs.get(job.0).is_some_and(|job| job.running)
    }
}
