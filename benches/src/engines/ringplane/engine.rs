//! ringplane as an engine, over any of its drivers.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::thread::park;
use std::time::{Duration, Instant};

use ringplane_core::local::{Env, Failure, Incoming, LocalNode, Responder};
use ringplane_core::mux;
use ringplane_core::node::Node;
use ringplane_core::{caller, worker};

use crate::content::{Ask, Pattern};
use crate::engine::{Engine, Offers, Result, Sides};
use crate::engines::ringplane::client::{EnvRuntime, NodeClient, PATH};
use crate::engines::ringplane::dialect::Dialect;
use crate::engines::ringplane::driver::{Driver, Listens};
use crate::inputs::crc;
use crate::line::Ready;
use crate::listen::listen;
use crate::load::generate;
use crate::measure::{Measured, Plan};
use crate::scenario::Scenario;

/// A node on driver `D`, called and served from its own thread, as programs do that want the most of a core.
#[derive(Copy, Clone, Debug)]
pub struct Ringplane<D>(pub D);

/// What calls over mux have, by the node and through the facade.
pub(super) const MUX: Offers =
    Offers { deadline: "yes", credit: "yes", cancel: "yes", end: "yes", checksum: "CRC-32C" };

/// How long a connection that churns stays without a call; zero is no bound a caller takes.
pub(super) const BRIEFLY: Duration = Duration::from_nanos(1);

impl<D: Driver> Engine for Ringplane<D> {
    fn name(&self) -> &'static str {
        D::NAME
    }

    fn about(&self) -> &'static str {
        D::ABOUT
    }

    fn offers(&self) -> Offers {
        MUX
    }

    fn unsupported(&self, scenario: &Scenario) -> Option<&'static str> {
        (scenario.spins() && !D::SPINS).then_some("has no busy polling")
    }
}

impl<D: Driver> Sides for Ringplane<D> {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        serve::<D>(Dialect::Mux, scenario, ready)
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        load::<D>(Dialect::Mux, scenario, address, plan)
    }
}

/// The same in Dynamo's protocol: requests over one connection, each answer over one of its own.
#[derive(Copy, Clone, Debug)]
pub struct CallHome<D>(pub D);

impl<D: Listens> Engine for CallHome<D> {
    fn name(&self) -> &'static str {
        D::HOME
    }

    fn about(&self) -> &'static str {
        "the same driver with Dynamo's protocol on both sides: call-home over TCP, msgpack with plain bytes"
    }

    fn offers(&self) -> Offers {
        Offers {
            deadline: "yes",
            credit: "no: an answer that lies unread fails",
            cancel: "yes",
            end: "yes",
            checksum: "no",
        }
    }

    fn unsupported(&self, scenario: &Scenario) -> Option<&'static str> {
        (scenario.spins() && !D::SPINS)
            .then_some("has no busy polling")
            .or_else(|| Dialect::CallHome.unsupported(scenario))
    }
}

impl<D: Listens> Sides for CallHome<D> {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        serve::<D>(Dialect::CallHome, scenario, ready)
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        load::<D>(Dialect::CallHome, scenario, address, plan)
    }
}

fn serve<D: Driver>(dialect: Dialect, scenario: &Scenario, ready: Ready) -> Result<()> {
    let pattern = Pattern::new(scenario.largest());
    let listener = listen()?;
    let address = listener.local_addr()?;
    let _driver = D::start(Some(listener), scenario.polling, move |env| {
        let node = node(env, caller_config(dialect));
        node.serve(PATH, Rc::new(move |incoming| Box::pin(answer(incoming, dialect, pattern))));
        node
    })?;
    ready.tell(address);
    loop {
        park();
    }
}

fn load<D: Driver>(dialect: Dialect, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
    let server: SocketAddr = address.parse()?;
    let (tell, told) = sync_channel(1);
    let (scenario, plan) = (scenario.clone(), *plan);
    let mut config = caller_config(dialect);
    if scenario.churn {
        config.idle_timeout = BRIEFLY;
    }
    let driver = D::start(None, scenario.polling, move |env| {
        let node = node(env, config);
        let client = NodeClient::new(node.clone(), dialect, &scenario, server);
        let runtime = EnvRuntime(env.clone());
        env.spawn(async move {
            let measured = generate(&scenario, &plan, client, runtime).await;
            let _ = tell.send(measured);
        });
        node
    })?;
    let measured = told.recv()?;
    // Stopping ten thousand connections in order is nobody's business here.
    std::mem::forget(driver);
    Ok(measured)
}

/// The defaults, with the checksum the facade uses.
fn caller_config(dialect: Dialect) -> caller::config::Config {
    caller::config::Config { mux: mux_config(), dialect: dialect.caller(), ..caller::config::Config::default() }
}

fn mux_config() -> mux::Config {
    mux::Config { crc: crc(), ..mux::Config::default() }
}

fn node(env: &Env, caller: caller::config::Config) -> Rc<LocalNode> {
    let worker = worker::config::Config { mux: mux_config(), max_running: 16_384, ..worker::config::Config::default() };
    LocalNode::new(Node::new(worker, caller, 1), env)
}

/// The handler.
async fn answer(incoming: Incoming, dialect: Dialect, pattern: Pattern) {
    let responder = incoming.responder().clone();
    match stream(&responder, dialect, pattern).await {
        Ok(()) => incoming.finish(),
        Err(failure) => incoming.fail(&failure),
    }
}

async fn stream(responder: &Responder, dialect: Dialect, pattern: Pattern) -> Result<(), Failure> {
    let request = responder.recv().await?.ok_or_else(|| Failure::invalid("a call without a request"))?;
    let request = dialect.unwrap(request).map_err(|error| Failure::invalid(error.to_string()))?;
    let ask = Ask::receive(&request, pattern).map_err(Failure::invalid)?;
    drop(request);
    let begun = (ask.gap_us > 0).then(Instant::now);
    for index in 0..ask.items {
        if let Some(begun) = begun.filter(|_| index > 0) {
            let due = begun + Duration::from_micros(u64::from(ask.gap_us) * u64::from(index));
            let env = responder.node().env();
            env.sleep(due.saturating_duration_since(Instant::now())).await;
        }
        responder.send(dialect.wrap(pattern.item(&ask, index))).await?;
    }
    Ok(())
}
