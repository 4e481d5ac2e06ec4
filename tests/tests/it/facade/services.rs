//! Services of NATS on a real server: what replicas say of themselves, and workers whose requests come by NATS among them.

use std::time::{Duration, Instant};

use ringplane::nats::Connection;
use ringplane::service::{self, Ask, Config, Endpoint, Error, Service};
use ringplane::{CallRequest, Client, DriverChoice, Request, Responder, Worker, nats, request};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::facade::queue::{connect, with_server};

/// Longer than anything that is bound to come takes.
const LONG: Duration = Duration::from_secs(30);

fn all(replicas: usize) -> Ask {
    Ask { deadline: LONG, replicas: Some(replicas), ..Ask::default() }
}

async fn replica(connection: &Connection, name: &str) -> Result<Service, Error> {
    let endpoint = Endpoint {
        name: "generate".to_owned(),
        subject: "ns_backend.generate-1".to_owned(),
        queue_group: "q".to_owned(),
        ..Endpoint::default()
    };
    let config = Config {
        name: name.to_owned(),
        version: "1.2.3".to_owned(),
        description: "for tests".to_owned(),
        endpoints: vec![endpoint],
        ..Config::default()
    };
    Service::start(connection, config).await
}

/// Asks by the protocol of NATS alone, as any client does, and answers the first reply.
async fn asked_by_hand(address: &str, subject: &str) -> Value {
    let mut stream = BufReader::new(TcpStream::connect(address.trim_start_matches("nats://")).await.unwrap());
    let question = format!("CONNECT {{\"verbose\":false}}\r\nSUB _INBOX.hand 1\r\nPUB {subject} _INBOX.hand 0\r\n\r\n");
    stream.get_mut().write_all(question.as_bytes()).await.unwrap();
    let mut line = String::new();
    while !line.starts_with("MSG _INBOX.hand 1 ") {
        line.clear();
        assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "the server ends the connection");
    }
    line.clear();
    stream.read_line(&mut line).await.unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn replicas_are_found_described_and_counted() {
    with_server(async |server| {
        let connection = connect(server.address()).await;
        let (one, two) =
            (replica(&connection, "ns_backend").await.unwrap(), replica(&connection, "ns_backend").await.unwrap());
        let other = replica(&connection, "ns_other").await.unwrap();
        let tally = one.tally(0).unwrap();
        tally.count(Duration::from_micros(10), None);
        tally.count(Duration::from_micros(30), Some("it is too late"));
        let name = Some("ns_backend");
        let stats = service::stats(&connection, name, all(2)).await.unwrap();
        assert_eq!((stats.replicas.len(), stats.unreadable), (2, 0));
        let mine = stats.replicas.iter().find(|replica| replica.id == one.id()).unwrap();
        let [endpoint] = &mine.endpoints[..] else { panic!("{mine:?}") };
        assert_eq!((endpoint.num_requests, endpoint.num_errors, endpoint.average_processing_time), (2, 1, 20_000));
        assert_eq!((&*endpoint.last_error, &*endpoint.queue_group), ("it is too late", "q"));
        let info = service::info(&connection, name, all(2)).await.unwrap();
        assert!(info.replicas.iter().all(|info| info.description == "for tests" && info.version == "1.2.3"));
        assert_eq!(info.replicas.len(), 2);
        // Without a number of replicas the deadline ends it.
        let (brief, begun) = (Duration::from_millis(100), Instant::now());
        let ask = Ask { deadline: brief, ..Ask::default() };
        assert!(service::ping(&connection, name, ask).await.unwrap().replicas.len() <= 2 && begun.elapsed() >= brief);
        assert_eq!(service::ping(&connection, None, all(3)).await.unwrap().replicas.len(), 3, "of all services");
        // Where nobody is, nobody is waited for.
        let begun = Instant::now();
        let nobody =
            service::ping(&connection, Some("nobody"), Ask { deadline: LONG, ..Ask::default() }).await.unwrap();
        assert!(nobody.replicas.is_empty() && begun.elapsed() < LONG);
        let by_hand = asked_by_hand(server.address(), "$SRV.PING.ns_other").await;
        let expected = json!({
            "type": "io.nats.micro.v1.ping_response",
            "name": "ns_other",
            "id": other.id(),
            "version": "1.2.3",
            "metadata": {},
        });
        assert_eq!(by_hand, expected);
        let by_hand = asked_by_hand(server.address(), &format!("$SRV.STATS.ns_other.{}", other.id())).await;
        assert_eq!(by_hand["endpoints"][0]["num_requests"], 0);
        // One that is dropped answers nothing any more.
        drop(two);
        while service::ping(&connection, name, ask).await.unwrap().replicas.len() > 1 {}
        let refused = replica(&connection, "no.name").await.unwrap_err();
        assert!(matches!(&refused, Error::Name(name) if name == "no.name"), "{refused}");
        let refused = service::ping(&connection, Some("a b"), ask).await.unwrap_err();
        assert!(matches!(refused, Error::Name(_)), "{refused}");
    });
}

#[test]
fn the_workers_of_a_component_are_replicas_of_a_service() {
    with_server(async |server| {
        let place = "mem:nats-services";
        let address = server.address().to_owned();
        let servers = vec![address.clone()];
        let plane = nats::Config { servers, login: nats::Login::Anonymous, ..nats::Config::default() };
        let plane = request::nats::Config::from(plane);
        let serve = || {
            let echo = async |mut request: Request, out: Responder| Ok(out.send(request.body().await?).await?);
            let config = ringplane::Config { driver: DriverChoice::Tokio, ..ringplane::Config::default() };
            let builder = Worker::builder().endpoint("Ns.backend.echo", echo).endpoint("Ns.backend.more", echo);
            builder.request_plane(plane.clone()).discovery(place).config(config).serve()
        };
        let (one, two) = (serve().await.unwrap(), serve().await.unwrap());
        let client = Client::builder().discovery(place).carrier(plane.clone()).connect().unwrap();
        for _ in 0..10 {
            let mut call = client.call(CallRequest::new("Ns.backend.echo", "x")).unwrap();
            while let Some(item) = call.next().await {
                item.unwrap();
            }
        }
        let connection = connect(&address).await;
        let name = service::service_name("Ns", "backend");
        assert_eq!(name, "ns_backend");
        let stats = service::stats(&connection, Some(&name), all(2)).await.unwrap();
        let endpoints: Vec<_> = stats.replicas.iter().flat_map(|replica| &replica.endpoints).collect();
        assert_eq!(endpoints.len(), 4, "{stats:?}");
        assert_eq!(endpoints.iter().map(|endpoint| endpoint.num_requests).sum::<u64>(), 10);
        assert!(
            endpoints.iter().all(|endpoint| endpoint.subject.starts_with("ns_backend.") && endpoint.num_errors == 0)
        );
        assert!(endpoints.iter().all(|endpoint| endpoint.name == endpoint.subject.replace('.', "-")));
        one.shutdown().await;
        let ask = Ask { deadline: Duration::from_millis(100), ..Ask::default() };
        while service::ping(&connection, Some(&name), ask).await.unwrap().replicas.len() > 1 {}
        two.shutdown().await;
    });
}
