//! Metrics: what a scripted load did is told exactly, by what is there and of what is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ringplane::observe::{Format, Metrics};
use ringplane::{CallError, CallRequest, Client, Config, DriverChoice, Failure, Request, Responder, Worker};

use crate::facade::support::{all, end_client, end_worker, on, place, runtime, until_worker};

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

async fn pair(metrics: &Metrics, driver: DriverChoice) -> (Worker, Client) {
    let place = place();
    let builder = Worker::builder().endpoint("m.c.count", count).endpoint("m.c.linger", linger);
    let builder = builder.endpoint("m.c.refuse", refuse).discovery(&place).config(on(driver));
    let worker = builder.metrics(metrics).serve().await.unwrap();
    let config = Config { cores: 2, ..on(driver) };
    (worker, Client::builder().discovery(&place).config(config).metrics(metrics).connect().unwrap())
}

#[test]
fn what_a_scripted_load_did_is_told_exactly_and_stays_told_when_its_client_is_gone() {
    const STREAMS: u64 = 20;
    const ITEMS: u64 = 7;
    all(async |driver| {
        let metrics = Metrics::new();
        let (worker, client) = pair(&metrics, driver).await;
        for _ in 0..STREAMS {
            let body = vec![0; ITEMS as usize];
            let items = client.call(CallRequest::new("m.c.count", body)).unwrap().collect().await.unwrap();
            assert_eq!(items.len() as u64, ITEMS);
        }
        for _ in 0..3 {
            let refused = client.call(CallRequest::new("m.c.refuse", "")).unwrap().collect().await;
            assert!(matches!(refused, Err(CallError::Failed { .. })), "{refused:?}");
        }
        for _ in 0..2 {
            let late = CallRequest::new("m.c.linger", "").with_timeout(Duration::from_millis(20));
            let late = client.call(late).unwrap().collect().await;
            assert_eq!(late, Err(CallError::DeadlineExceeded));
        }
        for _ in 0..4 {
            let mut call = client.call(CallRequest::new("m.c.linger", "")).unwrap();
            assert_eq!(call.next().await.unwrap().unwrap(), "item");
        }
        until_worker("all have ended", &worker, |snapshot| snapshot.worker.jobs == 0).await;
        let held = scrape(&metrics).await;
        let counted = [
            ("ringplane_called_calls_total", STREAMS + 3 + 2 + 4),
            ("ringplane_called_succeeded_total", STREAMS),
            ("ringplane_called_retries_total", 0),
            ("ringplane_served_admitted_total", STREAMS + 3 + 2 + 4),
        ];
        assert_values(&held, &counted);
        let stopped = value(&held, "ringplane_served_cancelled_total") + value(&held, "ringplane_served_expired_total");
        assert_eq!(stopped, 2 + 4);
        let name = worker.driver().name;
        assert_values(
            &held,
            &[
                ("ringplane_silent_threads", 0),
                ("ringplane_worker_jobs", 0),
                (&format!("ringplane_threads{{driver=\"{name}\"}}"), 3),
                ("ringplane_instances{endpoint=\"m.c.count\",state=\"routable\"}", 1),
            ],
        );
        let at = format!(
            "ringplane_instance_calls{{endpoint=\"m.c.linger\",instance=\"{}\",dialect=\"mux\"}}",
            worker.instance_id()
        );
        assert_values(&held, &[(&at, 0)]);
        end_client(client).await;
        let gone = scrape(&metrics).await;
        assert_values(&gone, &counted);
        assert_values(
            &gone,
            &[("ringplane_caller_connections", 0), (&format!("ringplane_threads{{driver=\"{name}\"}}"), 1)],
        );
        assert!(!gone.contains_key(&at));
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
