//! A worker on the thread of its test.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::EndpointKey;
use ringplane_core::caller::target::Target;
use ringplane_core::id::InstanceId;
use ringplane_core::local::{Env, Host, LocalCall, LocalNode, LocalSender};
use ringplane_core::node::Node;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::time::Instant;
use ringplane_core::wire::mux::CancelMode;
use ringplane_driver::bell::{Bell, Wake};
use ringplane_driver::drain::{PATIENCE, POLLS, deliver, drain, expire, next_deadline};
use ringplane_driver::executor::Executor;
use tokio::time::Sleep;

use crate::client::request::CallRequest;
#[cfg(feature = "serde")]
use crate::client::typed::TypedCallError;
use crate::error::Error;
#[cfg(feature = "serde")]
use crate::payload::value::Payload as _;
use crate::testing::pipes::Pipes;
use crate::worker::builder::WorkerBuilder;

/// Turns without a pause, after which a test's runtime gets to others.
const TURNS: usize = 64;

/// The task of the test, which moves everything while it waits.
#[derive(Default)]
struct Test(Mutex<Option<Waker>>);

impl Test {
    fn waker(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Test {
    fn wake(&self) {
        self.waker().iter().for_each(Waker::wake_by_ref);
    }
}

/// A worker without sockets and threads, for calls of the same test. It runs while the test waits for one of its calls, in
/// a runtime of tokio with its timers enabled; in one whose time is paused, deadlines pass by themselves.
pub struct Stage {
    inner: Rc<Inner>,
    endpoints: BTreeMap<String, EndpointKey>,
}

struct Inner {
    host: Rc<LocalNode>,
    env: Env,
    executor: Executor<Test>,
    bell: Arc<Bell<Test>>,
    touched: Rc<Cell<bool>>,
    pipes: RefCell<Pipes>,
    epoch: tokio::time::Instant,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("endpoints", &self.endpoints.keys()).finish_non_exhaustive()
    }
}

impl Stage {
    /// Serves the endpoints that `worker` describes, with its codec and the knobs of its machines. Where it listens and
    /// registers, and by which driver, means nothing here.
    ///
    /// # Errors
    /// [`Error::Name`] for a malformed endpoint, [`Error::NothingToServe`] if there is none.
    pub fn new(worker: WorkerBuilder) -> Result<Self, Error> {
        let (config, observers, handlers) = worker.handlers()?;
        let (touched, epoch) = (Rc::new(Cell::new(false)), tokio::time::Instant::now());
        let bell = Arc::new(Bell::new(Test::default()));
        let executor = Executor::new(bell.clone());
        executor.retire();
        let env = Env::new(
            move || since(epoch),
            {
                let executor = executor.clone();
                move |task| executor.spawn(task)
            },
            {
                let touched = touched.clone();
                move || touched.set(true)
            },
        );
        let host = LocalNode::new(Node::new(config.worker, config.caller, 1), &env);
        observers.of(0).iter().for_each(|observer| host.observe(observer));
        let mut endpoints = BTreeMap::new();
        for (name, path, handler) in handlers {
            let number = host.serve(&path, handler);
            host.name_served(number, &name);
            let endpoint = host.endpoint(AnyPolicy::default());
            host.name_called(endpoint, &name);
            let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            host.set_instances(endpoint, vec![(InstanceId(1), Target::mux(nowhere, path))]);
            endpoints.insert(name, endpoint);
        }
        let (pipes, timer) = (RefCell::default(), RefCell::default());
        let inner = Inner { host, env, executor, bell, touched, pipes, epoch, timer };
        Ok(Self { inner: Rc::new(inner), endpoints })
    }

    /// Begins a call. It goes on while the test waits for this call or for another one of the stage.
    ///
    /// # Errors
    /// [`Error::Call`] with [`CallError::NoInstances`] for an endpoint that is not served, or if the call cannot be begun.
    pub fn call(&self, request: CallRequest) -> Result<StagedCall, Error> {
        let endpoint = self.endpoints.get(&request.endpoint).ok_or(Error::Call(CallError::NoInstances))?;
        let streaming = request.inner.body.is_none();
        #[cfg(feature = "serde")]
        let codec = request.codec().unwrap_or_default();
        let call = self.inner.host.call(*endpoint, request.inner).map_err(Error::Call)?;
        let sender = streaming.then(|| call.sender());
        let stage = self.inner.clone();
        Ok(StagedCall {
            call,
            sender,
            stage,
            #[cfg(feature = "serde")]
            codec,
        })
    }
}

/// A call on a [`Stage`]: a stream of items, then at most one error. Dropping it kills the call.
pub struct StagedCall {
    call: LocalCall,
    sender: Option<LocalSender>,
    stage: Rc<Inner>,
    #[cfg(feature = "serde")]
    codec: ringplane_core::wire::codec::Codec,
}

impl fmt::Debug for StagedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedCall").finish_non_exhaustive()
    }
}

impl StagedCall {
    /// The next item; `None` after the last one or after an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        self.stage.run(self.call.next()).await
    }

    /// Reads the call to its end.
    ///
    /// # Errors
    /// The call's error; the items before it are lost.
    pub async fn collect(mut self) -> Result<Vec<Bytes>, CallError> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await {
            items.push(item?);
        }
        Ok(items)
    }

    /// Reads the call to its end, its items as values in the codec that the request names, or else in JSON.
    ///
    /// # Errors
    /// The first one; the items before it are lost.
    #[cfg(feature = "serde")]
    pub async fn collect_as<T: serde::de::DeserializeOwned>(self) -> Result<Vec<T>, TypedCallError> {
        let codec = self.codec;
        let read = |item: Bytes| Ok(codec.read(&item)?);
        self.collect().await?.into_iter().map(read).collect()
    }

    /// Sends an item of a [streaming](CallRequest::streaming) request, waiting for room.
    ///
    /// # Errors
    /// [`CallError::Closed`] once the call is over or [finished](Self::finish); its outcome says why.
    pub async fn send(&self, item: impl Into<Bytes>) -> Result<(), CallError> {
        let sender = self.sender.as_ref().ok_or(CallError::Closed)?;
        self.stage.run(sender.send(item.into())).await
    }

    /// Ends a streaming request.
    pub async fn finish(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.stage.run(sender.finish()).await;
        }
    }

    /// Asks the handler to finish early; what it still sends can be read.
    pub fn stop(&self) {
        self.call.cancel(CancelMode::Stop);
    }

    /// Ends the call now. Its outcome is [`CallError::Cancelled`].
    pub fn kill(&self) {
        self.call.cancel(CancelMode::Kill);
    }
}

impl Inner {
    /// Waits for something while everything else goes on.
    async fn run<T>(&self, something: impl Future<Output = T>) -> T {
        let mut something = pin!(something);
        poll_fn(|cx| {
            *self.bell.waker().waker() = Some(cx.waker().clone());
            self.bell.wake_up();
            for _ in 0..TURNS {
                self.turn();
                if let Poll::Ready(done) = something.as_mut().poll(cx) {
                    return Poll::Ready(done);
                }
                let more = self.touched.get() || self.executor.is_ready() || self.is_due(cx);
                if !more && self.bell.fall_asleep() {
                    return Poll::Pending;
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// As a driver's turn, without I/O.
    fn turn(&self) {
        self.executor.resume();
        self.bell.hush();
        self.executor.collect();
        let now = since(self.epoch);
        self.env.timers().fire(now);
        self.host.with(|node| expire(node, now));
        deliver(&*self.host);
        self.executor.run(POLLS);
        let mut pipes = self.pipes.borrow_mut();
        pipes.now = since(self.epoch);
        drain(&*self.host, &mut *pipes, &self.touched);
        self.executor.retire();
    }

    /// Whether something happens by itself now; otherwise the test is woken when it does.
    fn is_due(&self, cx: &mut Context<'_>) -> bool {
        let Some(at) = next_deadline(&*self.host, &self.env, None) else { return false };
        let at = self.epoch + at.since(Instant::ZERO);
        let mut timer = self.timer.borrow_mut();
        let timer = timer.insert(Box::pin(tokio::time::sleep_until(at)));
        timer.as_mut().poll(cx).is_ready()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.executor.resume();
        self.executor.clear(PATIENCE);
        self.executor.retire();
    }
}

fn since(epoch: tokio::time::Instant) -> Instant {
    Instant::from_nanos(u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
}
