//! Requests that go by NATS or HTTP, as a user of the facade meets them. The scenarios are those of the interop tests.

use ringplane::{
    CallError, CallRequest, Codec, Error, Failure, Request, RequestPlane, Responder, Worker, discovery, nats, request,
};
use ringplane_core::caller::error::Missing;
use ringplane_core::chain::Chain;
use ringplane_core::discovery::instance::{Instance, Transport};
use ringplane_core::id::{EndpointId, InstanceId};

use crate::facade::support::{both, connect, end_client, end_worker, on, place, serve};

const ECHO: &str = "planes.facade.echo";

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    let body = request.body().await?;
    Ok(out.send(body).await?)
}

fn by_http() -> RequestPlane {
    request::http::Config::default().into()
}

#[test]
fn a_worker_by_http_serves_and_its_own_client_calls_it_so() {
    both(async |driver| {
        let place = place();
        let worker = serve(Worker::builder().endpoint(ECHO, echo).request_plane(by_http()), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        for caller in [client.clone(), worker.client().unwrap()] {
            let answer = caller.call(CallRequest::new(ECHO, "x")).unwrap().collect().await;
            assert_eq!(answer.unwrap(), ["x"]);
            assert_eq!(caller.snapshot().await.unwrap().called.sent_home, 1);
        }
        end_client(client).await;
        end_worker(worker).await;
    });
}

#[test]
fn a_request_by_http_may_be_as_large_as_one_over_tcp() {
    both(async |driver| {
        let call = async |body: usize| {
            let mut config = on(driver);
            config.worker.requests.max_message = 10_000;
            let place = place();
            let length = async |mut request: Request, out: Responder| {
                let length = request.body().await?.len();
                Ok::<_, Failure>(out.send(format!("{:?}", length.to_string())).await?)
            };
            let builder = Worker::builder().endpoint(ECHO, length).codec(Codec::Json).request_plane(by_http());
            let worker = serve(builder, &place, config).await;
            let client = connect(&place, on(driver));
            let answer = client.call(CallRequest::new(ECHO, vec![7; body])).unwrap().collect().await;
            end_client(client).await;
            end_worker(worker).await;
            answer.map_err(|error| Chain(&error).to_string())
        };
        assert_eq!(call(9_000).await.unwrap(), ["\"9000\""]);
        let refused = call(11_000).await.unwrap_err();
        // By its length alone: a core would have named that.
        assert!(refused.contains("message too large (max: 10000 bytes) (instance "), "{refused}");
    });
}

#[test]
fn two_endpoints_whose_urls_are_one_are_refused_at_the_start() {
    both(async |driver| {
        let builder = Worker::builder().endpoint(ECHO, echo).endpoint("planes.other.echo", echo);
        let refused = builder.request_plane(by_http()).discovery(place()).config(on(driver)).serve().await;
        assert!(matches!(refused, Err(Error::RequestPlane(request::Error::Ambiguous { name, .. })) if name == "echo"));
    });
}

#[test]
fn a_caller_without_a_nats_server_says_so_at_once_and_uses_whom_it_can_reach() {
    both(async |driver| {
        let place = place();
        let mut behind = Instance::new(InstanceId(7), EndpointId::parse(ECHO).unwrap(), ([0, 0, 0, 0], 0).into());
        behind.transport = Transport::Nats("planes_facade.echo-7".to_owned());
        let registration = discovery::open(&place).unwrap().endpoints().register(behind).await.unwrap();
        let client = connect(&place, on(driver));
        let lost = client.call(CallRequest::new(ECHO, "x")).unwrap().collect().await.unwrap_err();
        assert_eq!(lost, CallError::NotEquipped { transport: "nats", missing: Missing::Configuration });

        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place, on(driver)).await;
        let answer = || async { client.call(CallRequest::new(ECHO, "x")).unwrap().collect().await };
        // The test's own bound ends this.
        while answer().await.is_err() {}
        for _ in 0..10 {
            assert_eq!(answer().await.unwrap(), ["x"]);
        }
        registration.unregister().await.unwrap();
        end_client(client).await;
        end_worker(worker).await;
    });
}

#[test]
fn a_nats_server_that_is_not_there_is_named_and_the_call_was_not_delivered() {
    both(async |driver| {
        let place = place();
        let mut behind = Instance::new(InstanceId(7), EndpointId::parse(ECHO).unwrap(), ([0, 0, 0, 0], 0).into());
        behind.transport = Transport::Nats("planes_facade.echo-7".to_owned());
        let _registration = discovery::open(&place).unwrap().endpoints().register(behind).await.unwrap();
        // A port that nobody listens on once this is dropped.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let connect = std::time::Duration::from_millis(200);
        let server = nats::Config { servers: vec![free.to_string()], connect, ..nats::Config::default() };
        let server = request::nats::Config::from(server);
        let client =
            ringplane::Client::builder().discovery(&place).carrier(server).config(on(driver)).connect().unwrap();
        let lost = client.call(CallRequest::new(ECHO, "x")).unwrap().collect().await.unwrap_err();
        assert_eq!(Chain(&lost).to_string(), "the worker cannot be reached: no connection to the broker");
        assert!(lost.is_retryable());
        end_client(client).await;
    });
}
