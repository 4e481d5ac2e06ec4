//! NATS: request and reply through a broker.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use async_nats::{Client as Nats, ConnectOptions, HeaderMap, Message, Request, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep_until};

use crate::content::{Ask, Pattern};
use crate::engine::{Engine, Offers, Result, Sides};
use crate::engines::nats_server::{MAX_PAYLOAD, NatsServer};
use crate::line::Ready;
use crate::load::{Call, Client, generate};
use crate::local::{Local, run};
use crate::measure::{Measured, Plan};
use crate::scenario::Scenario;

/// NATS with async-nats, through a `nats-server` that the server's process starts, on the server's CPU.
///
/// One item is a request with its reply (callers share one inbox, as the client does it); more go to an inbox of the call
/// that the caller subscribes to first, with an empty message after the last. Workers and callers run on one thread each,
/// without time limits on requests and without checks of subjects that are known to be good.
#[derive(Copy, Clone, Debug)]
pub struct NatsEngine;

const SUBJECT: &str = "ringplane.bench";
const QUEUE: &str = "workers";
/// The header in which services of NATS say that a request failed.
const FAILED: &str = "Nats-Service-Error";

impl Engine for NatsEngine {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn about(&self) -> &'static str {
        "NATS request/reply with async-nats 0.51 through nats-server 2.15 on the server's CPU"
    }

    fn prepare(&self) -> Result<()> {
        NatsServer::prepare()
    }

    fn offers(&self) -> Offers {
        Offers {
            deadline: "the caller's alone",
            credit: "no: a slow reader loses messages",
            cancel: "no",
            end: "no: of streams",
            checksum: "no",
        }
    }

    fn unsupported(&self, scenario: &Scenario) -> Option<&'static str> {
        let wrong = [
            (scenario.spins(), "NATS has no busy polling"),
            (scenario.slow_readers > 0, "NATS does not slow a sender down: what a slow reader leaves is dropped"),
            (scenario.idle > 0, "connections end at NATS' broker, so idle ones say nothing about a server"),
            (scenario.churn, "callers of NATS keep their connection to the broker"),
            (scenario.largest() > MAX_PAYLOAD, "nats-server allows messages of at most 64 MiB"),
        ];
        wrong.into_iter().find_map(|(is_wrong, why)| is_wrong.then_some(why))
    }
}

impl Sides for NatsEngine {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        let pattern = Pattern::new(scenario.largest());
        let broker = NatsServer::start()?;
        run(async move {
            let worker = connect(broker.address()).await?;
            let mut requests = worker.queue_subscribe(SUBJECT, QUEUE.into()).await?;
            worker.flush().await?;
            ready.tell(broker.address());
            while let Some(request) = requests.next().await {
                answer(&worker, pattern, request).await?;
            }
            Err("the broker has gone".into())
        })
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        let clients = RefCell::new((0..scenario.all_connections()).map(|_| Rc::default()).collect());
        let client = Clients { address: address.to_owned(), clients };
        run(async { Ok(generate(scenario, plan, client, Local).await) })
    }
}

async fn connect(address: &str) -> Result<Nats> {
    let options = ConnectOptions::new().request_timeout(None).skip_subject_validation(true);
    Ok(options.connect(format!("nats://{address}")).await?)
}

/// One item at once, more in a task of their own.
async fn answer(worker: &Nats, pattern: Pattern, request: Message) -> Result<()> {
    let Some(inbox) = request.reply else { return Ok(()) };
    match Ask::receive(&request.payload, pattern) {
        Err(why) => {
            let mut headers = HeaderMap::new();
            headers.insert(FAILED, why);
            worker.publish_with_headers(inbox, headers, Bytes::new()).await?;
        }
        Ok(ask) if ask.items == 1 => worker.publish(inbox, pattern.item(&ask, 0)).await?,
        Ok(ask) => drop(tokio::spawn(stream(worker.clone(), pattern, ask, inbox))),
    }
    Ok(())
}

async fn stream(worker: Nats, pattern: Pattern, ask: Ask, inbox: Subject) -> Result<()> {
    let begun = Instant::now();
    for index in 0..ask.items {
        if ask.gap_us > 0 && index > 0 {
            sleep_until(begun + Duration::from_micros(u64::from(ask.gap_us) * u64::from(index))).await;
        }
        worker.publish(inbox.clone(), pattern.item(&ask, index)).await?;
    }
    Ok(worker.publish(inbox, Bytes::new()).await?)
}

/// A client for each connection, dialed when it is first needed.
#[derive(Debug)]
struct Clients {
    address: String,
    clients: RefCell<Vec<Rc<OnceCell<Nats>>>>,
}

impl Client for Clients {
    type Call = Replies;

    async fn call(&self, connection: usize, request: Bytes) -> Result<Replies> {
        let cell = self.clients.borrow().get(connection).cloned().ok_or("no such connection")?;
        let client = cell.get_or_try_init(|| connect(&self.address)).await?;
        if Ask::read(&request).is_some_and(|ask| ask.items == 1) {
            let reply = client.send_request(SUBJECT, Request::new().payload(request)).await?;
            return Ok(Replies::One(Some(reply)));
        }
        let inbox = Subject::from(client.new_inbox());
        let replies = client.subscribe(inbox.clone()).await?;
        client.publish_with_reply(SUBJECT, inbox, request).await?;
        Ok(Replies::Many(Box::new(replies)))
    }
}

/// An answer as it comes.
#[derive(Debug)]
enum Replies {
    /// A reply, or nothing more.
    One(Option<Message>),
    /// What comes to the call's inbox.
    Many(Box<Subscriber>),
}

impl Call for Replies {
    type Item = Bytes;

    async fn next(&mut self) -> Option<Result<Bytes>> {
        let message = match self {
            Self::One(reply) => reply.take()?,
            Self::Many(replies) => match replies.next().await {
                Some(message) => message,
                None => return Some(Err("the connection to the broker has gone".into())),
            },
        };
        if let Some(why) = message.headers.as_ref().and_then(|headers| headers.get(FAILED)) {
            return Some(Err(why.as_str().into()));
        }
        (!message.payload.is_empty()).then_some(Ok(message.payload))
    }
}
