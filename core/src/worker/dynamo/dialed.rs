//! The connections that a worker dials: for the answers of calls, for the items of requests, for refusals.

use core::net::SocketAddr;

use crate::buf::slab::Key;
use crate::dynamo::items::receiver::State as FetchState;
use crate::dynamo::response::sender::State;
use crate::id::ConnId;
use crate::protocol::{Action, CloseReason};
use crate::time::{Deadline, Instant};
use crate::worker::dynamo::dial::Dialed;
use crate::worker::job::{Place, Source};
use crate::worker::line::Line;
use crate::worker::machine::Worker;
use crate::worker::peer::{Peer, Side};

impl Worker {
    pub(super) fn dial_home(&mut self, line: Line, refusal: bool, addr: SocketAddr, now: Instant) -> Key {
        let key = self.insert_dialed(line, Dialed::new(addr, refusal, now), self.drain.is_leaving());
        self.connect(key, addr);
        self.settle(key, now);
        key
    }

    fn insert_dialed(&mut self, line: Line, dialed: Dialed, late: bool) -> Key {
        let key = self.links.insert(Peer { late, side: Side::Dialed(dialed) }, |key| ConnId::dialed_home(key.to_u64()));
        if let Some(link) = self.links.get_mut(key) {
            link.line = Some(line);
        }
        key
    }

    fn connect(&mut self, key: Key, addr: SocketAddr) {
        self.stats.dials += 1;
        if let Some(conn) = self.links.get(key).map(|link| link.conn) {
            self.by_conn.insert(conn, key);
            self.links.act(Action::Connect { conn, addr });
        }
    }

    /// A dial has succeeded.
    pub(in crate::worker) fn on_dialed(&mut self, conn: ConnId, now: Instant) {
        let Some(key) = self.by_conn.get(&conn).copied() else { return };
        if let Some(dialed) = self.links.dialed_mut(key) {
            dialed.on_done();
        }
        match self.links.line(key) {
            Some(Line::Answer(sender)) => sender.handle_open(now),
            Some(Line::Items(fetcher)) => fetcher.handle_open(now),
            _ => {}
        }
        self.settle(key, now);
    }

    /// A dialed connection is gone, or never came up.
    pub(in crate::worker) fn on_dialed_closed(&mut self, key: Key, why: CloseReason, now: Instant) {
        self.links.close(key);
        let Some(link) = self.links.remove(key, &mut self.wheel) else { return };
        let (Some(line), Peer { late, side: Side::Dialed(mut dialed) }) = (link.line, link.owner) else { return };
        let up = is_up(&line);
        if !up && !is_closing(&line) && dialed.on_failed(why, &self.config, now) {
            return self.dial_again(line, dialed, late, now);
        }
        if !up && why != CloseReason::Local {
            self.stats.dial_failures += 1;
        }
        self.refusals -= usize::from(dialed.refusal);
        match (dialed.job.take(), line) {
            (Some(job), Line::Items(fetcher)) => self.on_items_closed(job, *fetcher, now),
            (Some(job), _) => self.lose_job(job, now),
            (None, _) => {}
        }
        self.drain.on_link_gone(late);
    }

    /// The same stream under a new name, to be dialed once the pause is over.
    fn dial_again(&mut self, line: Line, dialed: Dialed, late: bool, now: Instant) {
        let (job, fetches) = (dialed.job, matches!(line, Line::Items(_)));
        let new = self.insert_dialed(line, dialed, late);
        if let Some(job) = job.and_then(|job| self.jobs.get_mut(job.0)) {
            if fetches {
                job.source = Source::Fetched(new);
            } else {
                job.stream = Some(Place::CallHome(new));
            }
        }
        self.settle(new, now);
    }

    /// The deadline of a dial, for the one that settles the link.
    pub(in crate::worker) fn dial_deadline(&self, link: Key) -> Option<Deadline> {
        self.links.dialed(link)?.deadline(self.config.dial_timeout)
    }

    /// Whether the link waits to be dialed again: the driver does not know it.
    pub(in crate::worker) fn is_pausing(&self, link: Key) -> bool {
        self.links.dialed(link).is_some_and(Dialed::is_pausing)
    }

    /// A timer of a dialed link has fired.
    pub(in crate::worker) fn on_dialed_timeout(&mut self, link: Key, now: Instant) {
        let outcome = match self.links.line(link) {
            Some(Line::Answer(sender)) => sender.handle_timeout(now),
            Some(Line::Items(fetcher)) => fetcher.handle_timeout(now),
            _ => Ok(()),
        };
        self.stats.faults += u64::from(outcome.is_err());
        if self.dial_deadline(link).is_none_or(|deadline| deadline.at > now) {
            return;
        }
        let Some(dialed) = self.links.dialed_mut(link) else { return };
        let addr = dialed.addr;
        if dialed.on_pause_over(now) {
            return self.connect(link, addr);
        }
        dialed.on_done();
        let job = dialed.job.take();
        self.stats.dial_failures += 1;
        let fetches = match self.links.line(link) {
            Some(Line::Items(fetcher)) => {
                fetcher.close(now);
                true
            }
            Some(Line::Answer(sender)) => {
                sender.close(now);
                false
            }
            _ => false,
        };
        match job {
            Some(job) if fetches => self.on_items_unreachable(job, now),
            Some(job) => self.lose_job(job, now),
            None => {}
        }
    }

    /// Removes a link that waits to be dialed again and no longer has a reason to: the driver does not know it.
    pub(in crate::worker) fn drop_pausing(&mut self, link: Key, now: Instant) {
        let closing = self.links.line(link).is_some_and(|line| is_closing(line));
        if closing && self.is_pausing(link) {
            self.on_dialed_closed(link, CloseReason::Local, now);
        }
    }

    /// The job has nothing more to do with its connection.
    pub(in crate::worker) fn unbind(&mut self, link: Key) {
        if let Some(dialed) = self.links.dialed_mut(link) {
            dialed.job = None;
        }
    }
}

/// Whether a dialed connection has come up.
fn is_up(line: &Line) -> bool {
    match line {
        Line::Answer(sender) => sender.is_up(),
        Line::Items(fetcher) => fetcher.is_up(),
        _ => false,
    }
}

/// Whether a dialed connection is of no more use.
fn is_closing(line: &Line) -> bool {
    match line {
        Line::Answer(sender) => sender.state() == State::Closing,
        Line::Items(fetcher) => fetcher.state() == FetchState::Closing,
        _ => false,
    }
}
