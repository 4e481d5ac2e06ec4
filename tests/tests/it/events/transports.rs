//! The transports that the suite runs on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use ringplane::events::{Events, MuxConfig, NatsConfig, PublisherId, Scope, Subject};
use ringplane::{Config, DriverChoice, nats};
use ringplane_servers::nats::NatsServer;
use ringplane_tokio::event::{InProc, Nats, Transport};

use super::zmq;

/// A publisher's end and a subscriber's, which meet.
pub(super) struct Ends {
    pub(super) publishing: Arc<dyn Transport>,
    pub(super) listening: Arc<dyn Transport>,
}

/// Runs a check on each transport.
pub(super) async fn each_transport<F: Future<Output = ()>>(check: impl Fn(Ends) -> F) {
    check(in_process()).await;
    if let Some(ends) = by_nats().await {
        check(ends).await;
    }
    check(over_mux().await).await;
    for transport in [zmq::direct(), zmq::through_a_broker().await] {
        check(Ends { publishing: transport.clone(), listening: transport }).await;
    }
}

fn in_process() -> Ends {
    let place = Arc::new(InProc::new());
    Ends { publishing: place.clone(), listening: place }
}

/// The server that all tests share, or why there is none.
pub(super) fn server() -> Option<String> {
    static SERVER: OnceLock<Result<NatsServer, String>> = OnceLock::new();
    match SERVER.get_or_init(NatsServer::start) {
        Ok(server) => Some(server.address().to_owned()),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no NATS server: {why}");
            eprintln!("no NATS server: {why}; nothing is tested by it");
            None
        }
    }
}

/// What reaches a server of tests.
pub(super) fn nats_at(address: &str) -> NatsConfig {
    nats::Config { servers: vec![format!("nats://{address}")], ..nats::Config::default() }.into()
}

async fn by_nats() -> Option<Ends> {
    let config = nats_at(&server()?);
    let (publishing, listening) = (Nats::connect(&config).await.unwrap(), Nats::connect(&config).await.unwrap());
    Some(Ends { publishing: Arc::new(publishing), listening: Arc::new(listening) })
}

async fn over_mux() -> Ends {
    static PLACES: AtomicUsize = AtomicUsize::new(0);
    let place = format!("mem:events-{}", PLACES.fetch_add(1, Ordering::Relaxed));
    let open = async || {
        let config = Config { driver: DriverChoice::Tokio, ..Config::default() };
        let plane = MuxConfig { config, ..MuxConfig::default() };
        Events::builder().discovery(&place).plane(plane).open().await.unwrap().transport().clone()
    };
    let ends = Ends { publishing: open().await, listening: open().await };
    // A publisher that is there is heard from the beginning.
    let subject = Subject::new(Scope::Namespace("suite".to_owned()), "first").unwrap();
    ends.publishing.open(&subject, PublisherId(0)).await.unwrap();
    ends
}
