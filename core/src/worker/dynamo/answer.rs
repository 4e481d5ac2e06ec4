//! Answers in Dynamo's protocol: their connections, and what a caller says on them.

use crate::buf::slab::Key;
use crate::dynamo::response::sender::{Event as HomeEvent, Sender};
use crate::time::Instant;
use crate::wire::mux::message::RejectCode;
use crate::worker::job::{Cause, Event};
use crate::worker::line::Line;
use crate::worker::machine::Worker;

impl Worker {
    pub(in crate::worker) fn take_answer_events(&mut self, link: Key, now: Instant) {
        loop {
            let Some(Line::Answer(sender)) = self.links.line(link) else { return };
            let Some(event) = sender.poll_event() else { return };
            let Some(job) = self.links.job(link) else { continue };
            let running = self.jobs.get(job.0).is_some_and(|job| job.running);
            match event {
                HomeEvent::Writable if running => self.events.push_back(Event::Writable(job)),
                HomeEvent::Writable => {}
                HomeEvent::Stop | HomeEvent::Kill => {
                    self.stats.cancelled += 1;
                    if running {
                        let cause = if event == HomeEvent::Stop { Cause::Stop } else { Cause::Kill };
                        self.detach(job, None, cause, now);
                    } else {
                        self.refuse(job, RejectCode::Cancelled, "", now);
                    }
                }
            }
        }
    }

    /// The application's answer, onto the call's own connection.
    pub(in crate::worker) fn answer(&mut self, link: Key) -> Option<&mut Sender> {
        match self.links.line(link) {
            Some(Line::Answer(sender)) => Some(sender),
            _ => None,
        }
    }
}
