//! `ringplane discover list --health`: whether the instances that are listed are there, and serve what their records say.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant as Clock};

use ringplane_core::discovery::instance::{Instance, Transport};
use ringplane_core::discovery::key::Query;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::exit::Failed;

/// The longest that a dial may take. Workers that do not answer the question what they serve are given up after as long.
const PATIENCE: Duration = Duration::from_secs(2);
/// Dials under way at once.
const AT_ONCE: usize = 64;

/// What was found out of the instances of a list.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    dials: BTreeMap<SocketAddr, Result<Duration, io::ErrorKind>>,
    /// What the workers at these addresses say that they serve.
    served: BTreeMap<SocketAddr, Vec<Instance>>,
}

/// What is known of one instance.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Verdict {
    /// It says that it serves its endpoint.
    Serves,
    /// Its worker takes connections; it speaks Dynamo's protocol, in which nothing can be asked.
    Connects,
    /// A worker is there and serves other things.
    Other,
    /// Something takes connections and does not say what it serves: another program, or a worker that leaves.
    Mute,
    /// Nothing takes connections.
    Dead(io::ErrorKind),
    /// Requests reach it by a broker or by HTTP: it was not dialed.
    NotDialed,
}

impl Findings {
    /// Dials every address once and asks those workers what they serve that speak mux.
    pub(crate) async fn of(instances: &[Instance]) -> Result<Self, Failed> {
        let by_tcp = || instances.iter().filter(|one| one.transport == Transport::Tcp);
        let mut to_dial: BTreeSet<SocketAddr> = by_tcp().map(|one| one.addr).collect();
        let to_ask: BTreeSet<SocketAddr> = by_tcp().filter(|one| one.mux.is_some()).map(|one| one.addr).collect();
        let asking = tokio::spawn(ask(to_ask));
        let (mut found, mut dialing) = (Self::default(), JoinSet::new());
        loop {
            while dialing.len() < AT_ONCE
                && let Some(addr) = to_dial.pop_first()
            {
                dialing.spawn(async move { (addr, dial(addr).await) });
            }
            match dialing.join_next().await {
                Some(Ok((addr, outcome))) => found.dials.insert(addr, outcome),
                Some(Err(error)) => return Err(Failed::local("a dial", error)),
                None => break,
            };
        }
        let served = asking.await.map_err(|error| Failed::local("asking workers", error))??;
        for instance in served {
            found.served.entry(instance.addr).or_default().push(instance);
        }
        Ok(found)
    }

    fn verdict(&self, instance: &Instance) -> Verdict {
        if instance.transport != Transport::Tcp {
            return Verdict::NotDialed;
        }
        match (self.dials.get(&instance.addr), self.served.get(&instance.addr)) {
            (_, Some(served)) => {
                let same = |one: &Instance| one.id == instance.id && one.endpoint == instance.endpoint;
                if served.iter().any(same) { Verdict::Serves } else { Verdict::Other }
            }
            (Some(Err(kind)), None) => Verdict::Dead(*kind),
            (_, None) if instance.mux.is_some() => Verdict::Mute,
            (_, None) => Verdict::Connects,
        }
    }

    /// The last column of a line: what was found, and how long the dial took.
    pub(crate) fn line(&self, instance: &Instance) -> String {
        let text = self.verdict(instance).to_string();
        match self.dials.get(&instance.addr) {
            Some(Ok(took)) if instance.transport == Transport::Tcp => format!("{text}, dialed in {}", shown(*took)),
            _ => text,
        }
    }

    /// The same, for programs.
    pub(crate) fn object(&self, instance: &Instance) -> Value {
        let verdict = self.verdict(instance);
        let dialed = self.dials.get(&instance.addr).and_then(|dialed| dialed.ok());
        let micros = dialed.filter(|_| verdict != Verdict::NotDialed).map(|took| took.as_micros() as u64);
        json!({ "alive": verdict.is_alive(), "found": verdict.to_string(), "dial_us": micros })
    }
}

impl Verdict {
    /// Whether calls may succeed there; nothing if that is not known.
    const fn is_alive(self) -> Option<bool> {
        match self {
            Self::Serves | Self::Connects => Some(true),
            Self::Other | Self::Mute | Self::Dead(_) => Some(false),
            Self::NotDialed => None,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serves => f.write_str("serves it"),
            Self::Connects => f.write_str("takes connections"),
            Self::Other => f.write_str("serves other endpoints: another worker has the address"),
            Self::Mute => f.write_str("takes connections, does not say what it serves"),
            Self::Dead(io::ErrorKind::TimedOut) => f.write_str("dead: no connection in time"),
            Self::Dead(kind) => write!(f, "dead: {kind}"),
            Self::NotDialed => f.write_str("not dialed"),
        }
    }
}

async fn dial(addr: SocketAddr) -> Result<Duration, io::ErrorKind> {
    let begun = Clock::now();
    match tokio::time::timeout(PATIENCE, TcpStream::connect(addr)).await {
        Ok(Ok(_)) => Ok(begun.elapsed()),
        Ok(Err(error)) => Err(error.kind()),
        Err(_elapsed) => Err(io::ErrorKind::TimedOut),
    }
}

/// What the workers at these addresses say that they serve.
async fn ask(addrs: BTreeSet<SocketAddr>) -> Result<Vec<Instance>, Failed> {
    if addrs.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
    let url = format!("static:{}", list.join(","));
    let backend = ringplane::discovery::open(&url).map_err(|error| Failed::local("asking workers", error))?;
    backend.endpoints().list(Query::All).await.map_err(|error| Failed::local("asking workers", error))
}

/// `0.3 ms`, `12 ms`.
fn shown(took: Duration) -> String {
    let micros = took.as_micros();
    if micros < 10_000 {
        format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
    } else {
        format!("{} ms", micros / 1000)
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::id::{EndpointId, InstanceId};

    use super::*;

    #[test]
    fn what_was_found_of_an_instance_is_told_apart() {
        let (here, there) = ("127.0.0.1:5".parse().unwrap(), "127.0.0.1:6".parse().unwrap());
        let mut mux = Instance::new(InstanceId(1), EndpointId::new("a", "b", "c"), here);
        mux.mux = Some(1);
        let mut found = Findings::default();
        found.dials.insert(here, Ok(Duration::from_micros(340)));
        found.dials.insert(there, Err(io::ErrorKind::ConnectionRefused));
        assert_eq!(found.line(&mux), "takes connections, does not say what it serves, dialed in 0.3 ms");
        found.served.insert(here, vec![mux.clone()]);
        assert_eq!(found.line(&mux), "serves it, dialed in 0.3 ms");
        assert_eq!(found.object(&mux), json!({ "alive": true, "found": "serves it", "dial_us": 340 }));
        let other = Instance { id: InstanceId(2), ..mux.clone() };
        assert!(found.line(&other).starts_with("serves other endpoints"));
        let dynamo = Instance { mux: None, addr: there, ..mux.clone() };
        assert_eq!(found.line(&dynamo), "dead: connection refused");
        assert_eq!(found.object(&dynamo)["alive"], false);
        let nats = Instance { transport: Transport::Nats("s".to_owned()), ..mux };
        assert_eq!((found.line(&nats), &found.object(&nats)["alive"]), ("not dialed".to_owned(), &Value::Null));
    }
}
