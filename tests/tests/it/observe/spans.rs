//! The spans of calls and requests: one trace over handlers that call on, retries, hedges and migrations.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use ringplane::events::{Consumed, Delivery, EventObserver, Events, Publishing, Underway};
use ringplane::observe::telemetry::Telemetry;
use ringplane::observe::{export, otlp};
use ringplane::{
    CallRequest, Client, DriverChoice, Endpoint, Failure, Hedge, HedgeConfig, KeepAll, MigrationConfig, Onward,
    Request, Responder, Slow, TraceContext, Worker, WorkerBuilder, discovery,
};
use ringplane_core::discovery::instance::Instance;
use ringplane_core::id::{EndpointId, InstanceId};
use tokio::net::TcpSocket;
use tracing_subscriber::layer::SubscriberExt;

use crate::facade::support::{both, end_client, end_worker, on, place};
use crate::observe::collector::{Collector, Seen};

const OUTER: &str = "test.spans.outer";
const INNER: &str = "test.spans.inner";
const STATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What the innermost handlers were asked with.
type Headers = Arc<Mutex<Vec<(String, String)>>>;

fn telemetry(collector: &Collector, sampling: otlp::Sampling) -> Telemetry {
    let config = otlp::Config::default().at(&collector.endpoint);
    export(&otlp::Config { delay: Duration::from_millis(10), sampling, ..config }).unwrap()
}

fn client(place: &str, driver: DriverChoice, telemetry: &Telemetry) -> Client {
    Client::builder().discovery(place).config(on(driver)).telemetry(telemetry).connect().unwrap()
}

async fn serve(builder: WorkerBuilder, place: &str, driver: DriverChoice, telemetry: &Telemetry) -> Worker {
    builder.discovery(place).config(on(driver)).telemetry(telemetry).serve().await.unwrap()
}

/// Keeps what it was asked with.
fn keeping(headers: &Headers) -> impl Fn(Request, Responder) -> std::future::Ready<Result<(), Failure>> + use<> {
    let headers = headers.clone();
    move |request: Request, _: Responder| {
        let open = request.open();
        let text = |text: Option<&str>| text.unwrap_or("none").to_owned();
        headers.lock().unwrap().push((text(open.traceparent), text(open.tracestate)));
        std::future::ready(Ok(()))
    }
}

fn named<'a>(seen: &'a [Seen], name: &str) -> Vec<&'a Seen> {
    seen.iter().filter(|one| one.span.name == name).collect()
}

/// The one of that name, kind and endpoint.
fn of<'a>(seen: &'a [Seen], name: &str, endpoint: &str) -> &'a Seen {
    let found = named(seen, name).into_iter().find(|one| one.get("operation").as_deref() == Some(endpoint));
    found.unwrap_or_else(|| panic!("no {name} of {endpoint} in {seen:#?}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A call, its only try and its request, by what each has to say.
fn went_well([call, attempt, request]: &[&Seen; 3], worker: &Worker) {
    assert!(attempt.is_below(call) && request.is_below(attempt), "{call:#?} {attempt:#?} {request:#?}");
    let kinds = [call, attempt, request].map(|one| one.kind());
    assert_eq!(kinds, [SpanKind::Internal, SpanKind::Client, SpanKind::Server]);
    for one in [call, attempt, request] {
        assert_eq!((one.get("request.outcome").as_deref(), one.is_error()), (Some("success"), false), "{one:#?}");
        let place = ["namespace", "component"].map(|part| one.get(part));
        assert_eq!(place, [Some("test".to_owned()), Some("spans".to_owned())]);
    }
    assert_eq!(attempt.events(), ["sent", "answered"]);
    assert_eq!(attempt.get("worker_id"), Some(worker.instance_id().0.to_string()));
    assert_eq!(attempt.get("server.port"), Some(worker.addr().port().to_string()));
    assert_eq!(attempt.get("request.attempt").as_deref(), Some("0"));
    assert_eq!(attempt.get("router_mode").as_deref(), Some("RoundRobin"));
    assert_eq!(request.get("instance_id"), attempt.get("worker_id"));
}

#[test]
fn a_call_its_try_its_request_and_what_the_handler_calls_are_one_trace() {
    both(async |driver| {
        let (collector, place, headers) = (Collector::grpc().await, place(), Headers::default());
        let telemetry = telemetry(&collector, otlp::Sampling::default());
        let heard = tracing::Dispatch::new(tracing_subscriber::registry().with(telemetry.layer()));
        let behind = Arc::new(OnceLock::<Endpoint>::new());
        let inside = behind.clone();
        let outer = move |_: Request, out: Responder| {
            let (local, heard) = (inside.get().and_then(Endpoint::local).unwrap(), heard.clone());
            async move {
                out.send("one").await?;
                tracing::dispatcher::with_default(&heard, || tracing::info!(depth = 1, "in the handler"));
                let mut call = local.call(CallRequest::item("x"))?;
                while let Some(item) = call.next().await {
                    out.send(item?).await?;
                }
                Ok(())
            }
        };
        let builder = Worker::builder().endpoint(OUTER, outer).endpoint(INNER, keeping(&headers));
        let worker = serve(builder, &place, driver, &telemetry).await;
        let _ = behind.set(worker.client().unwrap().endpoint(INNER).unwrap());
        let client = client(&place, driver, &telemetry);
        let context = TraceContext::read(Some(PARENT), Some(STATE), Some("order 66"));
        let request = CallRequest::new(OUTER, "x").with_id("id-7").with_context(&context);
        client.call(request).unwrap().collect().await.unwrap();

        let seen = collector.spans(|seen| seen.len() >= 6).await;
        let [outer, inner] = [OUTER, INNER]
            .map(|name| ["client_request", "router.route_request", "handle_payload"].map(|span| of(&seen, span, name)));
        assert_eq!(seen.len(), 6, "{seen:#?}");
        assert_eq!(hex(&outer[0].span.parent_span_id), PARENT[36..52], "{seen:#?}");
        assert!(
            seen.iter().all(|one| hex(&one.span.trace_id) == PARENT[3..35] && one.span.trace_state == STATE),
            "{seen:#?}"
        );
        [outer, inner].iter().for_each(|three| went_well(three, &worker));
        assert!(inner[0].is_below(outer[2]), "{seen:#?}");
        assert!(outer.iter().all(|one| one.get("request_id").as_deref() == Some("id-7")), "{seen:#?}");
        // A client's own id comes along to what the handler calls.
        for one in [outer[0], outer[2], inner[0], inner[2]] {
            assert_eq!(one.get("x_request_id").as_deref(), Some("order 66"), "{one:#?}");
        }
        assert_eq!(outer[2].events(), ["running", "in the handler"]);
        let (parent, state) = headers.lock().unwrap()[0].clone();
        assert_eq!(parent, format!("00-{}-{}-01", hex(&inner[1].span.trace_id), hex(&inner[1].span.span_id)));
        assert_eq!(state, STATE);

        end_client(client).await;
        end_worker(worker).await;
    });
}

/// Notes what it is told of events.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl EventObserver for Notes {
    fn publishing(&self, event: &Publishing<'_>) -> Option<Box<dyn Underway>> {
        self.0.lock().unwrap().push(format!("publish {} of {}", event.subject, event.bytes));
        None
    }

    fn consumed(&self, event: &Consumed<'_>) {
        self.0.lock().unwrap().push(format!("consume {} of {}", event.subject, event.message.sequence));
    }
}

#[test]
fn an_event_that_a_handler_publishes_is_below_its_request_and_what_takes_it_below_the_event() {
    both(async |driver| {
        let (collector, place, notes) = (Collector::grpc().await, place(), Arc::new(Notes::default()));
        let telemetry = telemetry(&collector, otlp::Sampling::default());
        let events = Events::builder().telemetry(&telemetry).observer(notes.clone()).open().await.unwrap();
        let publisher = Arc::new(events.publisher("test.spans", "news").await.unwrap());
        let mut subscription = events.subscriber("test.spans", "news").await.unwrap();
        let says = publisher.clone();
        let handler = move |_: Request, _: Responder| {
            let publisher = says.clone();
            async move { publisher.publish(b"told").await.map(|_| ()).map_err(Failure::internal) }
        };
        let worker = serve(Worker::builder().endpoint(INNER, handler), &place, driver, &telemetry).await;
        let client = client(&place, driver, &telemetry);
        // One that is in no trace begins none, and is Dynamo's to the byte.
        publisher.publish(b"alone").await.unwrap();
        let request = CallRequest::new(INNER, "x").with_trace(PARENT, Some(STATE.to_owned()));
        client.call(request).unwrap().collect().await.unwrap();
        let mut batch = Vec::new();
        while batch.len() < 2 {
            subscription.next_batch(&mut batch, 2).await.unwrap();
        }
        let [Delivery::Event(alone), Delivery::Event(told)] = &batch[..] else { panic!("{batch:?}") };
        assert_eq!((alone.envelope[0], alone.trace().is_empty()), (0x85, true));

        let seen = collector.spans(|seen| seen.len() >= 5).await;
        let [request, published, consumed] =
            ["handle_payload", "publish news", "consume news"].map(|name| named(&seen, name)[0]);
        assert!(published.is_below(request) && consumed.is_below(published), "{seen:#?}");
        let kinds = [published, consumed].map(|one| one.kind());
        assert_eq!((seen.len(), kinds), (5, [SpanKind::Producer, SpanKind::Consumer]), "{seen:#?}");
        assert_eq!(consumed.span.links[0].span_id, published.span.span_id, "{seen:#?}");
        let get = |name| [published, consumed].map(|one| one.get(name).unwrap_or_default());
        assert_eq!(get("messaging.destination.name"), ["namespace.test.component.spans.news"; 2]);
        assert_eq!(get("messaging.operation.type"), ["send", "process"]);
        assert_eq!(get("messaging.message.body.size"), ["4"; 2]);
        assert_eq!(consumed.get("messaging.message.id"), Some(format!("{}/1", publisher.id())));
        // What takes it goes on from there.
        let parent = format!("00-{}-{}-01", hex(&published.span.trace_id), hex(&published.span.span_id));
        let trace = told.trace();
        assert_eq!((trace.traceparent(), trace.tracestate()), (Some(&*parent), Some(STATE)));
        let subject = "namespace.test.component.spans.news";
        let expected = ["publish", "publish", "consume", "consume"].into_iter().zip([5, 4, 0, 1]);
        let expected: Vec<String> = expected.map(|(what, of)| format!("{what} {subject} of {of}")).collect();
        assert_eq!(*notes.0.lock().unwrap(), expected);
        end_client(client).await;
        end_worker(worker).await;
        assert_eq!(telemetry.shutdown(Duration::from_secs(30)).await.exported, 5);
    });
}

#[test]
fn a_span_of_the_programs_own_is_the_parent_of_the_calls_made_in_it() {
    both(async |driver| {
        let (collector, place) = (Collector::grpc().await, place());
        let telemetry = telemetry(&collector, otlp::Sampling::default());
        let builder = Worker::builder().endpoint(INNER, keeping(&Headers::default()));
        let worker = serve(builder, &place, driver, &telemetry).await;
        let client = client(&place, driver, &telemetry);
        let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(telemetry.layer()));
        let call = tracing::dispatcher::with_default(&dispatch, || {
            tracing::info_span!("own").in_scope(|| client.call(CallRequest::new(INNER, "x")).unwrap())
        });
        call.collect().await.unwrap();
        // The two end on threads of their own.
        let both = |seen: &[Seen]| ["own", "client_request"].iter().all(|name| named(seen, name).len() == 1);
        let seen = collector.spans(both).await;
        assert!(named(&seen, "client_request")[0].is_below(named(&seen, "own")[0]), "{seen:#?}");
        end_client(client).await;
        end_worker(worker).await;
    });
}

#[test]
fn what_is_not_sampled_stays_so_and_is_told_on() {
    both(async |driver| {
        let (collector, place, headers) = (Collector::grpc().await, place(), Headers::default());
        let none = telemetry(&collector, otlp::Sampling { share: 0.0, parent_based: true });
        let all = telemetry(&collector, otlp::Sampling::default());
        let worker = serve(Worker::builder().endpoint(INNER, keeping(&headers)), &place, driver, &all).await;
        // A trace that begins here, of which none are kept; one whose caller keeps none, which all obey.
        let rootless = client(&place, driver, &none);
        rootless.call(CallRequest::new(INNER, "x")).unwrap().collect().await.unwrap();
        let obeying = client(&place, driver, &all);
        let parent = PARENT.replace("-01", "-02");
        let request = CallRequest::new(INNER, "x").with_trace(&*parent, Some(STATE.to_owned()));
        obeying.call(request).unwrap().collect().await.unwrap();
        let kept = headers.lock().unwrap().clone();
        assert!(kept[0].0.ends_with("-00"), "{kept:?}");
        assert_eq!(kept[1], (parent, STATE.to_owned()));
        for client in [rootless, obeying] {
            end_client(client).await;
        }
        end_worker(worker).await;
        for telemetry in [none, all] {
            let stats = telemetry.shutdown(Duration::from_secs(30)).await;
            assert_eq!(stats.exported, 0, "{stats:?}");
        }
    });
}

/// Registers an instance that nobody listens at. The socket is bound to its port, which nothing else gets meanwhile.
async fn nobody(place: &str) -> (discovery::Registration, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let instance = Instance::new(InstanceId(7), EndpointId::parse(INNER).unwrap(), addr);
    (discovery::open(place).unwrap().endpoints().register(instance).await.unwrap(), socket)
}

#[test]
fn tries_elsewhere_are_siblings_that_name_the_one_before() {
    both(async |driver| {
        let (collector, place) = (Collector::http().await, place());
        let mut config = otlp::Config::default();
        (config.protocol, config.endpoint) = (otlp::Protocol::Http, format!("{}/v1/traces", collector.endpoint));
        config.delay = Duration::from_millis(10);
        let telemetry = export(&config).unwrap();
        let registered = nobody(&place).await;
        let worker =
            serve(Worker::builder().endpoint(INNER, keeping(&Headers::default())), &place, driver, &telemetry).await;
        let client = client(&place, driver, &telemetry);
        // In turn: one of two meets nobody at first.
        for _ in 0..2 {
            client.call(CallRequest::new(INNER, "x")).unwrap().collect().await.unwrap();
        }
        let seen = collector
            .spans(|seen| named(seen, "client_request").len() == 2 && named(seen, "handle_payload").len() == 2)
            .await;
        let second = named(&seen, "router.route_request")
            .into_iter()
            .find(|one| one.get("request.attempt").as_deref() == Some("1"));
        let second = second.unwrap_or_else(|| panic!("no call met nobody: {seen:#?}"));
        let call = named(&seen, "client_request").into_iter().find(|call| second.is_below(call)).unwrap();
        let first =
            named(&seen, "router.route_request").into_iter().find(|one| one.is_below(call) && one.is_error()).unwrap();
        assert_eq!(first.get("request.outcome").as_deref(), Some("connection_failed"));
        assert_eq!(
            (first.get("worker_id").as_deref(), first.get("error.type").as_deref()),
            (Some("7"), Some("cannot_connect"))
        );
        assert_eq!(second.span.links.iter().map(|link| &link.span_id).collect::<Vec<_>>(), [&first.span.span_id]);
        assert_eq!(
            (call.get("request.attempts").as_deref(), call.get("request.outcome").as_deref()),
            (Some("2"), Some("success"))
        );
        assert!(named(&seen, "handle_payload").iter().any(|one| one.is_below(second)), "{seen:#?}");
        drop(registered);
        end_client(client).await;
        end_worker(worker).await;
    });
}

#[test]
fn a_call_made_again_beside_or_after_another_is_in_its_trace() {
    both(async |driver| {
        let (collector, place) = (Collector::grpc().await, place());
        let telemetry = telemetry(&collector, otlp::Sampling::default());
        let count = |mut request: Request, out: Responder| async move {
            let first: u32 = String::from_utf8_lossy(&request.body().await?).parse().unwrap_or_default();
            if first == 0 {
                out.send("0").await?;
                out.cancelled().await;
            }
            out.send("1").await?;
            Ok::<_, Failure>(())
        };
        // Only the second copy is answered.
        let second = |request: Request, out: Responder| async move {
            if request.attempt() == 1 {
                out.cancelled().await;
            }
            Ok::<_, Failure>(())
        };
        let builder = || Worker::builder().endpoint(OUTER, count);
        let lost = serve(builder(), &place, driver, &telemetry).await;
        let client = client(&place, driver, &telemetry);
        let resume = KeepAll::new(|request: &CallRequest, _: &[_]| Onward::Request(request.clone().with_body("1")));
        let mut call = client.call_migrating(CallRequest::new(OUTER, "0"), MigrationConfig::default(), resume).unwrap();
        assert_eq!(call.next().await.unwrap().unwrap(), "0");
        let other = serve(builder().endpoint(INNER, second), &place, driver, &telemetry).await;
        // Its calls end at once.
        let left = lost.instance_id().0.to_string();
        drop(lost);
        assert_eq!(call.collect().await.unwrap(), ["1"]);

        let hedge = Hedge::new(HedgeConfig { slow: Slow::After(Duration::from_millis(1)), share: 100 });
        let waiting = serve(Worker::builder().endpoint(INNER, second), &place, driver, &telemetry).await;
        // A second call ends where there is no other instance to go to.
        while client.instances(INNER).await.unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let hedged = client.call_hedged(CallRequest::new(INNER, "x"), &hedge).unwrap();
        assert!(hedged.collect().await.unwrap().is_empty());

        let seen = collector.spans(|seen| named(seen, "client_request").len() == 4).await;
        for (endpoint, migrated) in [(OUTER, true), (INNER, false)] {
            let calls: Vec<&Seen> = named(&seen, "client_request")
                .into_iter()
                .filter(|one| one.get("operation").as_deref() == Some(endpoint))
                .collect();
            let root = calls.iter().find(|call| call.span.parent_span_id.is_empty()).unwrap();
            let again = calls.iter().find(|call| call.is_below(root)).unwrap_or_else(|| panic!("{seen:#?}"));
            assert_eq!(again.span.links[0].span_id, root.span.span_id);
            let retry = named(&seen, "router.route_request").into_iter().find(|one| one.is_below(again)).unwrap();
            assert_eq!(retry.get("migration.is_retry"), Some(migrated.to_string()));
            let broken = named(&seen, "router.route_request").into_iter().find(|one| one.is_below(root)).unwrap();
            let why = (retry.get("migration.from_worker_id"), retry.get("migration.reason"));
            let expected = (Some(left.clone()), broken.get("error.type"));
            assert_eq!(why, if migrated { expected } else { (None, None) }, "{seen:#?}");
            assert!(!migrated || broken.is_error(), "{broken:#?}");
        }
        end_client(client).await;
        for worker in [other, waiting] {
            end_worker(worker).await;
        }
    });
}
