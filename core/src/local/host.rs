//! A node with its handlers and the tasks that wait on it.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::task::{Context, Poll};
use core::time::Duration;

use crate::buf::slab::Key;
use crate::caller::dynamo::carrier::{self, Ticket};
use crate::caller::error::Missing;
use crate::caller::request::{CallId, EndpointKey, Event as CallerEvent};
use crate::caller::target::Target;
use crate::dynamo::request::message::Message;
use crate::id::InstanceId;
use crate::local::env::{Env, Host};
use crate::local::waiting::{CallSlot, Gathered, JobSlot, Latch, Slots, Waiting};
use crate::mux::event::Ending;
use crate::node::{Event, Node};
use crate::observer::Observer;
use crate::route::policy::any::AnyPolicy;
use crate::wire::class::Class;
use crate::worker::job::{Event as WorkerEvent, JobId};

/// Starts the handler of a request.
pub(super) type Start = Rc<dyn Fn(&Rc<LocalNode>, JobId)>;

/// Hands a request over to the carrier that brings it to its worker, or says at once why it cannot. What comes of it is told with
/// [`LocalNode::answer`].
pub type Carrier = Rc<dyn Fn(carrier::Request) -> Result<(), carrier::Answer>>;

/// A node on the thread that drives it: the machine, its handlers, and who waits for what.
pub struct LocalNode {
    me: Weak<Self>,
    node: RefCell<Node>,
    env: Env,
    handlers: RefCell<BTreeMap<u32, Start>>,
    carrier: RefCell<Option<Carrier>>,
    next_endpoint: Cell<u32>,
    calls: RefCell<Slots<CallSlot>>,
    jobs: RefCell<Slots<JobSlot>>,
    pub(super) gathered: Gathered,
    drained: Latch,
    /// Who waits for the end of an endpoint's calls, by its number.
    drained_endpoints: RefCell<BTreeMap<u32, Vec<Drained>>>,
    closed: Latch,
}

/// Hears how many calls the bound of a drain ended.
type Drained = Box<dyn FnOnce(u64)>;

impl fmt::Debug for LocalNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalNode").field("node", &self.node).finish_non_exhaustive()
    }
}

impl LocalNode {
    /// A node driven by the driver that lends `env`.
    pub fn new(node: Node, env: &Env) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            node: RefCell::new(node),
            env: env.clone(),
            handlers: RefCell::new(BTreeMap::new()),
            carrier: RefCell::new(None),
            next_endpoint: Cell::new(0),
            calls: RefCell::default(),
            jobs: RefCell::default(),
            gathered: Gathered::default(),
            drained: Latch::default(),
            drained_endpoints: RefCell::default(),
            closed: Latch::default(),
        })
    }

    /// Has the calls and requests of this core watched, from before the first of them. The observer may not touch this node.
    pub fn observe(&self, observer: &Rc<dyn Observer>) {
        self.touching(|node| {
            node.caller.observe(observer.clone());
            node.worker.observe(observer.clone());
        });
    }

    /// What observers are told that a served endpoint is called, by its number: [`Worker::name`](crate::worker::machine::Worker::name).
    pub fn name_served(&self, endpoint: u32, name: &str) {
        self.touching(|node| node.worker.name(endpoint, name));
    }

    /// What observers are told that a called endpoint is called: [`Caller::name`](crate::caller::machine::Caller::name).
    pub fn name_called(&self, endpoint: EndpointKey, name: &str) {
        self.touching(|node| node.caller.name(endpoint, name));
    }

    /// Has requests for `path` started by `start`, and says their number.
    pub(super) fn serve_by(&self, path: &str, start: impl FnOnce(u32) -> Start) -> u32 {
        let number = self.next_endpoint.get();
        self.next_endpoint.set(number + 1);
        self.handlers.borrow_mut().insert(number, start(number));
        self.env.pace().name(number, path);
        self.touching(|node| node.worker.serve(path, number));
        number
    }

    /// Refuses requests for `path` from now on.
    pub fn unserve(&self, path: &str) {
        self.touching(|node| node.worker.unserve(path));
    }

    /// Sets a gauge of the application's own, see [`Worker::gauge`](crate::worker::machine::Worker::gauge).
    pub fn gauge(&self, name: &str, value: u64) -> bool {
        self.touching(|node| node.worker.gauge(name, value))
    }

    /// Finishes what runs and refuses the rest; `done` is called when nothing is left, at the latest after the worker's
    /// drain timeout.
    pub fn drain(&self, done: impl FnOnce() + 'static) {
        self.drained.listen(done);
        let now = self.env.now();
        self.touching(|node| node.worker.drain(now));
    }

    /// Refuses requests for `path` while all else is served, and finishes what runs of it; `done` is called when nothing is left,
    /// at the latest after the worker's drain timeout, with the number of calls that this bound ended.
    pub fn drain_endpoint(&self, path: &str, done: impl FnOnce(u64) + 'static) {
        let now = self.env.now();
        // The event is delivered later, whatever comes of the command.
        match self.touching(|node| node.worker.drain_endpoint(path, now)) {
            Some(number) => self.drained_endpoints.borrow_mut().entry(number).or_default().push(Box::new(done)),
            None => done(0),
        }
    }

    /// Takes requests for `path` again.
    pub fn resume_endpoint(&self, path: &str) {
        let resumed = self.touching(|node| node.worker.resume_endpoint(path));
        // A drain that was under way ends with that.
        let told = resumed.and_then(|number| self.drained_endpoints.borrow_mut().remove(&number));
        told.into_iter().flatten().for_each(|done| done(0));
    }

    /// An endpoint to call.
    pub fn endpoint(&self, policy: AnyPolicy) -> EndpointKey {
        self.touching(|node| node.caller.endpoint(policy))
    }

    /// Lets go of an endpoint: [`Caller::forget_endpoint`](crate::caller::machine::Caller::forget_endpoint).
    pub fn forget_endpoint(&self, endpoint: EndpointKey) {
        self.touching(|node| node.caller.forget_endpoint(endpoint));
    }

    /// All instances of an endpoint.
    pub fn set_instances(&self, endpoint: EndpointKey, instances: Vec<(InstanceId, Target)>) {
        let now = self.env.now();
        self.touching(|node| node.caller.set_instances(endpoint, instances, now));
    }

    /// One more instance of an endpoint, or news of one.
    pub fn add_instance(&self, endpoint: EndpointKey, id: InstanceId, target: Target) {
        let now = self.env.now();
        self.touching(|node| node.caller.add_instance(endpoint, id, target, now));
    }

    /// An endpoint has an instance less.
    pub fn remove_instance(&self, endpoint: EndpointKey, id: InstanceId) {
        let now = self.env.now();
        self.touching(|node| node.caller.remove_instance(endpoint, id, now));
    }

    /// What the application knows of an instance: [`Caller::set_fact`](crate::caller::machine::Caller::set_fact).
    pub fn set_fact(&self, endpoint: EndpointKey, id: InstanceId, fact: (&str, i64), lasting: Duration) -> bool {
        let now = self.env.now();
        self.touching(|node| node.caller.set_fact(endpoint, id, fact, lasting, now))
    }

    /// Sets who brings requests to workers behind a broker or HTTP. Without one such calls fail.
    pub fn carry(&self, carrier: Carrier) {
        *self.carrier.borrow_mut() = Some(carrier);
    }

    /// What came of a request that the carrier has taken.
    pub fn answer(&self, ticket: Ticket, answer: carrier::Answer) {
        let now = self.env.now();
        self.touching(|node| node.caller.handle_answer(ticket, answer, now));
    }

    /// Ends calls and connections of the calling side in order; `done` is called when none is left.
    pub fn close(&self, done: impl FnOnce() + 'static) {
        self.closed.listen(done);
        let now = self.env.now();
        self.touching(|node| node.caller.shutdown(now));
    }

    /// What the driver lent.
    pub const fn env(&self) -> &Env {
        &self.env
    }

    /// Takes a request that came by another way than this core's sockets.
    ///
    /// # Errors
    /// The text of the ack that refuses it, as [`Worker::request`](crate::worker::machine::Worker::request).
    pub fn request(&self, message: &Message<'_>) -> Result<(), Cow<'static, str>> {
        let now = self.env.now();
        self.touching(|node| node.worker.request(message, now))
    }

    /// The tags of calls that have been [gathered](crate::local::call::LocalCall::gather) and have something to read, or room
    /// for what they send; some perhaps twice, or of calls that are gone. They are added to `tags`, for one task.
    pub fn poll_gathered(&self, tags: &mut Vec<Key>, cx: &Context<'_>) -> Poll<()> {
        self.gathered.poll(tags, cx)
    }

    /// Runs a command on the machine and has it drained.
    pub fn touching<R>(&self, command: impl FnOnce(&mut Node) -> R) -> R {
        let answer = command(&mut self.node.borrow_mut());
        self.env.touch();
        answer
    }

    /// This node, to be kept; `None` while it is dropped.
    pub(super) fn keep(&self) -> Option<Rc<Self>> {
        self.me.upgrade()
    }

    /// A call begins; what its tasks wait for is kept from now on.
    pub(super) fn begin_call(&self, call: CallId) {
        self.calls.borrow_mut().claim(call.0);
    }

    /// `None` if the call has been let go of.
    pub(super) fn call_slot<R>(&self, call: CallId, f: impl FnOnce(&mut CallSlot) -> R) -> Option<R> {
        self.calls.borrow_mut().get(call.0).map(f)
    }

    /// `None` if the job has been let go of.
    pub(super) fn job_slot<R>(&self, job: JobId, f: impl FnOnce(&mut JobSlot) -> R) -> Option<R> {
        self.jobs.borrow_mut().get(job.0).map(f)
    }

    /// The call is over: tasks that still wait on it learn so.
    pub(super) fn forget_call(&self, call: CallId) {
        let slot = self.calls.borrow_mut().free(call.0);
        if let Some(slot) = slot {
            [slot.readers, slot.writers].into_iter().for_each(Waiting::wake);
        }
    }

    /// The job is over: tasks that still wait on it learn so.
    pub(super) fn forget_job(&self, job: JobId) {
        let slot = self.jobs.borrow_mut().free(job.0);
        if let Some(slot) = slot {
            [slot.readers, slot.writers, slot.watchers].into_iter().for_each(Waiting::wake);
        }
    }

    fn on_caller_event(&self, event: CallerEvent) {
        match event {
            // What can be read may be the outcome, and then writers have waited long enough.
            CallerEvent::Readable(call) => {
                let waiting = self.call_slot(call, |slot| ([slot.readers.take(), slot.writers.take()], slot.tag));
                let Some((waiting, tag)) = waiting else { return };
                waiting.into_iter().for_each(Waiting::wake);
                tag.into_iter().for_each(|tag| self.gathered.tell(tag));
            }
            CallerEvent::Writable(call) => {
                let Some((waiting, tag)) = self.call_slot(call, |slot| (slot.writers.take(), slot.tag)) else { return };
                waiting.wake();
                tag.into_iter().for_each(|tag| self.gathered.tell(tag));
            }
            CallerEvent::Status(call, status) => {
                self.call_slot(call, |slot| slot.status = Some(status));
            }
            CallerEvent::Outgoing(call) => self.hand_over(call),
            CallerEvent::Closed => self.closed.open(),
        }
    }

    fn hand_over(&self, call: CallId) {
        let now = self.env.now();
        let Some(request) = self.touching(|node| node.caller.outgoing(call, now)) else { return };
        let (ticket, carrier) = (request.ticket, self.carrier.borrow().clone());
        let missing = carrier::Answer::NotEquipped(Missing::Configuration);
        if let Err(answer) = carrier.map_or(Err(missing), |carry| carry(request)) {
            self.answer(ticket, answer);
        }
    }

    fn on_worker_event(&self, event: WorkerEvent) {
        match event {
            WorkerEvent::Request { job, endpoint } => self.start(job, endpoint),
            WorkerEvent::Readable(job) => wake(self.job_slot(job, |slot| slot.readers.take())),
            WorkerEvent::Writable(job) => wake(self.job_slot(job, |slot| slot.writers.take())),
            WorkerEvent::Cancelled(job, cause) => {
                let waiting = self.job_slot(job, |slot| {
                    slot.cause = Some(cause);
                    [slot.watchers.take(), slot.runner.take(), slot.readers.take(), slot.writers.take()]
                });
                waiting.into_iter().flatten().for_each(Waiting::wake);
            }
            WorkerEvent::EndpointDrained { endpoint, cut_off } => {
                let told = self.drained_endpoints.borrow_mut().remove(&endpoint);
                told.into_iter().flatten().for_each(|done| done(cut_off));
            }
            WorkerEvent::Drained => self.drained.open(),
        }
    }

    fn start(&self, job: JobId, endpoint: u32) {
        self.jobs.borrow_mut().claim(job.0);
        let start = self.handlers.borrow().get(&endpoint).cloned();
        match (start, self.me.upgrade()) {
            (Some(start), Some(me)) => start(&me, job),
            _ => self.on_stray(job),
        }
    }

    /// A request for a number that the machine was given past [`LocalNode::serve`].
    #[cold]
    fn on_stray(&self, job: JobId) {
        let (now, ending) =
            (self.env.now(), Ending::failed(Class::Internal, "runtime.internal", "there is no handler"));
        self.touching(|node| node.worker.finish(job, ending, now));
        self.forget_job(job);
    }
}

fn wake(waiting: Option<Waiting>) {
    waiting.into_iter().for_each(Waiting::wake);
}

impl Host for LocalNode {
    type Machine = Node;

    fn with<R>(&self, f: impl FnOnce(&mut Node) -> R) -> R {
        f(&mut self.node.borrow_mut())
    }

    fn deliver(&self, event: Event) {
        match event {
            Event::Caller(event) => self.on_caller_event(event),
            Event::Worker(event) => self.on_worker_event(event),
        }
    }
}
