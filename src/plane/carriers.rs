//! What brings requests of calls to workers that no connection of the cores reaches.

use std::rc::Rc;
use std::sync::Arc;
#[cfg(any(feature = "http", feature = "nats"))]
use std::sync::OnceLock;

use ringplane_core::caller::dynamo::carrier::{Answer, Request};
use ringplane_core::caller::error::Missing;
use ringplane_core::caller::target::Way;
#[cfg(any(feature = "http", feature = "nats"))]
use ringplane_core::protocol::CloseReason;
#[cfg(any(feature = "http", feature = "nats"))]
use ringplane_tokio::request::carrier::Report;
#[cfg(feature = "http")]
use ringplane_tokio::request::http;
#[cfg(feature = "nats")]
use ringplane_tokio::{nats, request};

use crate::error::Error;
use crate::runtime::cores::Group;

/// How calls of one group of threads reach workers behind a broker or HTTP.
#[derive(Clone, Default, Debug)]
pub(crate) struct Equipment {
    /// Which NATS server.
    #[cfg(feature = "nats")]
    pub(crate) nats: Option<nats::Config>,
    #[cfg(feature = "http")]
    pub(crate) http: http::CallerConfig,
}

impl Equipment {
    /// With this NATS server.
    #[cfg(feature = "nats")]
    pub(crate) fn with_nats(mut self, config: nats::Config) -> Self {
        self.nats = Some(config);
        self
    }

    /// Gives it to every core. Threads and connections come with the first request that needs them.
    pub(crate) fn give(self, group: &Arc<Group>) -> Result<(), Error> {
        let legs = Arc::new(Legs::new(self, group));
        Ok(group.each(move |core| {
            let (legs, index) = (legs.clone(), core.index);
            core.node.carry(Rc::new(move |request| legs.take(index, request)));
        })?)
    }
}

/// The legs of one group, each started when it is first needed; `None` for one that cannot be.
struct Legs {
    #[cfg(any(feature = "http", feature = "nats"))]
    equipment: Equipment,
    #[cfg(any(feature = "http", feature = "nats"))]
    report: Report,
    #[cfg(feature = "nats")]
    nats: OnceLock<Option<request::nats::CallerLeg>>,
    #[cfg(feature = "http")]
    http: OnceLock<Option<http::CallerLeg>>,
}

impl Legs {
    #[cfg_attr(not(any(feature = "http", feature = "nats")), expect(unused_variables, reason = "there is no leg"))]
    fn new(equipment: Equipment, group: &Arc<Group>) -> Self {
        Self {
            #[cfg(any(feature = "http", feature = "nats"))]
            equipment,
            #[cfg(any(feature = "http", feature = "nats"))]
            report: report(group.clone()),
            #[cfg(feature = "nats")]
            nats: OnceLock::new(),
            #[cfg(feature = "http")]
            http: OnceLock::new(),
        }
    }

    /// Takes a request of the core of that number, or says why not.
    #[cfg_attr(not(any(feature = "http", feature = "nats")), expect(unused_variables, reason = "there is no leg"))]
    fn take(&self, core: usize, request: Request) -> Result<(), Answer> {
        match &request.way {
            #[cfg(feature = "nats")]
            Way::Nats { .. } => {
                let config = self.equipment.nats.as_ref().ok_or(Answer::NotEquipped(Missing::Configuration))?;
                let start = || request::nats::CallerLeg::start(config.clone(), self.report.clone());
                started(&self.nats, start)?.send(core, request)
            }
            #[cfg(feature = "http")]
            Way::Http(_) => {
                let start = || http::CallerLeg::start(self.equipment.http.clone(), self.report.clone());
                started(&self.http, start)?.send(core, request)
            }
            #[cfg(not(feature = "nats"))]
            Way::Nats { .. } => Err(Answer::NotEquipped(Missing::Feature)),
            #[cfg(not(feature = "http"))]
            Way::Http(_) => Err(Answer::NotEquipped(Missing::Feature)),
            // Frames need no leg: the machine sends them itself.
            Way::Frames => Err(Answer::NotEquipped(Missing::Feature)),
        }
    }
}

/// The leg, started if it is not yet.
#[cfg(any(feature = "http", feature = "nats"))]
fn started<L>(leg: &OnceLock<Option<L>>, start: impl FnOnce() -> std::io::Result<L>) -> Result<&L, Answer> {
    let start = || start().inspect_err(|error| tracing::error!(%error, "no thread to bring requests")).ok();
    leg.get_or_init(start).as_ref().ok_or(Answer::Unreachable(CloseReason::NoBroker))
}

/// The way of the answers back. It says whether the answer need not be offered again.
#[cfg(any(feature = "http", feature = "nats"))]
fn report(group: Arc<Group>) -> Report {
    Arc::new(move |core, ticket, answer| {
        let answer = answer.clone();
        let told = group.submit_to(core, move |core| core.node.answer(ticket, answer));
        told != Err(crate::runtime::cores::Refused::Full)
    })
}
