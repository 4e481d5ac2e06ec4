//! The ways that events travel, ours and those of bare client libraries.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use ringplane::events::{
    Delivery, EventPlane, Events, InProc, InboxConfig, Listen, MuxConfig, Scope, Slow, Speak, Subject,
};
use ringplane::nats;
use ringplane::zmq::ZmqConfig;
use tokio::time::sleep;
use zeromq::{PubSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

use crate::engine::Result;
use crate::engines::nats_server::NatsServer;
use crate::engines::peer::Program;
use crate::engines::peers::LIBZMQ;
use crate::events::rounds::Place;

/// One end of a way.
pub(super) type Side = fn(&Place) -> LocalBoxFuture<'_, Result<()>>;

/// One way.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) name: &'static str,
    /// The bare client libraries that do the same.
    pub(super) bare: &'static [&'static str],
    pub(super) ends: Ends,
}

/// How a way is measured.
#[derive(Debug)]
pub(super) enum Ends {
    /// By two threads of this process.
    Here {
        /// Makes the address where both meet.
        place: fn() -> Result<String>,
        listen: Side,
        speak: Side,
    },
    /// By a program of its own, which does the same.
    Program(&'static Program),
}

/// All of them.
pub(super) const WAYS: &[Way] = &[
    Way {
        name: "ringplane-inproc",
        bare: &[],
        ends: Ends::Here {
            place: own,
            listen: |place| Box::pin(listen(place, InProc::named(&place.address).into(), Slow::Wait)),
            speak: |place| Box::pin(speak(place, InProc::named(&place.address).into())),
        },
    },
    Way {
        name: "ringplane-mux",
        bare: &[],
        ends: Ends::Here {
            place: own,
            listen: |place| Box::pin(listen(place, MuxConfig::default().into(), Slow::Wait)),
            speak: |place| Box::pin(speak(place, MuxConfig::default().into())),
        },
    },
    Way {
        name: "ringplane-zmq",
        bare: &["zeromq", "libzmq"],
        ends: Ends::Here {
            place: own,
            listen: |place| Box::pin(listen(place, ZmqConfig::default().into(), Slow::DropOldest)),
            speak: |place| Box::pin(speak(place, ZmqConfig::default().into())),
        },
    },
    Way {
        name: "zeromq",
        bare: &[],
        ends: Ends::Here {
            place: free,
            listen: |place| Box::pin(listen_to_zeromq(place)),
            speak: |place| Box::pin(speak_by_zeromq(place)),
        },
    },
    Way { name: "libzmq", bare: &[], ends: Ends::Program(LIBZMQ.program) },
    Way {
        name: "ringplane-nats",
        bare: &["async-nats"],
        ends: Ends::Here {
            place: server,
            listen: |place| Box::pin(listen(place, by_nats(place), Slow::DropOldest)),
            speak: |place| Box::pin(speak(place, by_nats(place))),
        },
    },
    Way {
        name: "async-nats",
        bare: &[],
        ends: Ends::Here {
            place: server,
            listen: |place| Box::pin(listen_to_nats(place)),
            speak: |place| Box::pin(speak_by_nats(place)),
        },
    },
];

/// Events that are published before anything else is looked at.
const BATCH: u64 = 64;
const TOPIC: &str = "events";

/// A name that no other measurement has.
fn own() -> Result<String> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Ok(format!("events-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// An address of the loopback that is free at the moment.
fn free() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// The broker that all measurements share.
fn server() -> Result<String> {
    static SERVER: OnceLock<Result<NatsServer, String>> = OnceLock::new();
    let start = || NatsServer::prepare().and_then(|()| NatsServer::start()).map_err(|error| error.to_string());
    Ok(SERVER.get_or_init(start).as_ref().map(|server| server.address().to_owned()).map_err(Clone::clone)?)
}

fn by_nats(place: &Place) -> EventPlane {
    let servers = vec![format!("nats://{}", place.address)];
    nats::Config { servers, ..nats::Config::default() }.into()
}

fn subject() -> Result<Subject> {
    Ok(Subject::new(Scope::Namespace("bench".to_owned()), TOPIC)?)
}

async fn open(place: &Place, plane: EventPlane) -> Result<Events> {
    Ok(Events::builder().discovery(format!("mem:{}", place.address)).plane(plane).open().await?)
}

async fn listen(place: &Place, plane: EventPlane, slow: Slow) -> Result<()> {
    let events = open(place, plane).await?;
    let inbox = InboxConfig { slow, ..InboxConfig::default() };
    let mut subscription = events.subscriber_of(&subject()?, Listen { inbox, ..Listen::default() }).await?;
    place.is_ready();
    let mut batch = Vec::new();
    while !place.is_over() && subscription.next_batch(&mut batch, 256).await? > 0 {
        let (mut heard, mut lost) = (0, 0);
        for delivery in batch.drain(..) {
            match delivery {
                Delivery::Event(_) => heard += 1,
                Delivery::Gap(gap) => lost += gap.missing,
                _ => {}
            }
        }
        place.heard(heard, lost);
    }
    Ok(())
}

async fn speak(place: &Place, plane: EventPlane) -> Result<()> {
    let events = open(place, plane).await?;
    let publisher = events.publisher_of(subject()?, Speak::default()).await?;
    while publisher.listeners() == Some(0) {
        sleep(Duration::from_millis(1)).await;
    }
    loop {
        publisher.publish_many((0..BATCH).map(|_| &place.payload)).await?;
        if !place.goes_on(BATCH).await {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

async fn listen_to_nats(place: &Place) -> Result<()> {
    let client = async_nats::connect(&place.address).await?;
    let mut events = client.subscribe(TOPIC).await?;
    client.flush().await?;
    place.is_ready();
    while !place.is_over() && events.next().await.is_some() {
        place.heard(1, 0);
    }
    Ok(())
}

async fn speak_by_nats(place: &Place) -> Result<()> {
    let client = async_nats::connect(&place.address).await?;
    let payload = Bytes::copy_from_slice(&place.payload);
    loop {
        for _ in 0..BATCH {
            client.publish(TOPIC, payload.clone()).await?;
        }
        if !place.goes_on(BATCH).await {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

async fn listen_to_zeromq(place: &Place) -> Result<()> {
    place.is_ready();
    let mut socket = SubSocket::new();
    while socket.connect(&format!("tcp://{}", place.address)).await.is_err() {
        sleep(Duration::from_millis(1)).await;
    }
    socket.subscribe(TOPIC).await?;
    while !place.is_over() {
        socket.recv().await?;
        place.heard(1, 0);
    }
    Ok(())
}

async fn speak_by_zeromq(place: &Place) -> Result<()> {
    let mut socket = PubSocket::new();
    socket.bind(&format!("tcp://{}", place.address)).await?;
    let payload = Bytes::copy_from_slice(&place.payload);
    loop {
        for _ in 0..BATCH {
            let mut message = ZmqMessage::from(TOPIC);
            message.push_back(payload.clone());
            socket.send(message).await?;
        }
        if !place.goes_on(BATCH).await {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}
