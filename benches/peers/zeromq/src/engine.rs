//! The engine: a ROUTER that answers, a DEALER for each connection that asks.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringplane_benches::content::{Ask, Pattern};
use ringplane_benches::engine::{Result, Sides};
use ringplane_benches::line::Ready;
use ringplane_benches::load::{Client, generate};
use ringplane_benches::local::{Local, run};
use ringplane_benches::measure::{Measured, Plan};
use ringplane_benches::numbered::{KEPT, ONE_PART, Part, Reply, Waiting, parse, prefix};
use ringplane_benches::scenario::{Scenario, address};
use tokio::sync::{Mutex, OnceCell};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};
use zeromq::{DealerSendHalf, DealerSocket, RouterSendHalf, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

/// ZeroMQ as zeromq's `docs/BENCHMARKS.md` runs its own DEALER and ROUTER: tokio, TCP without Nagle, which it sets itself,
/// sockets split in halves, so that sending waits for no receiving. Its queues are bounded, which cannot be set; a full
/// one holds its sender back, whichever call it sends for.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Zeromq;

impl Sides for Zeromq {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        let pattern = Pattern::new(scenario.largest());
        run(async move {
            let mut router = RouterSocket::new();
            let place = router.bind("tcp://0.0.0.0:0").await?.to_string();
            ready.tell(place.trim_start_matches("tcp://"));
            let (mut send, mut receive) = router.split();
            loop {
                let message = receive.recv().await?.into_vec();
                let [caller, first, rest @ ..] = message.as_slice() else { continue };
                let (number, _, small) = parse(first)?;
                let ask = Ask::receive(rest.first().map_or(small, |large| large.as_ref()), pattern);
                match ask {
                    Err(why) => send.send(message_of(Some(caller), number, Part::Failed, why.into())).await?,
                    Ok(ask) if ask.items == 1 && ask.gap_us == 0 => {
                        send.send(message_of(Some(caller), number, Part::Last, pattern.item(&ask, 0))).await?;
                    }
                    Ok(ask) => drop(spawn_local(stream(send.clone(), caller.clone(), number, ask, pattern))),
                }
            }
        })
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        let server: SocketAddr = address.parse()?;
        let connections = RefCell::new((0..scenario.all_connections()).map(|_| Rc::default()).collect());
        let client = Dealers { server, connections };
        run(async { Ok(generate(scenario, plan, client, Local).await) })
    }
}

async fn stream(mut send: RouterSendHalf, caller: Bytes, number: u64, ask: Ask, pattern: Pattern) {
    let begun = Instant::now();
    let most = (KEPT / (ask.item_bytes as usize).max(1)) as u32;
    for index in 0..ask.items {
        if ask.items == u32::MAX && index == most {
            return;
        }
        if ask.gap_us > 0 && index > 0 {
            sleep_until(begun + Duration::from_micros(u64::from(ask.gap_us) * u64::from(index))).await;
        }
        let part = if index + 1 == ask.items { Part::Last } else { Part::Item };
        if send.send(message_of(Some(&caller), number, part, pattern.item(&ask, index))).await.is_err() {
            return;
        }
    }
}

/// A message, and in front of it whom a router is to send it to.
fn message_of(caller: Option<&Bytes>, number: u64, part: Part, payload: Bytes) -> ZmqMessage {
    let prefix = prefix(number, part);
    let is_small = payload.len() <= ONE_PART;
    let mut first = BytesMut::with_capacity(prefix.len() + if is_small { payload.len() } else { 0 });
    first.extend_from_slice(&prefix);
    if is_small {
        first.extend_from_slice(&payload);
    }
    let mut message = ZmqMessage::from(first.freeze());
    if !is_small {
        message.push_back(payload);
    }
    if let Some(caller) = caller {
        message.push_front(caller.clone());
    }
    message
}

/// A socket for each connection, connected when it is first needed.
struct Dealers {
    server: SocketAddr,
    connections: RefCell<Vec<Rc<OnceCell<Dealer>>>>,
}

/// A connection, and the calls that wait for it.
struct Dealer {
    send: Mutex<DealerSendHalf>,
    waiting: Waiting,
}

impl Dealer {
    async fn connect(server: SocketAddr) -> Result<Self> {
        let mut socket = DealerSocket::new();
        socket.connect(&format!("tcp://{server}")).await?;
        let (send, mut receive) = socket.split();
        let waiting = Waiting::default();
        let answers = waiting.clone();
        spawn_local(async move {
            while let Ok(message) = receive.recv().await {
                let mut parts = message.into_vec().into_iter();
                let Some(first) = parts.next() else { continue };
                let Ok((number, part, small)) = parse(&first) else { continue };
                let payload = parts.next().unwrap_or_else(|| first.slice_ref(small));
                answers.deliver(number, part, payload);
            }
        });
        Ok(Self { send: Mutex::new(send), waiting })
    }
}

impl Client for Dealers {
    type Call = Reply;

    async fn call(&self, connection: usize, request: Bytes) -> Result<Reply> {
        let cell = self.connections.borrow().get(connection).cloned().ok_or("no such connection")?;
        let dealer = cell.get_or_try_init(|| Dealer::connect(address(self.server, connection))).await?;
        let (number, reply) = dealer.waiting.open();
        dealer.send.lock().await.send(message_of(None, number, Part::Item, request)).await?;
        Ok(reply)
    }
}
