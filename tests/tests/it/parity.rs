//! Every scenario on the simulator, on tokio, on io_uring, on monoio and on tokio-uring: what a caller sees must be the same, word for word.

use std::cell::Cell;
use std::fmt::Write as _;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::caller;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::{EndpointKey, Request};
use ringplane_core::caller::target::Target;
use ringplane_core::id::InstanceId;
use ringplane_core::local::env::{Env, LocalTask};
use ringplane_core::local::host::LocalNode;
use ringplane_core::local::job::{Failure, Incoming};
use ringplane_core::mux::Opening;
use ringplane_core::node::Node;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::wire::mux::CancelMode;
use ringplane_core::worker;
use ringplane_tests::sim::{Faults, Sim};

const PATH: &str = "1/demo/parity/actor";
/// The longest a scenario may take on a real driver.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a script works with.
struct Stage {
    node: Rc<LocalNode>,
    endpoint: EndpointKey,
    /// Where the worker listens.
    open: SocketAddr,
    /// Where nobody listens.
    closed: SocketAddr,
}

type Script = fn(Rc<Stage>) -> Pin<Box<dyn Future<Output = String>>>;
type Tune = fn(&mut worker::config::Config, &mut caller::config::Config);

macro_rules! scenarios {
    ($($name:ident: $tune:expr, $script:expr;)*) => {
        $(#[test]
        fn $name() {
            same_everywhere(stringify!($name), $tune, |stage| Box::pin($script(stage)));
        })*
    };
}

const AS_IS: Tune = |_, _| ();

scenarios! {
    one_item_comes_back: AS_IS, |stage: Rc<Stage>| async move { stage.say("count 1 64").await };
    a_stream_may_be_empty: AS_IS, |stage: Rc<Stage>| async move { stage.say("count 0 0").await };
    items_come_in_order: AS_IS, |stage: Rc<Stage>| async move { stage.say("count 5 0").await + &stage.say("count 10000 32").await };
    large_items_come_back_whole: AS_IS, |stage: Rc<Stage>| async move {
        stage.echo(&[1 << 20, 8 << 20]).await
    };
    requests_stream_in_while_answers_stream_out: AS_IS, |stage: Rc<Stage>| async move { stage.echo(&[1, 0, 4096, 70_000]).await };
    a_failure_before_the_first_item_is_the_outcome: AS_IS, |stage: Rc<Stage>| async move { stage.say("fail 0").await };
    a_failure_in_mid_stream_follows_the_items: AS_IS, |stage: Rc<Stage>| async move { stage.say("fail 3").await };
    a_path_nobody_serves_is_refused: AS_IS, |stage: Rc<Stage>| async move {
        let endpoint = stage.endpoint_at(stage.open, "1/demo/parity/nobody");
        stage.say_to(endpoint, "count 1 1", None).await
    };
    an_endpoint_without_instances_fails_in_time: |_, caller| caller.instance_timeout = Duration::from_millis(100),
        |stage: Rc<Stage>| async move {
            let endpoint = stage.node.endpoint(AnyPolicy::default());
            stage.say_to(endpoint, "count 1 1", None).await
        };
    a_refused_connection_is_told: AS_IS, |stage: Rc<Stage>| async move {
        let endpoint = stage.endpoint_at(stage.closed, PATH);
        stage.say_to(endpoint, "count 1 1", None).await
    };
    a_stop_lets_the_handler_finish: AS_IS, |stage: Rc<Stage>| async move { stage.cancelled(CancelMode::Stop).await };
    a_kill_ends_the_call_and_the_handler: AS_IS, |stage: Rc<Stage>| async move {
        stage.cancelled(CancelMode::Kill).await + &stage.dropped_handlers(1).await
    };
    a_dropped_call_ends_the_handler: AS_IS, |stage: Rc<Stage>| async move {
        let mut call = stage.begin("hang", None);
        let first = call.next().await;
        drop(call);
        format!("{} {}", first.is_some(), stage.dropped_handlers(1).await)
    };
    a_deadline_ends_a_running_call_on_both_sides: AS_IS, |stage: Rc<Stage>| async move {
        let said = stage.say_to(stage.endpoint, "hang", Some(Duration::from_millis(150))).await;
        said + &stage.dropped_handlers(1).await
    };
    a_deadline_ends_a_queued_call_before_it_runs: |worker, _| (worker.max_running, worker.max_queued) = (1, 8),
        |stage: Rc<Stage>| async move {
            let mut busy = stage.begin("hang", None);
            busy.next().await;
            let said = stage.say_to(stage.endpoint, "count 1 1", Some(Duration::from_millis(150))).await;
            busy.cancel(CancelMode::Stop);
            said + &read(busy).await
        };
    a_full_worker_refuses_at_once: |worker, _| (worker.max_running, worker.max_queued) = (1, 0),
        |stage: Rc<Stage>| async move {
            let mut busy = stage.begin("hang", None);
            busy.next().await;
            let said = stage.say("count 1 1").await;
            busy.cancel(CancelMode::Stop);
            said + &read(busy).await
        };
    a_queued_call_runs_when_its_turn_comes: |worker, _| (worker.max_running, worker.max_queued) = (1, 8),
        |stage: Rc<Stage>| async move {
            let mut busy = stage.begin("hang", None);
            busy.next().await;
            let queued = stage.begin("count 2 8", None);
            stage.node.env().sleep(Duration::from_millis(50)).await;
            let status = format!("{:?} ", queued.status());
            busy.cancel(CancelMode::Stop);
            status + &read(busy).await + &read(queued).await
        };
    a_slow_reader_gets_everything: |_, caller| (caller.mux.stream_window, caller.mux.connection_window) = (140_000, 140_000),
        |stage: Rc<Stage>| async move {
            let mut call = stage.begin("count 400 5000", None);
            let mut got = 0;
            while let Some(Ok(item)) = call.next().await {
                assert_eq!(item, pattern(got, 5000));
                got += 1;
                if got % 50 == 0 {
                    stage.node.env().sleep(Duration::from_millis(5)).await;
                }
            }
            format!("{got}")
        };
    the_handler_sees_what_the_caller_wrote: AS_IS, |stage: Rc<Stage>| async move {
        let opening = Opening {
            request_id: "request-7".into(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".into()),
            tracestate: Some("vendor=a:b, other = c".into()),
            codec: Some("msgpack".into()),
            metadata: vec![("key".into(), "wärt".into()), ("key".into(), "again".into())],
            ..Opening::default()
        };
        let request = Request { body: Some("head".into()), opening, ..Request::default() };
        read(stage.node.call(stage.endpoint, request).unwrap()).await
    };
    calls_side_by_side_do_not_mix: AS_IS, |stage: Rc<Stage>| async move {
        let mut calls: Vec<_> = (0..50).map(|n| stage.begin(&format!("count {n} 100"), None)).collect();
        calls.reverse();
        let mut said = String::new();
        for call in calls {
            said += &read(call).await;
        }
        said
    };
    a_drained_worker_finishes_what_runs_and_refuses_the_rest: AS_IS, |stage: Rc<Stage>| async move {
        let mut running = stage.begin("hang", None);
        running.next().await;
        let drain = stage.say("drain").await;
        stage.node.env().sleep(Duration::from_millis(50)).await;
        let late = stage.say("count 1 1").await;
        running.cancel(CancelMode::Stop);
        drain + &late + &read(running).await
    };
}

impl Stage {
    fn begin(&self, words: &str, timeout: Option<Duration>) -> ringplane_core::local::LocalCall {
        self.begin_at(self.endpoint, words, timeout)
    }

    fn begin_at(
        &self,
        endpoint: EndpointKey,
        words: &str,
        timeout: Option<Duration>,
    ) -> ringplane_core::local::LocalCall {
        let request = Request { body: Some(words.to_owned().into()), timeout, ..Request::default() };
        self.node.call(endpoint, request).expect("the call can be begun")
    }

    async fn say(&self, words: &str) -> String {
        self.say_to(self.endpoint, words, None).await
    }

    async fn say_to(&self, endpoint: EndpointKey, words: &str, timeout: Option<Duration>) -> String {
        read(self.begin_at(endpoint, words, timeout)).await
    }

    fn endpoint_at(&self, addr: SocketAddr, path: &str) -> EndpointKey {
        let endpoint = self.node.endpoint(AnyPolicy::default());
        self.node.set_instances(endpoint, vec![(InstanceId(9), Target::mux(addr, path))]);
        endpoint
    }

    /// A streaming request whose items come back one by one.
    async fn echo(&self, sizes: &[usize]) -> String {
        let mut call = self.node.call(self.endpoint, Request::default()).expect("the call can be begun");
        let sender = call.sender();
        sender.send("echo".into()).await.unwrap();
        let mut said = String::new();
        for (index, size) in sizes.iter().enumerate() {
            let item = pattern(index, *size);
            sender.send(item.clone()).await.unwrap();
            let back = call.next().await;
            write!(said, "{} ", back == Some(Ok(item))).unwrap();
        }
        sender.finish().await;
        said + &read(call).await
    }

    async fn cancelled(&self, mode: CancelMode) -> String {
        let mut call = self.begin("hang", None);
        let first = call.next().await;
        call.cancel(mode);
        format!("{} ", first.is_some()) + &read(call).await
    }

    /// Waits until the worker has lost this many handlers that were still running.
    async fn dropped_handlers(&self, expected: u32) -> String {
        for _ in 0..500 {
            if self.say("dropped").await.contains(&format!("[{expected}]")) {
                return format!("{expected} dropped");
            }
            self.node.env().sleep(Duration::from_millis(10)).await;
        }
        "the handlers stay".into()
    }
}

/// Everything a call says, as text: the first items' contents, the number and a checksum of all, the outcome.
async fn read(mut call: ringplane_core::local::LocalCall) -> String {
    let (mut said, mut count, mut sum) = (String::new(), 0_u32, 0);
    loop {
        match call.next().await {
            Some(Ok(item)) => {
                if count < 3 && item.len() < 80 {
                    write!(said, "[{}]", String::from_utf8_lossy(&item)).unwrap();
                }
                count += 1;
                sum = ringplane_crc32c::append(sum, &item);
            }
            Some(Err(mut error)) => {
                blur(&mut error);
                write!(said, " {count} items {sum:08x}, {error:?}; ").unwrap();
                return said;
            }
            None => {
                write!(said, " {count} items {sum:08x}, well; ").unwrap();
                return said;
            }
        }
    }
}

/// The address in an error differs from driver to driver; that there is one must not.
fn blur(error: &mut CallError) {
    if let CallError::Unreachable { at: Some(at), .. }
    | CallError::Disconnected { at: Some(at), .. }
    | CallError::Rejected { at: Some(at), .. } = error
    {
        at.addr = at.addr.map(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    }
}

fn pattern(index: usize, len: usize) -> Bytes {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(index as u8)).collect::<Vec<_>>().into()
}

/// The worker's handler: does what the first item says.
fn act(incoming: Incoming, dropped: Rc<Cell<u32>>) -> LocalTask {
    Box::pin(async move {
        let words = incoming.responder().recv().await.ok().flatten().unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        let mut words = words.split(' ');
        let verb = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
        let out = incoming.responder().clone();
        let done: Result<(), Failure> = match verb {
            "count" => count(&out, number(), number()).await,
            "echo" => echo(&out).await,
            "fail" => match count(&out, number(), 10).await {
                Ok(()) => Err(Failure::invalid("as asked")),
                Err(failure) => Err(failure),
            },
            "hang" => hang(&out, &dropped).await,
            "head" => head(&out, &incoming).await,
            "dropped" => out.send(dropped.get().to_string()).await.map_err(Failure::from),
            "drain" => {
                out.node().drain(|| ());
                Ok(())
            }
            other => Err(Failure::internal(format_args!("what is `{other}`?"))),
        };
        match done {
            Ok(()) => incoming.finish(),
            Err(failure) => incoming.fail(&failure),
        }
    })
}

async fn count(out: &ringplane_core::local::Responder, count: usize, len: usize) -> Result<(), Failure> {
    for index in 0..count {
        out.send(pattern(index, len)).await?;
    }
    Ok(())
}

async fn echo(out: &ringplane_core::local::Responder) -> Result<(), Failure> {
    while let Some(item) = out.recv().await? {
        out.send(item).await?;
    }
    Ok(())
}

async fn hang(out: &ringplane_core::local::Responder, dropped: &Rc<Cell<u32>>) -> Result<(), Failure> {
    struct Guard(Rc<Cell<u32>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let guard = Guard(dropped.clone());
    out.send("here").await?;
    let cause = out.cancelled().await;
    std::mem::forget(guard);
    out.send(format!("{cause:?}")).await?;
    Ok(())
}

async fn head(out: &ringplane_core::local::Responder, incoming: &Incoming) -> Result<(), Failure> {
    let open = incoming.open();
    let metadata: Vec<_> = open.metadata().collect();
    let line = format!("{} {:?} {:?}", open.request_id, open.codec, metadata);
    out.send(line).await?;
    out.send(open.traceparent.unwrap_or("-").to_owned()).await?;
    out.send(open.tracestate.unwrap_or("-").to_owned()).await?;
    Ok(())
}

fn configs(tune: Tune) -> (worker::config::Config, caller::config::Config) {
    let (mut worker, mut caller) = (worker::config::Config::default(), caller::config::Config::default());
    caller.backoff.base = Duration::from_millis(5);
    tune(&mut worker, &mut caller);
    (worker, caller)
}

fn node(env: &Env, tune: Tune) -> Rc<LocalNode> {
    let (worker, caller) = configs(tune);
    LocalNode::new(Node::new(worker, caller, 1), env)
}

fn serving(env: &Env, tune: Tune) -> Rc<LocalNode> {
    let node = node(env, tune);
    let dropped = Rc::new(Cell::new(0));
    node.serve(PATH, Rc::new(move |incoming| act(incoming, dropped.clone())));
    node
}

fn stage(node: &Rc<LocalNode>, open: SocketAddr, closed: SocketAddr) -> Rc<Stage> {
    let endpoint = node.endpoint(AnyPolicy::default());
    node.set_instances(endpoint, vec![(InstanceId(1), Target::mux(open, PATH))]);
    Rc::new(Stage { node: node.clone(), endpoint, open, closed })
}

fn on_the_simulator(tune: Tune, script: Script) -> String {
    let (near, far) = (SocketAddr::from(([10, 0, 0, 1], 80)), SocketAddr::from(([10, 0, 0, 2], 80)));
    let closed = SocketAddr::from(([10, 0, 0, 3], 80));
    let mut sim = Sim::with_faults(1, Faults::calm());
    let (_worker, _kept) = sim.host(far, |env| serving(env, tune));
    let (caller, node) = sim.host(near, |env| node(env, tune));
    let stage = stage(&node, far, closed);
    let said: Rc<Cell<Option<String>>> = Rc::default();
    let told = said.clone();
    sim.env(caller).spawn(async move { told.set(Some(script(stage).await)) });
    let mut answer = None;
    let end = sim.now() + Duration::from_secs(1000);
    sim.run_until(|sim| {
        answer = said.take();
        answer.is_some() || sim.now() > end
    });
    answer.expect("the script ends in virtual time")
}

/// The same on a real driver; all have the same shape.
macro_rules! on_a_driver {
    ($name:ident, $driver:path) => {
        fn $name(tune: Tune, script: Script) -> String {
            use $driver as driver;
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let open = listener.local_addr().unwrap();
            let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let (common, config) = (driver::Common::default(), driver::Config::default());
            let given = driver::Given::listener(listener);
            let worker = driver::start("parity-worker", common, config, given, move |env| serving(env, tune)).unwrap();
            let caller =
                driver::start("parity-caller", common, config, driver::Given::default(), move |env| node(env, tune));
            let caller = caller.unwrap();
            let (told, said) = mpsc::channel();
            let begin = move |node: &Rc<LocalNode>, env: &Env| {
                let stage = stage(node, open, closed);
                env.spawn(async move { told.send(script(stage).await).unwrap() });
            };
            caller.handle().submit(begin).expect("the mailbox has room");
            let said = said.recv_timeout(PATIENCE).expect("the script ends in time");
            for report in [caller.stop(), worker.stop()] {
                assert!(report.is_clean(), "{report:?}");
            }
            said
        }
    };
}

on_a_driver!(on_tokio, ringplane_tokio::tcp);
on_a_driver!(on_io_uring, ringplane_io_uring);
on_a_driver!(on_monoio, ringplane_io_uring::monoio);
on_a_driver!(on_tokio_uring, ringplane_io_uring::tokio_uring);

fn same_everywhere(name: &str, tune: Tune, script: Script) {
    let simulated = on_the_simulator(tune, script);
    println!("{name}: {simulated}");
    assert_eq!(on_tokio(tune, script), simulated, "tokio differs");
    assert_eq!(on_io_uring(tune, script), simulated, "io_uring differs");
    assert_eq!(on_monoio(tune, script), simulated, "monoio differs");
    assert_eq!(on_tokio_uring(tune, script), simulated, "tokio-uring differs");
}
