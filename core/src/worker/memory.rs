//! What requests under way take beside every credit: their headers, and bodies in Dynamo's protocol until they are read.

use crate::buf::room::fits;
use crate::buf::slab::Key;
use crate::mux::event::Ending;
use crate::time::Instant;
use crate::wire::dynamo::failure_key::Key as FailureKey;
use crate::wire::mux::message::RejectCode;
use crate::worker::job::{Cause, JobId};
use crate::worker::kept::Kept;
use crate::worker::machine::Worker;

/// One connection may take this part of the memory for requests.
pub(super) const SHARES: usize = 4;

/// What a caller hears whose item cannot be held.
pub(super) const NO_MEMORY: &str = "there is no memory for an item of the request";

impl Worker {
    /// Whether there is memory for a request, and the connection it came on has a share of it left.
    pub(super) fn can_keep(&self, kept: &Kept) -> bool {
        let (bytes, limit) = (kept.header + kept.body, self.config.max_request_bytes);
        let link = kept.link.and_then(|link| self.links.get(link));
        fits(self.kept, bytes, limit) && fits(link.map_or(0, |link| link.owner.kept), bytes, limit / SHARES)
    }

    /// Charges a request.
    pub(super) fn keep(&mut self, kept: &Kept) {
        self.kept += kept.header + kept.body;
        if let Some(link) = kept.link.and_then(|link| self.links.get_mut(link)) {
            link.owner.kept += kept.header + kept.body;
        }
    }

    /// The request is gone.
    pub(super) fn let_go(&mut self, kept: &Kept) {
        self.return_bytes(kept.link, kept.header + kept.body);
    }

    /// The handler has the request's body.
    pub(super) fn let_go_body(&mut self, job: JobId) {
        if let Some(job) = self.jobs.get_mut(job.0) {
            let (link, body) = (job.kept.link, core::mem::take(&mut job.kept.body));
            self.return_bytes(link, body);
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

    fn return_bytes(&mut self, link: Option<Key>, bytes: usize) {
        self.kept -= bytes;
        if let Some(link) = link.and_then(|link| self.links.get_mut(link)) {
            link.owner.kept -= bytes;
        }
    }
}
