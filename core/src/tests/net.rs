//! Nodes in one thread over an in-memory network in virtual time: what a driver promises, without a driver.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::ToString;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::buf::send_queue::SendQueue;
use crate::caller;
use crate::caller::request::{CallId, EndpointKey, Event as CallerEvent, Recv, Request};
use crate::caller::target::Target;
use crate::id::{ConnId, InstanceId};
use crate::mux::event::{Ending, Opening, Recv as MuxRecv};
use crate::node::{Event, Node};
use crate::protocol::{Action, CloseReason, Closing, Fault, Protocol};
use crate::route::policy::any::AnyPolicy;
use crate::time::Instant;
use crate::worker;
use crate::worker::job::{Cause, Event as WorkerEvent, JobId};

pub(crate) const PATH: &str = "1/a/b/c";
/// What a socket takes from its writer while the reader does not read.
const SOCKET_BUFFER: usize = 256 << 10;

/// How a node treats the world.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// As it should.
    Well,
    /// Nobody listens.
    Refusing,
    /// Dials are never answered.
    Lost,
    /// Stopped (SIGSTOP): the kernel accepts connections and bytes, the machine sees neither them nor time.
    Stopped,
}

pub(crate) struct Site {
    pub(crate) node: Node,
    pub(crate) mood: Mood,
    /// Every write is in flight: nothing is pulled.
    pub(crate) jammed: bool,
    /// Requests are answered by echoing their items.
    pub(crate) echoes: bool,
    /// Flip a bit of the next bytes written.
    pub(crate) flip: bool,
    pub(crate) jobs: VecDeque<JobId>,
    /// Jobs whose writers may try again.
    pub(crate) writable: Vec<JobId>,
    pub(crate) cancelled: Vec<(JobId, Cause)>,
    pub(crate) started: usize,
    pub(crate) drained: usize,
    /// The calls that the bound of each drained endpoint ended.
    pub(crate) endpoints_drained: Vec<u64>,
    pub(crate) calls: Vec<CallerEvent>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) dials: usize,
    pub(crate) timeouts: usize,
    wants: BTreeSet<ConnId>,
}

struct End {
    site: usize,
    conn: ConnId,
    opened: bool,
    queue: SendQueue,
    inbox: Vec<u8>,
    /// Told once the inbox is empty.
    ends: Option<CloseReason>,
    gone: bool,
}

/// All nodes and the connections between them.
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) sites: Vec<Site>,
    pipes: Vec<[End; 2]>,
    /// Dials that are never answered.
    lost: BTreeMap<ConnId, usize>,
    accepted: u64,
}

pub(crate) fn addr(site: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), u16::try_from(site).unwrap() + 1)
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn request(body: &'static str) -> Request {
    let opening = Opening { request_id: "r".to_string(), ..Opening::default() };
    Request { body: Some(Bytes::from_static(body.as_bytes())), opening, ..Request::default() }
}

impl Net {
    /// A caller (site 0) and `workers` workers that echo.
    pub(crate) fn new(caller: caller::config::Config, worker: worker::config::Config, workers: usize) -> Self {
        let site = |index: usize| {
            let mut node = Node::new(worker, caller, index as u64);
            node.worker.serve(PATH, 1);
            Site {
                node,
                mood: Mood::Well,
                jammed: false,
                echoes: true,
                flip: false,
                jobs: VecDeque::new(),
                writable: vec![],
                cancelled: vec![],
                started: 0,
                drained: 0,
                endpoints_drained: vec![],
                calls: vec![],
                faults: vec![],
                dials: 0,
                timeouts: 0,
                wants: BTreeSet::new(),
            }
        };
        let sites = (0..=workers).map(site).collect();
        Self { now: Instant::ZERO + secs(1), sites, pipes: vec![], lost: BTreeMap::new(), accepted: 0 }
    }

    /// With default settings.
    pub(crate) fn plain(workers: usize) -> Self {
        Self::new(caller::config::Config::default(), worker::config::Config::default(), workers)
    }

    /// An endpoint with these sites as instances.
    pub(crate) fn endpoint(&mut self, sites: &[usize]) -> EndpointKey {
        let endpoint = self.sites[0].node.caller.endpoint(AnyPolicy::default());
        self.instances(endpoint, sites);
        endpoint
    }

    pub(crate) fn instances(&mut self, endpoint: EndpointKey, sites: &[usize]) {
        let instance = |site: &usize| (InstanceId(*site as u64), Target::mux(addr(*site), PATH));
        let now = self.now;
        self.sites[0].node.caller.set_instances(endpoint, sites.iter().map(instance), now);
    }

    pub(crate) fn call(&mut self, endpoint: EndpointKey, request: Request) -> CallId {
        let now = self.now;
        self.sites[0].node.caller.call(endpoint, request, now).unwrap()
    }

    pub(crate) fn caller(&mut self) -> &mut caller::machine::Caller {
        &mut self.sites[0].node.caller
    }

    pub(crate) fn worker(&mut self, site: usize) -> &mut worker::machine::Worker {
        &mut self.sites[site].node.worker
    }

    /// Everything that can be read from the call, and its outcome.
    pub(crate) fn read(&mut self, call: CallId) -> (Vec<Bytes>, Option<Result<(), caller::error::CallError>>) {
        let now = self.now;
        let mut items = vec![];
        loop {
            match self.caller().recv(call, now) {
                Recv::Item(item) => items.push(item),
                Recv::Pending => return (items, None),
                Recv::End(outcome) => return (items, Some(outcome)),
            }
        }
    }

    /// The outcome, which must be there, and never changes.
    pub(crate) fn outcome(&mut self, call: CallId) -> Result<(), caller::error::CallError> {
        let outcome = self.read(call).1.expect("the call has its outcome");
        assert_eq!(self.read(call), (vec![], Some(outcome.clone())), "one outcome");
        outcome
    }

    pub(crate) fn release(&mut self, call: CallId) {
        let now = self.now;
        self.caller().release(call, now);
        self.pump();
    }

    /// Ends the site's connections as a cut cable with a reset would; unread bytes are lost.
    pub(crate) fn reset(&mut self, site: usize) {
        for pipe in &mut self.pipes {
            if pipe.iter().any(|end| end.site == site) {
                for end in pipe {
                    end.ends.get_or_insert(CloseReason::Reset);
                    end.inbox.clear();
                }
            }
        }
        self.pump();
    }

    /// Lets time pass, every deadline at its instant.
    pub(crate) fn advance(&mut self, by: Duration) {
        let target = self.now + by;
        self.pump();
        for round in 0.. {
            assert!(round < 200_000, "time never passes");
            let awake = self.sites.iter().filter(|site| site.mood != Mood::Stopped);
            let next = awake.filter_map(|site| site.node.poll_timeout()).map(|deadline| deadline.at).min();
            let Some(next) = next.filter(|next| *next <= target) else { break };
            self.now = self.now.max(next);
            self.time_out();
        }
        self.now = target;
        self.time_out();
    }

    fn time_out(&mut self) {
        let now = self.now;
        for site in self.sites.iter_mut().filter(|site| site.mood != Mood::Stopped) {
            if site.node.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
                site.timeouts += 1;
            }
            site.node.handle_timeout(now);
            if let Some(deadline) = site.node.poll_timeout() {
                assert!(deadline.at > now, "{deadline:?} is still due at {now:?} after handle_timeout");
            }
        }
        self.pump();
    }

    /// Moves bytes and carries actions out until nothing moves.
    pub(crate) fn pump(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "the network never comes to rest");
            let mut moved = false;
            for site in 0..self.sites.len() {
                if self.sites[site].mood != Mood::Stopped {
                    moved |= self.drain(site);
                    moved |= self.carry(site);
                }
            }
            self.pipes.retain(|pipe| !pipe.iter().all(|end| end.gone));
            if !moved {
                return;
            }
        }
    }

    /// The drain rule.
    fn drain(&mut self, site: usize) -> bool {
        let now = self.now;
        let mut moved = false;
        let here = &mut self.sites[site];
        let mut named = 0;
        while let Some(conn) = here.node.poll_ready() {
            named += 1;
            assert!(named < 1_000_000, "poll_ready never ends");
            here.wants.insert(conn);
        }
        if !here.jammed {
            for conn in core::mem::take(&mut here.wants) {
                let Some(end) = self.pipes.iter_mut().flatten().find(|end| end.conn == conn && end.site == site) else {
                    continue;
                };
                assert!(!end.gone, "a connection that is gone wants to write");
                if end.queue.is_empty() {
                    moved |= here.node.poll_transmit(conn, &mut end.queue, now);
                }
                if !end.queue.is_empty() {
                    here.wants.insert(conn);
                }
            }
        }
        while let Some(action) = self.sites[site].node.poll_action() {
            moved = true;
            self.act(site, &action);
        }
        while let Some(event) = self.sites[site].node.poll_event() {
            moved = true;
            self.hear(site, event);
        }
        moved
    }

    fn act(&mut self, site: usize, action: &Action) {
        match *action {
            Action::Listen { .. } | Action::Pause { .. } | Action::Resume { .. } => {
                panic!("these sites speak mux only")
            }
            Action::Connect { conn, addr: to } => {
                self.sites[site].dials += 1;
                let peer = (0..self.sites.len()).find(|site| addr(*site) == to).unwrap();
                let end = |site, conn| End {
                    site,
                    conn,
                    opened: false,
                    queue: SendQueue::new(64 << 10),
                    inbox: vec![],
                    ends: None,
                    gone: false,
                };
                match self.sites[peer].mood {
                    Mood::Refusing => {
                        let now = self.now;
                        self.sites[site].node.handle_close(conn, CloseReason::Refused, now);
                    }
                    Mood::Lost => {
                        self.lost.insert(conn, site);
                    }
                    Mood::Well | Mood::Stopped => {
                        self.accepted += 1;
                        self.pipes.push([end(site, conn), end(peer, ConnId::accepted(self.accepted))]);
                    }
                }
            }
            Action::Close { conn, how } => {
                if self.lost.remove(&conn).is_some() {
                    let now = self.now;
                    self.sites[site].node.handle_close(conn, CloseReason::Local, now);
                    return;
                }
                let pipe =
                    self.pipes.iter_mut().find(|pipe| pipe.iter().any(|end| end.conn == conn && end.site == site));
                let [near, far] = pipe.expect("only connections that are not gone are closed");
                let (near, far) = if near.conn == conn { (near, far) } else { (far, near) };
                assert!(!near.gone, "only connections that are not gone are closed");
                near.inbox.clear();
                match how {
                    Closing::Flush if far.inbox.len() + near.queue.len() > SOCKET_BUFFER => return,
                    Closing::Flush => {
                        take_all(&mut near.queue, &mut far.inbox);
                        far.ends.get_or_insert(CloseReason::Eof);
                    }
                    Closing::Abort => {
                        far.inbox.clear();
                        far.ends.get_or_insert(CloseReason::Reset);
                    }
                }
                near.ends = Some(CloseReason::Local);
            }
        }
    }

    /// Opens, moves bytes and closes, for all connections of one site.
    fn carry(&mut self, site: usize) -> bool {
        let (now, mut moved) = (self.now, false);
        for pipe in &mut self.pipes {
            let [a, b] = pipe;
            moved |= carry_one(&mut self.sites, site, a, b, now);
            moved |= carry_one(&mut self.sites, site, b, a, now);
        }
        moved
    }

    fn hear(&mut self, index: usize, event: Event) {
        let now = self.now;
        let site = &mut self.sites[index];
        let worker = &mut site.node.worker;
        match event {
            Event::Caller(event) => site.calls.push(event),
            Event::Worker(WorkerEvent::Request { job, .. }) => {
                site.started += 1;
                site.jobs.push_back(job);
                if site.echoes {
                    echo(worker, job, now);
                }
            }
            Event::Worker(WorkerEvent::Readable(job) | WorkerEvent::Writable(job)) if site.echoes => {
                echo(worker, job, now);
            }
            Event::Worker(WorkerEvent::Cancelled(job, cause)) => {
                site.cancelled.push((job, cause));
                if site.echoes && cause.is_final() {
                    worker.finish(job, Ending::ok(), now);
                }
            }
            Event::Worker(WorkerEvent::Writable(job)) => site.writable.push(job),
            Event::Worker(WorkerEvent::Drained) => site.drained += 1,
            Event::Worker(WorkerEvent::EndpointDrained { cut_off, .. }) => site.endpoints_drained.push(cut_off),
            Event::Worker(_) => {}
        }
    }

    /// Every machine is empty but for connections that idle.
    pub(crate) fn assert_idle(&mut self) {
        self.pump();
        for site in &self.sites {
            let (caller, worker) = (site.node.caller.footprint(), site.node.worker.footprint());
            assert_eq!(
                (caller.calls, caller.streams, caller.held, caller.reserved),
                (0, 0, 0, 0),
                "the caller holds on to something"
            );
            assert_eq!(
                (worker.jobs, worker.streams, worker.held, worker.reserved),
                (0, 0, 0, 0),
                "the worker holds on to something"
            );
            assert_eq!(site.node.worker.load(), (0, 0));
        }
    }

    /// The caller and worker of one site are empty but for connections that idle.
    pub(crate) fn assert_idle_at(&self, site: usize) {
        let caller = self.sites[site].node.caller.footprint();
        assert_eq!((caller.calls, caller.streams, caller.held, caller.reserved), (0, 0, 0, 0));
    }

    /// Every machine is empty, connections included.
    pub(crate) fn assert_empty(&mut self) {
        self.assert_idle();
        for site in &self.sites {
            assert_eq!(site.node.caller.footprint().connections, 0);
            assert_eq!(site.node.worker.footprint().connections, 0);
        }
    }
}

fn echo(worker: &mut worker::machine::Worker, job: JobId, now: Instant) {
    loop {
        match worker.recv(job) {
            MuxRecv::Item(item) => drop(worker.respond(job, item)),
            MuxRecv::Pending => return,
            MuxRecv::End(_) => return worker.finish(job, Ending::ok(), now),
        }
    }
}

fn carry_one(sites: &mut [Site], site: usize, near: &mut End, far: &mut End, now: Instant) -> bool {
    if near.site != site || near.gone {
        return false;
    }
    let (here, mut moved) = (&mut sites[site], false);
    if !near.opened {
        near.opened = true;
        moved = true;
        here.node.handle_open(near.conn, None, now);
    }
    if near.ends.is_none() && !near.queue.is_empty() && far.inbox.len() < SOCKET_BUFFER {
        let at = far.inbox.len();
        let written = take_all(&mut near.queue, &mut far.inbox);
        if core::mem::take(&mut here.flip) {
            far.inbox[at + written / 2] ^= 1;
        }
        here.node.handle_sent(near.conn, written, now);
        moved = true;
    }
    if !near.inbox.is_empty() {
        let bytes = core::mem::take(&mut near.inbox);
        here.faults.extend(here.node.handle_recv(near.conn, &bytes, now).err());
        moved = true;
    } else if let Some(why) = near.ends {
        near.gone = true;
        near.queue.clear();
        far.ends.get_or_insert(CloseReason::Eof);
        here.wants.remove(&near.conn);
        here.node.handle_close(near.conn, why, now);
        moved = true;
    }
    moved
}

fn take_all(queue: &mut SendQueue, into: &mut Vec<u8>) -> usize {
    let before = into.len();
    while !queue.is_empty() {
        let mut slices = [&[][..]; 64];
        let used = queue.slices(&mut slices);
        let bytes = slices[..used].concat();
        queue.advance(bytes.len());
        into.extend_from_slice(&bytes);
    }
    into.len() - before
}
