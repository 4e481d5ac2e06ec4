//! A node with its handlers and the tasks that wait on it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::task::Waker;

use crate::buf::slab::Key;
use crate::caller::error::CallError;
use crate::caller::machine::{CallId, EndpointKey, Event as CallerEvent, Request, Target};
use crate::id::InstanceId;
use crate::local::call::LocalCall;
use crate::local::env::{Env, Host, LocalTask};
use crate::local::job::{Incoming, run};
use crate::node::{Event, Node};
use crate::route::policy::any::AnyPolicy;
use crate::wire::mux::Status;
use crate::worker::machine::{Cause, Event as WorkerEvent, JobId};

/// Makes the task that answers one request. The outcome is given through [`Incoming`].
pub type Handler = Rc<dyn Fn(Incoming) -> LocalTask>;

/// A node on the thread that drives it: the machine, its handlers, and who waits for what.
pub struct LocalNode {
    me: Weak<Self>,
    node: RefCell<Node>,
    env: Env,
    handlers: RefCell<BTreeMap<u32, Handler>>,
    next_endpoint: Cell<u32>,
    calls: RefCell<Vec<CallSlot>>,
    jobs: RefCell<Vec<JobSlot>>,
    /// Told once each.
    on_drained: RefCell<Option<Box<dyn FnOnce()>>>,
    on_closed: RefCell<Option<Box<dyn FnOnce()>>>,
}

/// Who waits on the call in this slot. Waking the wrong one after a slot changed hands costs a poll and nothing else.
#[derive(Default)]
pub(super) struct CallSlot {
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) status: Option<Status>,
}

/// Who waits on the job in this slot.
#[derive(Default)]
pub(super) struct JobSlot {
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) watcher: Option<Waker>,
    /// The task that runs the handler; it ends when the cause is final.
    pub(super) runner: Option<Waker>,
    pub(super) cause: Option<Cause>,
}

impl fmt::Debug for LocalNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalNode").field("node", &self.node).finish_non_exhaustive()
    }
}

impl LocalNode {
    /// A node driven by whoever lends `env`.
    pub fn new(node: Node, env: &Env) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            node: RefCell::new(node),
            env: env.clone(),
            handlers: RefCell::new(BTreeMap::new()),
            next_endpoint: Cell::new(0),
            calls: RefCell::new(Vec::new()),
            jobs: RefCell::new(Vec::new()),
            on_drained: RefCell::new(None),
            on_closed: RefCell::new(None),
        })
    }

    /// Answers requests for `path` with `handler`.
    pub fn serve(&self, path: &str, handler: Handler) {
        let number = self.next_endpoint.get();
        self.next_endpoint.set(number + 1);
        self.handlers.borrow_mut().insert(number, handler);
        self.touching(|node| node.worker.serve(path, number));
    }

    /// Refuses requests for `path` from now on.
    pub fn unserve(&self, path: &str) {
        self.touching(|node| node.worker.unserve(path));
    }

    /// Finishes what runs and refuses the rest; `done` is called when nothing is left, at the latest after the worker's
    /// drain timeout.
    pub fn drain(&self, done: impl FnOnce() + 'static) {
        *self.on_drained.borrow_mut() = Some(Box::new(done));
        let now = self.env.now();
        self.touching(|node| node.worker.drain(now));
    }

    /// An endpoint to call.
    pub fn endpoint(&self, policy: AnyPolicy) -> EndpointKey {
        self.touching(|node| node.caller.endpoint(policy))
    }

    /// All instances of an endpoint.
    pub fn set_instances(&self, endpoint: EndpointKey, instances: Vec<(InstanceId, Target)>) {
        let now = self.env.now();
        self.touching(|node| node.caller.set_instances(endpoint, instances, now));
    }

    /// Makes a call from this thread.
    ///
    /// # Errors
    /// As [`Caller::call`](crate::caller::machine::Caller::call).
    pub fn call(&self, endpoint: EndpointKey, request: Request) -> Result<LocalCall, CallError> {
        let me = self.me.upgrade().ok_or(CallError::Closed)?;
        let now = self.env.now();
        let id = self.touching(|node| node.caller.call(endpoint, request, now))?;
        self.call_slot(id, |slot| *slot = CallSlot::default());
        Ok(LocalCall::new(me, id))
    }

    /// Ends calls and connections of the calling side in order; `done` is called when none is left.
    pub fn close(&self, done: impl FnOnce() + 'static) {
        *self.on_closed.borrow_mut() = Some(Box::new(done));
        let now = self.env.now();
        self.touching(|node| node.caller.shutdown(now));
    }

    /// What the driver lent.
    pub const fn env(&self) -> &Env {
        &self.env
    }

    /// Runs a command on the machine and has it drained.
    pub fn touching<R>(&self, command: impl FnOnce(&mut Node) -> R) -> R {
        let answer = command(&mut self.node.borrow_mut());
        self.env.touch();
        answer
    }

    pub(super) fn call_slot<R>(&self, call: CallId, f: impl FnOnce(&mut CallSlot) -> R) -> R {
        slot(&mut self.calls.borrow_mut(), call.0, f)
    }

    pub(super) fn job_slot<R>(&self, job: JobId, f: impl FnOnce(&mut JobSlot) -> R) -> R {
        slot(&mut self.jobs.borrow_mut(), job.0, f)
    }

    fn caller_event(&self, event: CallerEvent) {
        let waker = match event {
            CallerEvent::Readable(call) => self.call_slot(call, |slot| slot.reader.take()),
            CallerEvent::Writable(call) => self.call_slot(call, |slot| slot.writer.take()),
            CallerEvent::Status(call, status) => self.call_slot(call, |slot| {
                slot.status = Some(status);
                None
            }),
            CallerEvent::Closed => {
                let done = self.on_closed.borrow_mut().take();
                done.into_iter().for_each(|done| done());
                None
            }
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn worker_event(&self, event: WorkerEvent) {
        match event {
            WorkerEvent::Request { job, endpoint } => self.start(job, endpoint),
            WorkerEvent::Readable(job) => wake(self.job_slot(job, |slot| slot.reader.take())),
            WorkerEvent::Writable(job) => wake(self.job_slot(job, |slot| slot.writer.take())),
            WorkerEvent::Cancelled(job, cause) => {
                let waiting = self.job_slot(job, |slot| {
                    slot.cause = Some(cause);
                    [slot.watcher.take(), slot.runner.take(), slot.reader.take(), slot.writer.take()]
                });
                waiting.into_iter().for_each(wake);
            }
            WorkerEvent::Drained => {
                let done = self.on_drained.borrow_mut().take();
                done.into_iter().for_each(|done| done());
            }
        }
    }

    fn start(&self, job: JobId, endpoint: u32) {
        self.job_slot(job, |slot| *slot = JobSlot::default());
        let handler = self.handlers.borrow().get(&endpoint).cloned();
        let Some(me) = self.me.upgrade() else { return };
        let incoming = Incoming::new(me.clone(), job);
        if let Some(handler) = handler {
            self.env.spawn(run(me, job, handler(incoming)));
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn slot<T: Default, R>(slots: &mut Vec<T>, key: Key, f: impl FnOnce(&mut T) -> R) -> R {
    let index = key.index as usize;
    if slots.len() <= index {
        slots.resize_with(index + 1, T::default);
    }
    f(slots.get_mut(index).expect("the vector has just been made long enough"))
}

impl Host for LocalNode {
    type Machine = Node;

    fn with<R>(&self, f: impl FnOnce(&mut Node) -> R) -> R {
        f(&mut self.node.borrow_mut())
    }

    fn deliver(&self, event: Event) {
        match event {
            Event::Caller(event) => self.caller_event(event),
            Event::Worker(event) => self.worker_event(event),
        }
    }
}
