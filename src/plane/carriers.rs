//! What brings requests of calls out to workers that no connection of the cores reaches.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use ringplane_core::caller::dynamo::carrier::{Answer, Request};
use ringplane_core::caller::error::Missing;
use ringplane_core::caller::target::Transport;
use ringplane_core::chain::Chain;
use ringplane_driver::error::SubmitError;
use ringplane_tokio::request::carrier::{self, Report};

use crate::error::Error;
use crate::plane::name::PlaneName;
use crate::runtime::cores::Group;

/// Starts the carrier of a plane.
type Start = Arc<dyn Fn(Report) -> io::Result<carrier::Carrier> + Send + Sync>;

/// The caller's end of a request plane: what brings requests to workers that take them by NATS or HTTP. It is made from the
/// configuration of that plane ([`request`](crate::request)) and given to [`ClientBuilder::carrier`](crate::ClientBuilder::carrier).
/// Threads and connections come with the first request that needs them.
///
/// ```
/// # #[cfg(feature = "nats")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ringplane::Client;
/// use ringplane::request::nats;
///
/// // Workers that take requests by NATS are reached through the server that `NATS_SERVER` names.
/// let config = nats::Config::from_vars(|name| std::env::var(name).ok())?;
/// let client = Client::builder().carrier(config).connect()?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "nats"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Carrier {
    plane: PlaneName,
    start: Start,
}

impl Carrier {
    pub(crate) fn new(
        plane: PlaneName,
        start: impl Fn(Report) -> io::Result<carrier::Carrier> + Send + Sync + 'static,
    ) -> Self {
        Self { plane, start: Arc::new(start) }
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("plane", &self.plane).finish_non_exhaustive()
    }
}

/// The carriers that one group of threads may use, by plane; `None` for one that must be configured first. A plane that is
/// not here is not in this build.
#[derive(Clone, Default)]
pub(crate) struct Carriers(BTreeMap<PlaneName, Option<Start>>);

impl Carriers {
    /// Makes a plane known whose carrier must be configured first.
    pub(crate) fn know(&mut self, plane: PlaneName) {
        self.0.entry(plane).or_default();
    }

    /// Uses this carrier from now on.
    pub(crate) fn set(&mut self, carrier: Carrier) {
        self.0.insert(carrier.plane, Some(carrier.start));
    }

    /// Gives them to every core. Threads and connections come with the first request that needs them.
    pub(crate) fn give(self, group: &Arc<Group>) -> Result<(), Error> {
        let carriers = self.0.into_iter().map(|(plane, start)| (plane, Lazy { start, running: OnceLock::new() }));
        let started = Arc::new(Started { carriers: carriers.collect(), report: report(group.clone()) });
        Ok(group.each_now(move |core| {
            let (started, index) = (started.clone(), core.index);
            core.node.carry(Rc::new(move |request| started.take(index, request)));
        })?)
    }
}

/// The carriers of one group.
struct Started {
    carriers: BTreeMap<PlaneName, Lazy>,
    report: Report,
}

/// A carrier that is started when it is first needed; `None` for one that cannot be.
struct Lazy {
    start: Option<Start>,
    running: OnceLock<Option<carrier::Carrier>>,
}

impl Started {
    /// Takes a request of the core of that number, or says why not.
    fn take(&self, core: usize, request: Request) -> Result<(), Answer> {
        let lazy = self.carriers.get(&plane(&request.transport)).ok_or(Answer::NotEquipped(Missing::Feature))?;
        let start = lazy.start.as_ref().ok_or(Answer::NotEquipped(Missing::Configuration))?;
        let start = || {
            let started = start(self.report.clone());
            started.inspect_err(|error| tracing::error!(error = %Chain(error), "no thread to bring requests")).ok()
        };
        let running = lazy.running.get_or_init(start).as_ref();
        running.ok_or(Answer::NoBroker { sent: false })?.send(core, request)
    }
}

/// Which plane a request goes by.
const fn plane(transport: &Transport) -> PlaneName {
    match transport {
        Transport::Tcp => PlaneName::Tcp,
        Transport::Nats { .. } => PlaneName::Nats,
        Transport::Http(_) => PlaneName::Http,
    }
}

/// The way of the answers back. It says whether the answer need not be offered again.
fn report(group: Arc<Group>) -> Report {
    Arc::new(move |core, ticket, answer| {
        let answer = answer.clone();
        let told = group.submit_to(core, move |core| core.node.answer(ticket, answer));
        told != Err(SubmitError::Full)
    })
}
