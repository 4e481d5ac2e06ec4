//! Metrics: what a scripted load did is told exactly, by what is there and of what is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ringplane::observe::{Format, Metrics};
use ringplane::{
    CallError, CallErrorKind, CallRequest, Client, Config, DriverChoice, Failure, Request, Responder, Snapshot, Worker,
};

use crate::facade::support::{all, both, end_client, end_worker, on, place, runtime, until_client, until_worker};

/// The values of one scrape by series, as they are written.
type Scrape = BTreeMap<String, f64>;

async fn scrape(metrics: &Metrics) -> Scrape {
    let text = metrics.text(Format::Prometheus).await;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}")));
    series.map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect()
}

fn value(scrape: &Scrape, series: &str) -> u64 {
    let value = scrape.get(series).unwrap_or_else(|| panic!("no {series} in {:?}", scrape.keys()));
    *value as u64
}

fn assert_values(scrape: &Scrape, expected: &[(&str, u64)]) {
    for (series, count) in expected {
        assert_eq!(value(scrape, series), *count, "{series}");
    }
}

/// As many items as the request says.
async fn count(mut request: Request, out: Responder) -> Result<(), Failure> {
    let items = request.body().await?.len();
    for _ in 0..items {
        out.send("item").await?;
    }
    Ok(())
}

/// One item, and nothing more until nobody wants it.
async fn linger(_: Request, out: Responder) -> Result<(), Failure> {
    out.send("item").await?;
    out.cancelled().await;
    Ok(())
}

async fn refuse(_: Request, _: Responder) -> Result<(), Failure> {
    Err(Failure::invalid("no"))
}

fn call(endpoint: &str, outcome: &str) -> String {
    format!("ringplane_call_duration_seconds_count{{endpoint=\"m.c.{endpoint}\",outcome=\"{outcome}\"}}")
}

fn stage(endpoint: &str, stage: &str) -> String {
    format!("ringplane_call_stage_seconds_count{{endpoint=\"m.c.{endpoint}\",stage=\"{stage}\"}}")
}

fn request(endpoint: &str, outcome: &str) -> String {
    format!("ringplane_request_duration_seconds_count{{endpoint=\"m.c.{endpoint}\",outcome=\"{outcome}\"}}")
}

const STREAMS: u64 = 20;
const ITEMS: u64 = 7;

/// A worker and a client.
async fn pair(metrics: &Metrics, driver: DriverChoice) -> (Worker, Client) {
    let place = place();
    let builder = Worker::builder().endpoint("m.c.count", count).endpoint("m.c.linger", linger);
    let builder = builder.endpoint("m.c.refuse", refuse).discovery(&place).config(on(driver));
    let worker = builder.metrics(metrics).serve().await.unwrap();
    let config = Config { cores: 2, ..on(driver) };
    (worker, Client::builder().discovery(&place).config(config).metrics(metrics).connect().unwrap())
}

/// Calls that end by themselves, and what is told of them.
async fn whole_calls(metrics: &Metrics, worker: &Worker, client: &Client) {
    for _ in 0..STREAMS {
        let body = vec![0; ITEMS as usize];
        let items = client.call(CallRequest::new("m.c.count", body)).unwrap().collect().await.unwrap();
        assert_eq!(items.len() as u64, ITEMS);
    }
    for _ in 0..3 {
        let refused = client.call(CallRequest::new("m.c.refuse", "")).unwrap().collect().await;
        assert!(matches!(refused, Err(CallError::Failed { .. })), "{refused:?}");
    }
    until_worker("all have ended", worker, |snapshot| snapshot.worker.jobs == 0).await;
    let id = worker.instance_id();
    let dynamo = |endpoint: &str| {
        format!("dynamo_namespace=\"m\",dynamo_component=\"c\",dynamo_endpoint=\"{endpoint}\",worker_id=\"{id}\"")
    };
    let counted = [
        ("ringplane_called_calls_total", STREAMS + 3),
        ("ringplane_called_succeeded_total", STREAMS),
        ("ringplane_called_failed_total", 3),
        ("ringplane_called_retries_total", 0),
        ("ringplane_served_admitted_total", STREAMS + 3),
        // Each request is an item too.
        ("ringplane_mux_items_out_total", STREAMS + 3 + STREAMS * ITEMS),
        ("ringplane_mux_items_in_total", STREAMS + 3 + STREAMS * ITEMS),
        (&call("count", "ok"), STREAMS),
        (&call("refuse", "handler"), 3),
        (&stage("count", "queue"), STREAMS),
        (&stage("count", "connect"), STREAMS),
        (&stage("count", "send"), STREAMS),
        (&stage("count", "first_item"), STREAMS),
        (&request("count", "ok"), STREAMS),
        (&request("refuse", "handler"), 3),
        ("dynamo_work_handler_permit_wait_seconds_count", STREAMS + 3),
        (&format!("dynamo_component_requests_total{{{}}}", dynamo("count")), STREAMS),
        (&format!("dynamo_component_errors_total{{{},error_type=\"generate\"}}", dynamo("refuse")), 3),
    ];
    assert_values(&scrape(metrics).await, &counted);
}

#[test]
fn what_a_scripted_load_did_is_told_exactly_and_stays_told_when_its_client_is_gone() {
    all(async |driver| {
        let metrics = Metrics::new();
        let (worker, client) = pair(&metrics, driver).await;
        whole_calls(&metrics, &worker, &client).await;
        for _ in 0..4 {
            let mut call = client.call(CallRequest::new("m.c.linger", "")).unwrap();
            assert_eq!(call.next().await.unwrap().unwrap(), "item");
        }
        until_worker("all have ended", &worker, |snapshot| snapshot.worker.jobs == 0).await;
        let (held, name) = (scrape(&metrics).await, worker.driver().name);
        let threads = format!("ringplane_threads{{driver=\"{name}\"}}");
        let id = worker.instance_id();
        let at = format!("ringplane_instance_calls{{endpoint=\"m.c.linger\",instance_id=\"{id}\",dialect=\"mux\"}}");
        assert_values(
            &held,
            &[
                (&call("linger", "cancelled"), 4),
                (&request("linger", "cancelled"), 4),
                ("ringplane_served_cancelled_total", 4),
                ("ringplane_requests_running{endpoint=\"m.c.linger\"}", 0),
                ("ringplane_silent_threads", 0),
                (&threads, 3),
                ("ringplane_instances{endpoint=\"m.c.count\",state=\"routable\"}", 1),
                (&at, 0),
            ],
        );
        // When such a call ends, and by whom, is a matter of time; what its caller hears is counted.
        let mut heard = BTreeMap::<String, u64>::new();
        for _ in 0..2 {
            let late = CallRequest::new("m.c.linger", "").with_timeout(Duration::from_millis(20));
            let error = client.call(late).unwrap().collect().await.unwrap_err();
            let outcome = if error.kind() == CallErrorKind::TimedOut { "timed_out" } else { "handler" };
            *heard.entry(call("linger", outcome)).or_default() += 1;
        }
        until_client("the client holds nothing", &client, Snapshot::is_idle).await;
        // What a client counts after the last scrape is not told any more once it is gone.
        let last = scrape(&metrics).await;
        assert_values(&last, &[("ringplane_called_calls_total", STREAMS + 3 + 4 + 2), (&threads, 3)]);
        end_client(client).await;
        until_worker("all have ended", &worker, Snapshot::is_idle).await;
        let gone = scrape(&metrics).await;
        heard.iter().for_each(|(series, count)| assert_eq!(value(&gone, series), *count, "{series}"));
        // A late call is admitted or not, and one that is may end before its handler is polled. It has waited all the same.
        let admitted = value(&gone, "ringplane_served_admitted_total");
        assert_values(
            &gone,
            &[
                ("ringplane_called_calls_total", STREAMS + 3 + 4 + 2),
                (&call("count", "ok"), STREAMS),
                (&call("linger", "cancelled"), 4),
                ("ringplane_request_wait_seconds_count{endpoint=\"m.c.linger\"}", admitted - STREAMS - 3),
                ("ringplane_caller_connections", 0),
                (&threads, 1),
            ],
        );
        assert!(!gone.contains_key(&at));
        let ended = |series: &&String| series.starts_with("ringplane_request_duration_seconds_count");
        let ended: f64 = gone.keys().filter(ended).map(|series| gone[series]).sum();
        assert_eq!(ended as u64, admitted);
        end_worker(worker).await;
    });
}

#[test]
fn refusals_are_told_by_both_sides_and_what_runs_while_it_runs() {
    both(async |driver| {
        let (metrics, place) = (Metrics::new(), place());
        let mut config = on(driver);
        (config.worker.max_running, config.worker.max_queued) = (1, 0);
        let builder = Worker::builder().endpoint("m.c.linger", linger).discovery(&place).config(config);
        let worker = builder.metrics(&metrics).serve().await.unwrap();
        let client = Client::builder().discovery(&place).config(on(driver)).metrics(&metrics).connect().unwrap();
        let mut held = client.call(CallRequest::new("m.c.linger", "")).unwrap();
        held.next().await.unwrap().unwrap();
        let mut tries = 0;
        for _ in 0..3 {
            let mut refused = client.call(CallRequest::new("m.c.linger", "")).unwrap();
            let outcome = refused.next().await.unwrap();
            assert!(matches!(&outcome, Err(error) if error.kind() == CallErrorKind::NoRoom), "{outcome:?}");
            tries += u64::from(refused.attempts());
        }
        let now = scrape(&metrics).await;
        assert_values(
            &now,
            &[
                (&call("linger", "no_room"), 3),
                ("ringplane_served_overloaded_total", tries),
                ("ringplane_called_retries_total", tries - 3),
                ("ringplane_worker_running", 1),
                ("ringplane_worker_waiting", 0),
                ("ringplane_caller_calls", 1),
                ("ringplane_requests_running{endpoint=\"m.c.linger\"}", 1),
            ],
        );
        drop(held);
        end_client(client).await;
        end_worker(worker).await;
    });
}

#[test]
fn a_thread_that_is_held_counts_with_what_it_said_before() {
    runtime().block_on(async {
        let metrics = Metrics::new();
        let (let_go, held) = mpsc::channel::<()>();
        let (held, (tell, mut blocked)) = (Arc::new(Mutex::new(held)), tokio::sync::mpsc::channel::<()>(1));
        let block = move |_: Request, _: Responder| {
            let (held, tell) = (held.clone(), tell.clone());
            async move {
                let _ = tell.try_send(());
                // What a handler must not do.
                let _ = held.lock().unwrap().recv();
                Ok::<_, Failure>(())
            }
        };
        let (place, config) = (place(), on(DriverChoice::Tokio));
        let builder = Worker::builder().endpoint("m.c.block", block).discovery(&place).config(config.clone());
        let worker = builder.metrics(&metrics).serve().await.unwrap();
        let client = Client::builder().discovery(&place).config(config).metrics(&metrics).connect().unwrap();
        assert_values(&scrape(&metrics).await, &[("ringplane_silent_threads", 0)]);
        let call = client.call(CallRequest::new("m.c.block", "")).unwrap();
        blocked.recv().await.unwrap();
        let now = scrape(&metrics).await;
        assert_values(&now, &[("ringplane_silent_threads", 1), ("ringplane_called_calls_total", 1)]);
        assert_values(&now, &[("ringplane_served_admitted_total", 0)]);
        let_go.send(()).unwrap();
        call.collect().await.unwrap();
        let now = scrape(&metrics).await;
        assert_values(&now, &[("ringplane_silent_threads", 0), ("ringplane_served_admitted_total", 1)]);
        end_client(client).await;
        end_worker(worker).await;
    });
}
