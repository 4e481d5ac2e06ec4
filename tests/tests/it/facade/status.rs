//! The status server over the lives of workers and clients: probes, numbers, what may be changed and by whom.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ringplane::discovery::{self, Backend, BoxFuture, Counters, Mem, Place, Registration, Watch};
use ringplane::status::{PartView, ProcessView, Status, StatusConfig};
use ringplane::{CallRequest, Client, DriverChoice, EndpointId, InstanceId, Request, Responder, Worker};
use ringplane_core::discovery::channel::EventChannel;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::model::Model;
use ringplane_core::discovery::source::EventSource;
use ringplane_servers::port::reserved;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::support::{both, connect, end, end_client, end_worker, on, place, serve};

const ONE: &str = "test.status.one";
const TWO: &str = "test.status.two";
/// The longest to wait for what must come.
const SOON: Duration = Duration::from_secs(20);
/// Header of a POST that may change something.
const SIGN: &str = "x-ringplane: 1";

/// A server whose patience with cores no load of the machine exhausts.
pub(super) fn patient() -> StatusConfig {
    StatusConfig { manage: true, core_timeout: Duration::from_secs(30), ..StatusConfig::default() }
}

/// The status and the body of an answer.
pub(super) async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &[&str]) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let host = if headers.iter().any(|header| header.starts_with("host:")) {
        String::new()
    } else {
        format!("host: {addr}\r\n")
    };
    let more: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\n{host}{more}connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).await.unwrap();
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn get(addr: SocketAddr, path: &str) -> (u16, Value) {
    let (status, body) = ask(addr, "GET", path, &[]).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// Asks until the answer has that status; its body.
async fn until(addr: SocketAddr, path: &str, wanted: u16) -> Value {
    let begun = Instant::now();
    loop {
        let (status, body) = get(addr, path).await;
        if status == wanted {
            return body;
        }
        assert!(begun.elapsed() < SOON, "{path}: still {status}: {body}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn codes<const N: usize>(addr: SocketAddr, paths: [&str; N]) -> [u16; N] {
    let mut codes = [0; N];
    for (code, path) in codes.iter_mut().zip(paths) {
        *code = get(addr, path).await.0;
    }
    codes
}

/// A place for discovery that takes records when it is let, and shows those of another place.
#[derive(Debug)]
struct Gate {
    kept: Mem,
    shown: Mem,
    permits: Semaphore,
}

impl Backend for Gate {
    fn instance_id(&self) -> InstanceId {
        self.kept.instance_id()
    }

    fn counters(&self) -> Counters {
        self.kept.counters()
    }
}

impl Place<Instance> for Gate {
    fn claim(&self, record: Instance) -> BoxFuture<'_, Result<Registration, discovery::Error>> {
        Box::pin(async move {
            self.permits.acquire().await.expect("it stays open").forget();
            self.kept.claim(record).await
        })
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Vec<Instance>, discovery::Error>> {
        self.kept.list(query)
    }

    fn watch(&self, query: Query) -> BoxFuture<'_, Result<Watch, discovery::Error>> {
        self.shown.watch(query)
    }
}

macro_rules! handed_on {
    ($($kind:ty),*) => {
        $(impl Place<$kind> for Gate {
            fn claim(&self, record: $kind) -> BoxFuture<'_, Result<Registration<$kind>, discovery::Error>> {
                self.kept.claim(record)
            }

            fn list(&self, query: <$kind as Kind>::Query) -> BoxFuture<'_, Result<Vec<$kind>, discovery::Error>> {
                self.kept.list(query)
            }

            fn watch(&self, query: <$kind as Kind>::Query) -> BoxFuture<'_, Result<Watch<$kind>, discovery::Error>> {
                self.kept.watch(query)
            }
        })*
    };
}

handed_on!(Model, EventChannel, EventSource);

/// Echoes; fails, or holds its answer until there is a permit, if it is asked to.
async fn answer(mut request: Request, out: Responder, permits: Arc<Semaphore>) -> Result<(), ringplane::Failure> {
    let body = request.body().await?;
    if &body[..] == b"fail" {
        return Err(ringplane::Failure::internal("on purpose"));
    }
    if &body[..] == b"hold" {
        permits.acquire().await.expect("it stays open").forget();
    }
    Ok(out.send(body).await?)
}

#[test]
fn probes_follow_a_worker_from_its_start_to_its_end() {
    both(async |driver| {
        // Nobody else gets the port when the server is gone.
        let (_port, listen) = reserved().unwrap();
        let status = Status::serve(StatusConfig { ready_at_start: false, listen, ..patient() }).unwrap();
        let at = status.addr();
        assert_eq!(codes(at, ["/live", "/health", "/ready", "/ready/one", "/none"]).await, [200, 503, 503, 404, 404]);
        let permits = Arc::new(Semaphore::new(0));
        let handler = || {
            let permits = permits.clone();
            move |request: Request, out: Responder| answer(request, out, permits.clone())
        };
        let gate = Arc::new(Gate { kept: Mem::new(), shown: Mem::new(), permits: Semaphore::new(0) });
        let builder = Worker::builder().endpoint(ONE, handler()).endpoint(TWO, handler()).status(&status);
        let serving = tokio::spawn(builder.discovery_backend(gate.clone()).config(on(driver)).serve());
        // It starts: its records are on their way.
        let told = until(at, "/ready/one", 503).await;
        assert!(told["why"].as_str().unwrap().contains("starts"), "{told}");
        assert_eq!(codes(at, ["/live", "/health"]).await, [200, 503]);
        gate.permits.add_permits(16);
        let worker = serving.await.unwrap().unwrap();
        let (code, mut told) = get(at, "/health").await;
        assert!(told["uptime"]["secs"].is_u64() && told["uptime"]["nanos"].is_u64(), "{told}");
        told["uptime"].take();
        let wanted = json!({ "status": "ready", "uptime": null, "endpoints": { "one": "ready", "two": "ready" } });
        assert_eq!((code, told), (200, wanted));
        lost_and_found(&gate, &worker, at).await;

        // One endpoint, by the worker and by a POST; the other serves.
        worker.drain_endpoint(ONE).await.unwrap();
        assert_eq!(codes(at, ["/live", "/health", "/ready/one", "/ready/two"]).await, [200, 200, 503, 200]);
        let resume = format!("/endpoints/{ONE}/resume");
        assert_eq!(ask(at, "POST", &resume, &[SIGN]).await.0, 202);
        assert_eq!(codes(at, ["/ready/one", &format!("/ready/{ONE}")]).await, [200, 200]);
        assert_eq!(ask(at, "POST", "/endpoints/two/drain", &[SIGN]).await.0, 202);
        until(at, "/ready/two", 503).await;
        assert_eq!(ask(at, "POST", "/endpoints/two/resume", &[SIGN]).await.0, 202);

        // The whole worker, with a call that takes its time.
        let client =
            Client::builder().discovery_backend(Arc::new(gate.kept.clone())).config(on(driver)).connect().unwrap();
        let mut call = client.call(CallRequest::new(ONE, "hold")).unwrap();
        super::support::until_worker("the call runs", &worker, |numbers| numbers.worker.jobs == 1).await;
        let worker = Arc::new(worker);
        let draining = tokio::spawn({
            let worker = worker.clone();
            async move { worker.drain().await }
        });
        until(at, "/health", 503).await;
        let told = until(at, "/ready", 503).await;
        assert!(told["why"].as_str().unwrap().contains("leaving"), "{told}");
        assert_eq!(codes(at, ["/live", "/ready/one", "/ready/two"]).await, [200, 503, 503]);
        permits.add_permits(1);
        assert_eq!((call.next().await.unwrap().unwrap(), draining.await.unwrap()), ("hold".into(), 0));
        drop(call);
        end(Arc::into_inner(worker).unwrap(), client).await;
        assert_eq!(codes(at, ["/live", "/health", "/ready/one"]).await, [200, 503, 404]);
        status.shutdown().await;
        assert!(TcpStream::connect(at).await.is_err());
    });
}

#[test]
fn a_drain_behind_a_resume_that_waits_leaves_an_endpoint_that_is_not_found() {
    both(async |driver| {
        let gate = Arc::new(Gate { kept: Mem::new(), shown: Mem::new(), permits: Semaphore::new(2) });
        let echo = |request: Request, out: Responder| answer(request, out, Arc::new(Semaphore::new(0)));
        let builder = Worker::builder().endpoint(ONE, echo).endpoint(TWO, echo);
        let worker = builder.discovery_backend(gate.clone()).config(on(driver)).serve().await.unwrap();
        worker.drain_endpoint(ONE).await.unwrap();
        worker.drain_endpoint(TWO).await.unwrap();
        // The first waits for discovery, the others behind it. Did the last two go through each other, the record would come back
        // behind the drain, and callers would be sent to an endpoint that refuses them.
        let (two, one, drained, ()) = tokio::join!(
            biased;
            worker.resume_endpoint(TWO),
            worker.resume_endpoint(ONE),
            worker.drain_endpoint(ONE),
            async { gate.permits.add_permits(16) },
        );
        assert_eq!((two.unwrap(), one.unwrap(), drained.unwrap()), ((), (), 0));
        let found: Vec<Instance> = gate.kept.list(Query::Endpoint(EndpointId::parse(ONE).unwrap())).await.unwrap();
        assert_eq!(found, [] as [Instance; 0]);
        worker.resume_endpoint(ONE).await.unwrap();
        let kept = Arc::new(gate.kept.clone());
        let client = Client::builder().discovery_backend(kept).config(on(driver)).connect().unwrap();
        for endpoint in [ONE, TWO] {
            client.call(CallRequest::new(endpoint, "x")).unwrap().collect().await.unwrap();
        }
        end(worker, client).await;
    });
}

/// Discovery shows the record of the worker, then no more, then again.
async fn lost_and_found(gate: &Gate, worker: &Worker, at: SocketAddr) {
    let record = Instance::new(worker.instance_id(), EndpointId::parse(ONE).unwrap(), worker.addr());
    let begun = Instant::now();
    // What comes and goes before anybody looks was never there.
    loop {
        let shown = gate.shown.register(record.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        shown.unregister().await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        if get(at, "/ready/one").await.0 == 503 {
            break;
        }
        assert!(begun.elapsed() < SOON, "nobody misses the record");
    }
    assert_eq!(codes(at, ["/live", "/health", "/ready/two"]).await, [200, 503, 200]);
    let shown = gate.shown.register(record).await.unwrap();
    until(at, "/ready/one", 200).await;
    assert_eq!(codes(at, ["/health"]).await, [200]);
    // The guard would take the record back.
    std::mem::forget(shown);
}

#[test]
fn nothing_is_changed_for_another_site_nor_unless_it_is_switched_on() {
    super::support::runtime().block_on(async {
        let status = Status::serve(patient()).unwrap();
        let at = status.addr();
        let idle = |_: Request, _: Responder| async move { Ok(()) };
        let builder = Worker::builder().endpoint(ONE, idle).status(&status);
        let worker = serve(builder, &place(), on(DriverChoice::Tokio)).await;
        let drain = format!("/endpoints/{ONE}/drain");
        let same = format!("origin: http://{at}");
        for (headers, code) in [
            (&[][..], 403),
            (&[SIGN, "origin: http://evil.example"], 403),
            (&[SIGN, "origin: null"], 403),
            (&[SIGN, "sec-fetch-site: cross-site"], 403),
            // A name of another's that leads here.
            (&[SIGN, "host: evil.example:80", "origin: http://evil.example:80"], 421),
            (&[SIGN, "content-length: 100000"], 413),
        ] {
            assert_eq!(ask(at, "POST", &drain, headers).await.0, code, "{headers:?}");
        }
        assert_eq!(ask(at, "GET", "/status.json", &["host: evil.example"]).await.0, 421);
        assert_eq!(ask(at, "PUT", &drain, &[SIGN]).await.0, 405);
        assert_eq!(ask(at, "POST", "/endpoints/none/drain", &[SIGN]).await.0, 404);
        assert_eq!(codes(at, ["/ready/one"]).await, [200]);
        assert_eq!(ask(at, "POST", &drain, &[SIGN, &same, "sec-fetch-site: same-origin"]).await.0, 202);
        until(at, "/ready/one", 503).await;
        let fixed = Status::serve(StatusConfig { manage: false, ..patient() }).unwrap();
        let (code, why) = ask(fixed.addr(), "POST", &drain, &[SIGN]).await;
        assert!(code == 403 && why.contains("manage"), "{why}");
        end_worker(worker).await;
    });
}

#[test]
fn a_core_that_a_handler_holds_is_not_live_and_is_named() {
    both(async |driver| {
        let config = StatusConfig { core_timeout: Duration::from_millis(100), ..StatusConfig::default() };
        let status = Status::serve(config).unwrap();
        let at = status.addr();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let hold = move |_: Request, _: Responder| {
            let held = held.clone();
            async move {
                // On purpose: nobody else is served meanwhile.
                let _ = held.lock().unwrap().recv();
                Ok(())
            }
        };
        let place = place();
        let worker = serve(Worker::builder().endpoint(ONE, hold).status(&status), &place, on(driver)).await;
        until(at, "/live", 200).await;
        let client = connect(&place, on(driver));
        let call = client.call(CallRequest::new(ONE, "")).unwrap();
        // A core that the machine lets wait is not live either, before the handler begins: no handler is named then.
        let begun = Instant::now();
        loop {
            let told = until(at, "/live", 503).await;
            assert_eq!(told["status"], "stuck", "{told}");
            if told["why"].as_str().unwrap().contains("one") {
                break;
            }
            assert!(begun.elapsed() < SOON, "the handler is not named: {told}");
        }
        let (_, page) = ask(at, "GET", "/", &[]).await;
        assert!(page.contains("stuck") && page.contains("does not answer"), "{page}");
        release.send(()).unwrap();
        assert_eq!(call.collect().await.unwrap().len(), 0);
        until(at, "/live", 200).await;
        end(worker, client).await;
    });
}

/// Calls that are made between two looks have their times; what fails is told, by the worker and by the client.
async fn times_and_errors(at: SocketAddr, client: &Client) {
    let begun = Instant::now();
    loop {
        client.call(CallRequest::new(ONE, "x")).unwrap().collect().await.unwrap();
        let (_, served) = part(at, "worker", |_| true).await;
        let (_, called) = part(at, "client", |_| true).await;
        if let (Some(served), Some(called)) = (served.rates, called.rates)
            && let (Some(one), Some(other)) = (served.p50_us, called.p50_us)
        {
            assert!(served.window_ms >= 900 && called.window_ms >= 900 && served.calls > 0.0 && called.calls > 0.0);
            assert!(one <= served.p99_us.unwrap() && other <= called.p99_us.unwrap());
            break;
        }
        assert!(begun.elapsed() < SOON, "no times: {served:?}");
    }
    client.call(CallRequest::new(ONE, "fail")).unwrap().collect().await.unwrap_err();
    let (process, _) = part(at, "client", |part| part.number("called.failed") == 1).await;
    let told = |what: &str| {
        process
            .errors
            .iter()
            .any(|error| error.place == ONE && error.text.contains(what) && error.text.contains("on purpose"))
    };
    assert!(told("a handler failed") && told("a call failed") && process.errors_total == 3, "{:?}", process.errors);
}

/// The part of that kind, once its numbers are right.
async fn part(at: SocketAddr, kind: &str, holds: impl Fn(&PartView) -> bool) -> (ProcessView, PartView) {
    let begun = Instant::now();
    loop {
        let (_, body) = ask(at, "GET", "/status.json", &[]).await;
        let process: ProcessView = serde_json::from_str(&body).unwrap();
        if let Some(part) = process.parts.iter().find(|part| part.kind == kind).filter(|part| holds(part)) {
            return (process.clone(), part.clone());
        }
        assert!(begun.elapsed() < SOON, "{body}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn the_page_and_its_json_count_what_a_worker_and_a_client_did_and_foreign_text_is_text() {
    both(async |driver| {
        let (status, place) = (Status::serve(patient()).unwrap(), place());
        let at = status.addr();
        let echo = |request: Request, out: Responder| answer(request, out, Arc::new(Semaphore::new(0)));
        let worker = serve(Worker::builder().endpoint(ONE, echo).status(&status), &place, on(driver)).await;
        let client = Client::builder().discovery(&place).config(on(driver)).status(&status).connect().unwrap();
        for _ in 0..7 {
            client.call(CallRequest::new(ONE, "x")).unwrap().collect().await.unwrap();
        }
        status.note("<script>alert(1)</script>", "\"quoted\" & 'quoted'");
        let (process, served) = part(at, "worker", |part| part.number("served.admitted") == 7).await;
        assert!(process.live && process.ready && process.manage && process.why.is_none(), "{process:?}");
        assert_eq!((process.errors.len(), process.errors_total), (1, 1));
        assert_eq!((served.name, served.driver), (worker.addr().to_string(), Some(worker.driver().to_string())));
        assert_eq!((served.endpoints[0].name.as_str(), served.endpoints[0].state.as_str()), (ONE, "ready"));
        let (_, called) = part(at, "client", |part| part.number("called.succeeded") == 7).await;
        assert_eq!((called.instances.len(), called.number("called.failed")), (1, 0));
        let instance = &called.instances[0];
        let wanted = (ONE, "routable", worker.addr().to_string());
        assert_eq!((instance.endpoint.as_str(), instance.state.as_str(), instance.address.clone()), wanted);
        let (code, page) = ask(at, "GET", "/", &[]).await;
        assert!(code == 200 && page.contains(ONE) && page.contains("<dd id=\"c2\">7</dd>"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert"), "{page}");
        let (_, cells) = get(at, "/page.json").await;
        assert!(page.contains(cells["shape"].as_str().unwrap()) && cells["cells"][2] == "7", "{cells}");
        let (code, metrics) = ask(at, "GET", "/metrics", &[]).await;
        assert_eq!(code, 200);
        for line in ["ringplane_served_admitted_total 7", "ringplane_called_calls_total 7"] {
            assert!(metrics.lines().any(|told| told == line), "{line}: {metrics}");
        }
        let (_, metadata) = get(at, "/metadata").await;
        assert_eq!(metadata["endpoints"].as_array().unwrap().len(), 1, "{metadata}");
        times_and_errors(at, &client).await;
        end_client(client).await;
        end_worker(worker).await;
        let (_, told) = get(at, "/status.json").await;
        assert_eq!((&told["parts"], &told["ready"]), (&json!([]), &json!(false)));
    });
}
