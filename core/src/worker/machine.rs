//! The worker machine: admission, hand-over, answers, cancellation, drain.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use core::net::SocketAddr;

use hashbrown::HashMap;

use crate::buf::send_queue::SendQueue;
use crate::buf::slab::{Key, Slab};
use crate::buf::wheel::{TimerId, Wheel};
use crate::dynamo::request::server::Server;
use crate::id::ConnId;
use crate::links::{LINK_TOKEN, Links, Writer};
use crate::mux::config::Config as MuxConfig;
use crate::mux::connection::Connection;
use crate::mux::event::{Event as MuxEvent, Role, Stats as MuxStats};
use crate::observer::Observer;
use crate::protocol::{Action, CloseReason, Fault, Protocol};
use crate::route::load::Load;
use crate::time::{Deadline, Instant};
use crate::worker::admission::Admission;
use crate::worker::config::Config;
use crate::worker::drain::{DRAIN_TOKEN, Drain};
use crate::worker::dynamo::partial::Partials;
use crate::worker::endpoints::{ENDPOINT_TOKEN, Endpoints};
use crate::worker::job::{Event, Job, JobId};
use crate::worker::line::Line;
use crate::worker::memory::Memory;
use crate::worker::peer::{Accepted, Peer, Side};
use crate::worker::stats::{Footprint, Stats};

/// The worker of one core. See [`Protocol`] for how to drive it.
///
/// # Deadlines
/// `CallDeadline` per call; `Connect` and `Redial` per dial home; `Drain` while draining; each connection's own (`Hello`,
/// `Ping`, `Pong`, `SendStall`, `RequestFrame`, `ItemGap`, `Idle`, `CallHomeFin`, `Drain`).
#[derive(Debug)]
pub struct Worker {
    pub(super) config: Config,
    /// Its part for connections, which all share it.
    mux: Arc<MuxConfig>,
    pub(super) paths: BTreeMap<String, u32>,
    /// What observers are told that an endpoint is called.
    pub(super) names: BTreeMap<u32, Box<str>>,
    pub(super) observer: Option<Rc<dyn Observer>>,
    pub(super) links: Links<Peer, Line>,
    pub(super) by_conn: HashMap<ConnId, Key>,
    pub(super) jobs: Slab<Job>,
    pub(super) admission: Admission,
    /// Refusals on call-home connections that are not closed.
    pub(super) refusals: usize,
    pub(super) memory: Memory,
    /// The application's own gauges, in the form of a report.
    pub(super) gauges: Load,
    pub(super) partials: Partials,
    pub(super) wheel: Wheel,
    pub(super) events: VecDeque<Event>,
    pub(super) drain: Drain,
    /// Its bound.
    pub(super) drain_timer: Option<TimerId>,
    /// Endpoints that take nothing new.
    pub(super) drained: Endpoints,
    /// The earliest of their bounds.
    pub(super) endpoint_timer: Option<TimerId>,
    pub(super) stats: Stats,
    /// What mux connections that are gone have counted.
    mux_gone: MuxStats,
}

impl Worker {
    /// A worker that serves nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            mux: Arc::new(config.mux),
            paths: BTreeMap::new(),
            names: BTreeMap::new(),
            observer: None,
            links: Links::new(config.max_outgoing),
            by_conn: HashMap::new(),
            jobs: Slab::new(),
            admission: Admission::new(&config),
            refusals: 0,
            memory: Memory::new(config.max_request_bytes),
            gauges: Load::default(),
            partials: Partials::new(config.max_partial),
            wheel: Wheel::default(),
            events: VecDeque::new(),
            drain: Drain::new(),
            drain_timer: None,
            drained: Endpoints::default(),
            endpoint_timer: None,
            stats: Stats::default(),
            mux_gone: MuxStats::default(),
        }
    }

    /// Has requests watched from now on; those under way are told of from their next step on.
    pub fn observe(&mut self, observer: Rc<dyn Observer>) {
        self.observer = Some(observer);
    }

    /// What [observers](Self::observe) are told that the endpoint of that number is called: `namespace.component.endpoint`. Its path
    /// before.
    pub fn name(&mut self, endpoint: u32, name: &str) {
        self.names.insert(endpoint, name.into());
    }

    /// Serves calls for `path` under the application's number `endpoint`.
    pub fn serve(&mut self, path: &str, endpoint: u32) {
        self.paths.insert(path.into(), endpoint);
        self.names.entry(endpoint).or_insert_with(|| path.into());
    }

    /// Refuses calls for `path` from now on; running ones go on.
    pub fn unserve(&mut self, path: &str) {
        self.paths.remove(path);
    }

    /// Calls running and waiting.
    pub fn load(&self) -> (usize, usize) {
        self.admission.load()
    }

    /// Connections held, streams on them, bytes charged to their windows and pools: all zero when idle.
    pub fn footprint(&self) -> Footprint {
        let (connections, jobs, held) = (self.links.len() as u64, self.jobs.len() as u64, self.partials.held() as u64);
        let (outgoing, kept) = (self.links.outgoing() as u64, self.memory.held() as u64);
        let (running, waiting) = self.admission.load();
        let (running, waiting) = (running as u64, waiting as u64);
        let mut footprint =
            Footprint { connections, jobs, running, waiting, held, outgoing, kept, ..Footprint::default() };
        for line in self.links.iter().filter_map(|(_, link)| link.line.as_ref()) {
            match line {
                Line::Mux(mux) => {
                    footprint.streams += mux.streams() as u64;
                    footprint.held += mux.held();
                    footprint.reserved += mux.reserved();
                }
                Line::Items(fetcher) => footprint.held += fetcher.held() as u64,
                _ => {}
            }
        }
        footprint
    }

    /// Timers armed.
    #[cfg(test)]
    pub(crate) const fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// Counters.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What all mux connections have counted, those that are gone too.
    pub fn mux_stats(&self) -> MuxStats {
        let mut sum = self.mux_gone;
        for (_, link) in self.links.iter() {
            if let Some(Line::Mux(mux)) = &link.line {
                sum.merge(mux.stats());
            }
        }
        sum
    }

    pub(super) fn settle(&mut self, link: Key, now: Instant) {
        match self.links.line(link) {
            Some(Line::Mux(_)) => self.take_mux_events(link, now),
            Some(Line::Answer(_)) => {
                self.take_answer_events(link, now);
                self.drop_pausing(link, now);
            }
            Some(Line::Items(_)) => {
                self.take_items_events(link, now);
                self.drop_pausing(link, now);
            }
            Some(Line::Requests(_)) => self.on_partial(link, now),
            None => {}
        }
        let dial = self.dial_deadline(link);
        self.links.settle(link, dial, &mut self.wheel, now);
    }

    /// The first byte of a connection tells its dialect: a mux preface opens with `FF FF`, which as the length of a path is
    /// absurd.
    fn sniff(&mut self, key: Key, bytes: &[u8], now: Instant) {
        let config = self.config.requests;
        let Some(link) = self.links.get_mut(key) else { return };
        let unheard = link.mux().is_some_and(Connection::is_unheard);
        if unheard && bytes.first().is_some_and(|first| *first != 0xFF) {
            link.line = Some(Line::Requests(Box::new(Server::new(config, now))));
        }
    }

    fn take_mux_events(&mut self, link: Key, now: Instant) {
        while let Some(event) = self.links.mux(link).and_then(Connection::poll_event) {
            match event {
                MuxEvent::Opened(stream) => self.on_open(link, stream, now),
                MuxEvent::Readable(tag) => self.tell(tag, Event::Readable),
                MuxEvent::Writable(tag) => self.tell(tag, Event::Writable),
                MuxEvent::Stalled(tag, _) => self.on_stalled(JobId(Key::from_u64(tag)), now),
                MuxEvent::Cancelled(tag, mode) => self.on_cancel(JobId(Key::from_u64(tag)), mode, now),
                MuxEvent::Starved(tag) => self.on_starved(JobId(Key::from_u64(tag)), now),
                // We open no streams on accepted connections, so nothing answers them.
                MuxEvent::Up
                | MuxEvent::GoingAway
                | MuxEvent::Status(..)
                | MuxEvent::Rejected { .. }
                | MuxEvent::Load(_) => {}
            }
        }
    }

    /// Tells those who waited for room beside others that it is their turn.
    fn call_writers(&mut self) {
        while let Some(writer) = self.links.poll_writer() {
            match writer {
                Writer::Stream(tag) => self.tell(tag, Event::Writable),
                Writer::Link(link) => {
                    if let Some(job) = self.links.job(link) {
                        self.tell(job.0.to_u64(), Event::Writable);
                    }
                }
            }
        }
    }

    /// Passes an event on if its call runs; a queued call has nobody to listen.
    fn tell(&mut self, tag: u64, event: impl FnOnce(JobId) -> Event) {
        let job = JobId(Key::from_u64(tag));
        if self.jobs.get(job.0).is_some_and(|job| job.running) {
            self.events.push_back(event(job));
        }
    }

    fn on_link_timeout(&mut self, link: Key, now: Instant) {
        let Some(entry) = self.links.get_mut(link) else { return };
        entry.timer = None;
        let lost = match &mut entry.line {
            Some(Line::Mux(mux)) => mux.handle_timeout(now).is_err(),
            Some(Line::Requests(server)) => server.handle_timeout(now).is_err(),
            Some(Line::Answer(_) | Line::Items(_)) => {
                self.on_dialed_timeout(link, now);
                false
            }
            None => false,
        };
        if lost {
            self.stats.faults += 1;
            self.lose_jobs(link, now);
        }
        self.settle(link, now);
    }
}

impl Protocol for Worker {
    type Event = Event;

    fn handle_open(&mut self, conn: ConnId, peer: Option<SocketAddr>, now: Instant) {
        if conn.is_dialed() {
            return self.on_dialed(conn, now);
        }
        self.stats.connections += 1;
        let leaving = self.drain.is_leaving();
        let peer = Peer { late: leaving, side: Side::Accepted(Accepted::new(peer)) };
        let key = self.links.insert(peer, |_| conn);
        self.by_conn.insert(conn, key);
        if let Some(link) = self.links.get_mut(key) {
            let mut mux = Connection::shared(Role::Acceptor, self.mux.clone(), now);
            if leaving {
                mux.go_away();
            }
            link.line = Some(Line::Mux(Box::new(mux)));
        }
        self.settle(key, now);
    }

    fn handle_recv(&mut self, conn: ConnId, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let Some(key) = self.by_conn.get(&conn).copied() else { return Ok(()) };
        self.sniff(key, bytes, now);
        let outcome = match self.links.line(key) {
            Some(Line::Mux(mux)) => mux.handle_recv(bytes, now),
            Some(Line::Requests(_)) => self.take_requests(key, bytes, now),
            Some(Line::Answer(sender)) => sender.handle_recv(bytes, now),
            Some(Line::Items(fetcher)) => fetcher.handle_recv(bytes, now),
            None => Ok(()),
        };
        if outcome.is_err() {
            self.stats.faults += 1;
            // What it said before counts.
            self.take_mux_events(key, now);
            if self.links.mux(key).is_some() {
                self.lose_jobs(key, now);
            }
        }
        self.settle(key, now);
        outcome
    }

    fn handle_eof(&mut self, conn: ConnId, now: Instant) -> bool {
        let Some(key) = self.by_conn.get(&conn).copied() else { return false };
        match self.links.line(key) {
            Some(Line::Requests(server)) => server.handle_eof(now),
            Some(Line::Answer(sender)) => sender.handle_eof(now),
            Some(Line::Items(fetcher)) => fetcher.handle_eof(now),
            Some(Line::Mux(_)) | None => return false,
        }
        self.settle(key, now);
        true
    }

    fn handle_sent(&mut self, conn: ConnId, bytes: usize, now: Instant) {
        let Some(key) = self.by_conn.get(&conn).copied() else { return };
        self.links.handle_sent(key, bytes, now);
        if let Some(Line::Requests(server)) = self.links.line(key)
            && server.can_go_on()
        {
            self.stats.faults += u64::from(self.take_requests(key, &[], now).is_err());
            self.settle(key, now);
        }
    }

    fn handle_close(&mut self, conn: ConnId, why: CloseReason, now: Instant) {
        let Some(key) = self.by_conn.remove(&conn) else { return };
        if conn.is_dialed() {
            self.on_dialed_closed(key, why, now);
        } else {
            self.links.close(key);
            self.lose_jobs(key, now);
            if let Some(accepted) = self.links.accepted_mut(key) {
                self.partials.update(key, &mut accepted.partial, 0);
            }
            if let Some(gone) = self.links.remove(key, &mut self.wheel) {
                if let Some(Line::Mux(mux)) = gone.line {
                    self.mux_gone.merge(mux.stats());
                }
                self.drain.on_link_gone(gone.owner.late);
            }
        }
        self.tell_drained(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some((token, _why)) = self.wheel.expire(now) {
            if token == DRAIN_TOKEN {
                self.on_drain_timeout(now);
            } else if token == ENDPOINT_TOKEN {
                self.on_endpoint_timeout(now);
            } else if token & LINK_TOKEN != 0 {
                self.on_link_timeout(Key::from_u64(token & !LINK_TOKEN), now);
            } else {
                self.on_call_timeout(JobId(Key::from_u64(token)), now);
            }
        }
    }

    fn poll_ready(&mut self) -> Option<ConnId> {
        self.links.poll_ready()
    }

    fn writers(&self) -> usize {
        self.links.writers()
    }

    fn poll_transmit(&mut self, conn: ConnId, out: &mut SendQueue, now: Instant) -> bool {
        let Some(key) = self.by_conn.get(&conn).copied() else { return false };
        if self.links.mux(key).is_some_and(|mux| mux.owes_pong()) {
            self.report(key, now);
        }
        let wrote = self.links.poll_transmit(key, out, now);
        if self.admission.adapt(now) {
            self.admit_queued(now);
        }
        self.settle(key, now);
        wrote
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.links.poll_action()
    }

    fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() {
            self.call_writers();
        }
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.wheel.next()
    }

    fn bytes_wanted(&self, conn: ConnId) -> usize {
        self.by_conn.get(&conn).map_or(0, |key| self.links.wanted(*key))
    }
}
