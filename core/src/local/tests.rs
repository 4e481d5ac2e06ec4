//! A node that calls itself, with a deterministic executor: wakers, drops, panics, cancellation.

use alloc::rc::Rc;
use alloc::sync::Arc;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::task::Wake;
use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::buf::send_queue::SendQueue;
use crate::caller;
use crate::caller::error::CallError;
use crate::caller::request::{EndpointKey, Request};
use crate::caller::target::Target;
use crate::id::{ConnId, InstanceId};
use crate::local::call::LocalCall;
use crate::local::env::{Env, Host, LocalTask};
use crate::local::host::LocalNode;
use crate::local::job::{Failure, Incoming, Responder};
use crate::node::Node;
use crate::protocol::{Action, CloseReason, Protocol};
use crate::route::policy::any::AnyPolicy;
use crate::tests::net::{PATH, addr, request, secs};
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::mux::message::{CancelMode, Status};
use crate::worker;
use crate::worker::job::Cause;

#[derive(Default)]
struct Ready(Mutex<BTreeSet<usize>>);

struct TaskWaker {
    ready: Arc<Ready>,
    task: usize,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.0.lock().unwrap().insert(self.task);
    }
}

/// Runs tasks in the order of their numbers, only when woken.
#[derive(Default)]
struct Executor {
    tasks: RefCell<Vec<Option<LocalTask>>>,
    ready: Arc<Ready>,
    panics: Cell<usize>,
}

impl Executor {
    fn spawn(&self, task: LocalTask) -> usize {
        let mut tasks = self.tasks.borrow_mut();
        tasks.push(Some(task));
        self.ready.0.lock().unwrap().insert(tasks.len() - 1);
        tasks.len() - 1
    }

    fn run(&self) -> bool {
        let mut ran = false;
        loop {
            let Some(number) = self.ready.0.lock().unwrap().pop_first() else { return ran };
            ran = true;
            let Some(mut task) = self.tasks.borrow_mut()[number].take() else { continue };
            let waker = Waker::from(Arc::new(TaskWaker { ready: self.ready.clone(), task: number }));
            let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut Context::from_waker(&waker))));
            match polled {
                Ok(Poll::Pending) => self.tasks.borrow_mut()[number] = Some(task),
                Ok(Poll::Ready(())) => {}
                Err(_) => self.panics.set(self.panics.get() + 1),
            }
        }
    }

    fn unfinished(&self) -> usize {
        self.tasks.borrow().iter().flatten().count()
    }
}

/// A node, its tasks and its connections to itself.
struct Bench {
    host: Rc<LocalNode>,
    executor: Rc<Executor>,
    clock: Rc<Cell<Instant>>,
    pipes: Vec<[ConnId; 2]>,
    endpoint: EndpointKey,
}

impl Bench {
    fn new(worker: worker::config::Config, handler: impl Fn(Incoming) -> LocalTask + 'static) -> Self {
        let (executor, clock) = (Rc::new(Executor::default()), Rc::new(Cell::new(Instant::ZERO)));
        let (now, spawner) = (clock.clone(), executor.clone());
        let spawn = move |task| {
            spawner.spawn(task);
        };
        let env = Env::new(move || now.get(), spawn, || {});
        let host = LocalNode::new(Node::new(worker, caller::config::Config::default(), 1), &env);
        host.serve(PATH, Rc::new(handler));
        let endpoint = host.endpoint(AnyPolicy::default());
        host.set_instances(endpoint, vec![(InstanceId(1), Target::mux(addr(0), PATH))]);
        Self { host, executor, clock, pipes: vec![], endpoint }
    }

    fn plain(handler: impl Fn(Incoming) -> LocalTask + 'static) -> Self {
        Self::new(worker::config::Config::default(), handler)
    }

    fn call(&self, request: Request) -> LocalCall {
        self.host.call(self.endpoint, request).unwrap()
    }

    /// Until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut moved = self.executor.run();
            let now = self.clock.get();
            while let Some(conn) = self.host.with(Node::poll_ready) {
                moved |= self.write(conn, now);
            }
            while let Some(action) = self.host.with(Node::poll_action) {
                moved = true;
                self.act(&action, now);
            }
            while let Some(event) = self.host.with(Node::poll_event) {
                moved = true;
                self.host.deliver(event);
            }
            if !moved {
                return;
            }
        }
    }

    fn write(&mut self, conn: ConnId, now: Instant) -> bool {
        let mut queue = SendQueue::new(16 << 10);
        if !self.host.with(|node| node.poll_transmit(conn, &mut queue, now)) {
            return false;
        }
        let mut slices = [&[][..]; 1024];
        let used = queue.slices(&mut slices);
        let bytes = slices[..used].concat();
        self.host.with(|node| node.handle_sent(conn, bytes.len(), now));
        let pipe = self.pipes.iter().find(|pipe| pipe.contains(&conn)).unwrap();
        let peer = if pipe[0] == conn { pipe[1] } else { pipe[0] };
        self.host.with(|node| node.handle_recv(peer, &bytes, now)).unwrap();
        true
    }

    fn act(&mut self, action: &Action, now: Instant) {
        match *action {
            Action::Listen { .. } | Action::Pause { .. } | Action::Resume { .. } => {
                panic!("these hosts speak mux only")
            }
            Action::Connect { conn, .. } => {
                let accepted = ConnId::accepted(conn.number());
                self.pipes.push([conn, accepted]);
                self.host.with(|node| {
                    node.handle_open(conn, None, now);
                    node.handle_open(accepted, None, now);
                });
            }
            Action::Close { conn, .. } => self.cut(conn, CloseReason::Local),
        }
    }

    fn cut(&mut self, conn: ConnId, why: CloseReason) {
        let now = self.clock.get();
        if let Some(at) = self.pipes.iter().position(|pipe| pipe.contains(&conn)) {
            for end in self.pipes.remove(at) {
                self.host.with(|node| node.handle_close(end, why, now));
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        self.settle();
        self.clock.set(self.clock.get() + by);
        let now = self.clock.get();
        self.host.env().timers().fire(now);
        self.host.with(|node| node.handle_timeout(now));
        self.settle();
    }

    /// Runs a task to its end, which must come without time passing.
    fn run<T: 'static>(&mut self, task: impl Future<Output = T> + 'static) -> T {
        let (slot, put) = (Rc::new(RefCell::new(None)), ());
        let out = slot.clone();
        self.executor.spawn(alloc::boxed::Box::pin(async move {
            let value = task.await;
            *out.borrow_mut() = Some(value);
            put
        }));
        self.settle();
        slot.take().expect("the task has ended")
    }

    fn assert_idle(&self) {
        self.host.with(|node| {
            let (caller, worker) = (node.caller.footprint(), node.worker.footprint());
            assert_eq!((caller.calls, caller.streams, worker.jobs, worker.streams), (0, 0, 0, 0));
            assert_eq!(node.worker.load(), (0, 0));
        });
        assert_eq!(self.executor.unfinished(), 0);
    }
}

fn boxed(task: impl Future<Output = ()> + 'static) -> LocalTask {
    alloc::boxed::Box::pin(task)
}

async fn collect(mut call: LocalCall) -> (Vec<Bytes>, Option<CallError>) {
    let mut items = vec![];
    loop {
        match call.next().await {
            Some(Ok(item)) => items.push(item),
            Some(Err(error)) => return (items, Some(error)),
            None => return (items, None),
        }
    }
}

fn class(error: Option<CallError>) -> Option<Class> {
    error.map(|error| error.class())
}

#[test]
fn items_stream_both_ways_at_the_readers_pace() {
    let mut bench = Bench::plain(|incoming| {
        boxed(async move {
            while let Ok(Some(item)) = incoming.responder().recv().await {
                incoming.responder().send(item).await.unwrap();
            }
            incoming.finish();
        })
    });
    let call = bench.call(Request::default());
    let sender = call.sender();
    let (items, error) = bench.run(async move {
        for n in 0..200u8 {
            sender.send(Bytes::from(vec![n; 5000])).await.unwrap();
        }
        sender.finish().await;
        collect(call).await
    });
    assert_eq!((items.len(), error), (200, None));
    assert!(items.iter().zip(0..).all(|(item, n)| item[..] == [n; 5000]));
    bench.settle();
    bench.assert_idle();
}

#[test]
fn a_handler_that_drops_its_request_or_panics_ends_the_call_as_internal() {
    let handlers: [fn(Incoming) -> LocalTask; 4] = [
        |incoming| boxed(async move { drop(incoming) }),
        |incoming| {
            boxed(async move {
                incoming.responder().send("x").await.unwrap();
                panic!("a handler's own")
            })
        },
        |_incoming| panic!("before the task is made"),
        |incoming| {
            drop(incoming);
            boxed(async {})
        },
    ];
    for (n, handler) in handlers.into_iter().enumerate() {
        let mut bench = Bench::plain(handler);
        let call = bench.call(request("x"));
        let (items, error) = bench.run(collect(call));
        assert_eq!((items.len(), class(error)), (usize::from(n == 1), Some(Class::Internal)), "handler {n}");
        bench.settle();
        assert_eq!(bench.executor.panics.get(), usize::from(n == 1 || n == 2));
        bench.assert_idle();
    }
}

#[test]
fn a_failure_is_told_with_its_class_and_reason() {
    let mut bench = Bench::plain(|incoming| boxed(async move { incoming.fail(&Failure::invalid("no")) }));
    let call = bench.call(request("x"));
    let (_, error) = bench.run(collect(call));
    assert_eq!(class(error), Some(Class::InvalidRequest));
    bench.assert_idle();
}

#[test]
fn a_request_whose_number_has_no_handler_ends_as_internal() {
    let mut bench = Bench::plain(|incoming| boxed(async move { incoming.finish() }));
    bench.host.touching(|node| node.worker.serve(PATH, 99));
    let call = bench.call(request("x"));
    let (_, error) = bench.run(collect(call));
    assert_eq!(class(error), Some(Class::Internal));
    bench.settle();
    bench.assert_idle();
}

#[test]
fn dropping_a_call_kills_it_and_drops_the_handlers_future() {
    let dropped = Rc::new(Cell::new(0));
    struct Bell(Rc<Cell<usize>>);
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let bells = dropped.clone();
    let mut bench = Bench::plain(move |incoming| {
        let bell = Bell(bells.clone());
        boxed(async move {
            let _both = (bell, incoming);
            core::future::pending::<()>().await;
        })
    });
    let calls: Vec<_> = (0..3).map(|_| bench.call(request("x"))).collect();
    bench.settle();
    assert_eq!((dropped.get(), calls[0].status()), (0, Some(Status::Running)));
    drop(calls);
    bench.settle();
    assert_eq!(dropped.get(), 3);
    bench.assert_idle();
}

#[test]
fn a_stop_is_told_and_the_handler_may_still_send() {
    let mut bench = Bench::plain(|incoming| {
        boxed(async move {
            let cause = incoming.responder().cancelled().await;
            assert_eq!((cause, incoming.responder().cause()), (Cause::Stop, Some(Cause::Stop)));
            incoming.responder().send("last").await.unwrap();
            incoming.finish();
        })
    });
    let call = bench.call(request("x"));
    bench.settle();
    call.cancel(CancelMode::Stop);
    let outcome = bench.run(collect(call));
    assert_eq!(outcome, (vec![Bytes::from_static(b"last")], None));
    bench.assert_idle();
}

#[test]
fn every_task_that_shares_a_responder_is_woken() {
    let mut bench = Bench::plain(|incoming| {
        boxed(async move {
            let host = incoming.responder().node().clone();
            let left = Rc::new(Cell::new(3));
            let done: Rc<RefCell<Option<Waker>>> = Rc::default();
            for n in 0..3u8 {
                let (left, done, responder) = (left.clone(), done.clone(), incoming.responder().clone());
                host.env().spawn(async move {
                    for _ in 0..100 {
                        responder.send(vec![n; 30_000]).await.unwrap();
                    }
                    left.set(left.get() - 1);
                    done.take().into_iter().for_each(Waker::wake);
                });
            }
            poll_fn(|cx| {
                *done.borrow_mut() = Some(cx.waker().clone());
                if left.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            incoming.finish();
        })
    });
    let call = bench.call(request("x"));
    bench.settle();
    let (items, error) = bench.run(collect(call));
    assert_eq!((items.len(), error), (300, None));
    bench.assert_idle();
}

#[test]
fn all_who_wait_for_a_cancel_hear_of_it_and_of_the_end() {
    for stop in [true, false] {
        let heard: Rc<RefCell<Vec<Cause>>> = Rc::default();
        let told = heard.clone();
        let mut bench = Bench::plain(move |incoming| {
            let told = told.clone();
            boxed(async move {
                for _ in 0..3 {
                    let (told, responder) = (told.clone(), incoming.responder().clone());
                    let host = responder.node().clone();
                    host.env().spawn(async move {
                        let cause = responder.cancelled().await;
                        told.borrow_mut().push(cause);
                    });
                }
                incoming.responder().node().env().clone().sleep(secs(1)).await;
                incoming.finish();
            })
        });
        let call = bench.call(request("x"));
        bench.settle();
        if stop {
            call.cancel(CancelMode::Stop);
        }
        bench.advance(secs(1));
        assert_eq!(*heard.borrow(), [if stop { Cause::Stop } else { Cause::Kill }; 3]);
        assert_eq!(bench.run(collect(call)), (vec![], None));
        bench.assert_idle();
    }
}

#[test]
fn a_responder_that_outlives_its_call_does_not_disturb_the_next_one() {
    let kept: Rc<RefCell<Vec<Responder>>> = Rc::default();
    let keeper = kept.clone();
    let mut bench = Bench::plain(move |incoming| {
        let keeper = keeper.clone();
        boxed(async move {
            keeper.borrow_mut().push(incoming.responder().clone());
            if keeper.borrow().len() == 2 {
                assert_eq!(incoming.responder().cancelled().await, Cause::Stop);
            }
            incoming.finish();
        })
    });
    let first = bench.call(request("x"));
    assert_eq!(bench.run(collect(first)), (vec![], None));
    let second = bench.call(request("x"));
    bench.settle();
    let old = kept.borrow()[0].clone();
    assert_eq!((old.cause(), old.remaining()), (None, None));
    assert_eq!(bench.run(async move { old.cancelled().await }), Cause::Kill);
    second.cancel(CancelMode::Stop);
    assert_eq!(bench.run(collect(second)), (vec![], None));
    kept.take();
    bench.assert_idle();
}

#[test]
fn a_writer_that_waits_is_woken_when_the_worker_answers_without_reading() {
    let mut bench = Bench::plain(|incoming| {
        boxed(async move {
            incoming.responder().send("early").await.unwrap();
            incoming.responder().node().env().clone().sleep(secs(1)).await;
            incoming.finish();
        })
    });
    let call = bench.call(Request::default());
    let sent: Rc<Cell<Option<usize>>> = Rc::default();
    let out = sent.clone();
    bench.executor.spawn(boxed(async move {
        for n in 0.. {
            if call.sender().send(Bytes::from(vec![0; 100_000])).await.is_err() {
                out.set(Some(n));
                break;
            }
        }
        assert_eq!(collect(call).await, (vec![Bytes::from_static(b"early")], None));
    }));
    bench.settle();
    assert_eq!(sent.get(), None, "the worker does not read");
    bench.advance(secs(1));
    assert!(sent.get().is_some_and(|sent| sent > 10));
    bench.assert_idle();
}

#[test]
fn a_lost_connection_ends_the_handler_and_the_call() {
    let mut bench = Bench::plain(|incoming| {
        boxed(async move {
            while let Ok(Some(_)) = incoming.responder().recv().await {}
            core::future::pending::<()>().await;
        })
    });
    let call = bench.call(Request::default());
    bench.settle();
    let conn = bench.pipes[0][0];
    bench.cut(conn, CloseReason::Reset);
    let (_, error) = bench.run(collect(call));
    let is_lost = |error| matches!(error, CallError::Disconnected { reason: CloseReason::Reset, delivered: true, .. });
    assert!(error.is_some_and(is_lost));
    bench.assert_idle();
}

#[test]
fn everyone_who_asks_for_a_drain_or_a_close_is_told_once() {
    let mut bench = Bench::plain(|incoming| boxed(async move { incoming.finish() }));
    let call = bench.call(request("x"));
    assert_eq!(bench.run(collect(call)), (vec![], None));
    let told = Rc::new(Cell::new(0));
    let tell = |by: usize| {
        let told = told.clone();
        move || told.set(told.get() + by)
    };
    bench.host.drain(tell(1));
    bench.host.drain(tell(10));
    bench.settle();
    bench.host.drain(tell(100));
    assert_eq!(told.get(), 111);
    bench.host.close(tell(1000));
    bench.settle();
    bench.host.close(tell(10_000));
    bench.settle();
    assert_eq!(told.get(), 11_111);
    assert!(bench.host.call(bench.endpoint, request("y")).is_err());
    bench.assert_idle();
}

#[test]
fn a_sender_hears_of_the_end_of_its_call_however_it_comes() {
    for dropped in [true, false] {
        let mut bench = Bench::plain(|incoming| {
            boxed(async move {
                core::future::pending::<()>().await;
                drop(incoming);
            })
        });
        let call = bench.call(Request::default());
        let left = Rc::new(Cell::new(2));
        for _ in 0..2 {
            let (sender, left) = (call.sender(), left.clone());
            bench.executor.spawn(boxed(async move {
                while sender.send(Bytes::from(vec![0; 100_000])).await.is_ok() {}
                left.set(left.get() - 1);
            }));
        }
        bench.settle();
        assert_eq!(left.get(), 2, "the worker does not read");
        let kept = if dropped {
            drop(call);
            None
        } else {
            call.cancel(CancelMode::Kill);
            Some(call)
        };
        bench.settle();
        assert_eq!(left.get(), 0);
        drop(kept);
        bench.settle();
        bench.assert_idle();
    }
}
