//! Workers at known addresses, without a registry: found by being asked, and gone when they leave.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringplane::discovery::{self, Backend, Error};
use ringplane::{CallError, CallRequest, DriverChoice, EndpointId, Failure, InstanceId, Request, Responder, Worker};
use ringplane_core::discovery::Model;
use ringplane_core::discovery::card::Card;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;

use crate::facade::support::{both, connect, end, end_client, end_worker, on, place, runtime, serve, until_worker};

const ECHO: &str = "test.hosts.echo";
const OTHER: &str = "test.hosts.other";

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(request.body().await?).await?)
}

async fn list(backend: &dyn Backend) -> Vec<Instance> {
    backend.endpoints().list(Query::All).await.unwrap()
}

/// Waits until exactly these instances are found, whatever their order.
async fn until_found(backend: &dyn Backend, expected: &[(&str, InstanceId, SocketAddr)]) {
    let mut expected: Vec<_> = expected.iter().map(|(name, id, addr)| ((*name).to_owned(), *id, *addr)).collect();
    expected.sort();
    let begun = Instant::now();
    loop {
        let found = list(backend).await.into_iter().map(|one| (one.endpoint.to_string(), one.id, one.addr));
        let mut found: Vec<_> = found.collect();
        found.sort();
        if found == expected {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{found:?} instead of {expected:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a scenario on one driver: who asks is none.
fn on_tokio(scenario: impl AsyncFn(DriverChoice)) {
    runtime().block_on(scenario(DriverChoice::Tokio));
}

#[test]
fn workers_are_asked_what_they_serve_and_gone_with_their_last_word() {
    both(async |driver| {
        let one = serve(Worker::builder().endpoint(ECHO, echo).endpoint(OTHER, echo), &place(), on(driver)).await;
        let two = serve(Worker::builder().endpoint(ECHO, echo), &place(), on(driver)).await;
        let url = format!("static:{},{}", one.addr(), two.addr());
        let backend = discovery::open(&url).unwrap();
        let first = (ECHO, one.instance_id(), one.addr());
        let (other, second) = ((OTHER, first.1, first.2), (ECHO, two.instance_id(), two.addr()));
        until_found(&*backend, &[first, other, second]).await;
        let client = connect(&url, on(driver));
        for name in [ECHO, OTHER, ECHO] {
            assert_eq!(client.call(CallRequest::new(name, "x")).unwrap().collect().await.unwrap(), ["x"]);
        }
        end_worker(two).await;
        until_found(&*backend, &[first, other]).await;
        // Another one in its place.
        let builder = Worker::builder().endpoint(OTHER, echo).listen(second.2);
        let two = serve(builder, &place(), on(driver)).await;
        until_found(&*backend, &[first, other, (OTHER, two.instance_id(), second.2)]).await;
        assert_eq!(client.call(CallRequest::new(ECHO, "y")).unwrap().collect().await.unwrap(), ["y"]);
        end(one, client).await;
        end_worker(two).await;
    });
}

#[test]
fn a_name_stands_for_all_of_its_addresses_and_a_worker_that_only_listens_elsewhere_is_none() {
    on_tokio(async |driver| {
        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place(), on(driver)).await;
        // `localhost` may be `::1` as well, where nobody listens.
        let url = format!("dns:localhost:{}", worker.addr().port());
        let backend = discovery::open(&url).unwrap();
        until_found(&*backend, &[(ECHO, worker.instance_id(), worker.addr())]).await;
        let client = connect(&url, on(driver));
        assert_eq!(client.call(CallRequest::new(ECHO, "x")).unwrap().collect().await.unwrap(), ["x"]);
        end(worker, client).await;
        until_found(&*backend, &[]).await;
    });
}

#[test]
fn whoever_does_not_answer_the_question_is_no_instance() {
    on_tokio(async |driver| {
        // One that closes, one that says nothing at all, one that nobody listens on, and a name that nobody has.
        let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let addr = closing.local_addr().unwrap();
        let closes = tokio::spawn(async move { while closing.accept().await.is_ok() {} });
        let url = format!("static:{addr},{},{free},no..body:7", silent.local_addr().unwrap());
        let client = connect(&url, on(driver));
        let request = CallRequest::new(ECHO, "x").with_timeout(Duration::from_secs(1));
        assert_eq!(client.call(request).unwrap().collect().await, Err(CallError::NoInstances));
        let backend = discovery::open(&url).unwrap();
        assert_eq!(list(&*backend).await, []);
        end_client(client).await;
        closes.abort();
    });
}

#[test]
fn a_worker_with_no_room_for_calls_stays_in_sight() {
    on_tokio(async |driver| {
        let mut config = on(driver);
        config.worker.max_running = 1;
        let hold = |_: Request, out: Responder| async move {
            out.send("begun").await?;
            out.cancelled().await;
            Ok(())
        };
        let worker = serve(Worker::builder().endpoint(ECHO, hold), &place(), config).await;
        let url = format!("static:{}", worker.addr());
        let backend = discovery::open(&url).unwrap();
        let here = (ECHO, worker.instance_id(), worker.addr());
        until_found(&*backend, &[here]).await;
        let client = connect(&url, on(driver));
        let mut call = client.call(CallRequest::new(ECHO, "x")).unwrap();
        assert_eq!(call.next().await.unwrap().unwrap(), "begun");
        // The next question waits behind the call; the one after that is not put before it is answered.
        until_worker("a question waits", &worker, |now| now.worker.jobs > 1).await;
        assert_eq!(list(&*backend).await.len(), 1);
        call.kill();
        drop(call);
        end(worker, client).await;
    });
}

#[test]
fn a_place_without_a_registry_keeps_nothing() {
    on_tokio(async |driver| {
        // What a worker registers there, it answers for itself.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let url = format!("static:{addr}");
        let worker = serve(Worker::builder().endpoint(ECHO, echo).listen(addr), &url, on(driver)).await;
        let backend = discovery::open(&url).unwrap();
        until_found(&*backend, &[(ECHO, worker.instance_id(), addr)]).await;
        let card = Card::new(r#"{"display_name":"m","source_path":"x"}"#).unwrap();
        let model = Model { endpoint: EndpointId::parse(ECHO).unwrap(), id: worker.instance_id(), suffix: None, card };
        let refused = backend.models().register(model).await.map(drop);
        assert!(matches!(refused, Err(Error::NotKept { kind: "v1/mdc" })), "{refused:?}");
        assert_eq!(backend.models().list(Query::All).await.unwrap(), []);
        drop(backend);
        end_worker(worker).await;
    });
}
