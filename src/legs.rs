//! What brings requests of calls to workers that no connection of the cores reaches.

use std::rc::Rc;
use std::sync::Arc;
#[cfg(feature = "nats")]
use std::sync::OnceLock;

use ringplane_core::caller::error::Missing;
use ringplane_core::caller::leg::{Answer, Request, Way};
#[cfg(feature = "nats")]
use ringplane_core::protocol::CloseReason;
#[cfg(feature = "nats")]
use ringplane_tokio::carrier::Report;
#[cfg(feature = "nats")]
use ringplane_tokio::nats;

use crate::cores::Cores;
use crate::error::Error;

/// How calls of one group of threads reach workers behind a broker.
#[derive(Clone, Default, Debug)]
pub(crate) struct Equipment {
    /// Which NATS server.
    #[cfg(feature = "nats")]
    pub(crate) nats: Option<nats::Config>,
}

impl Equipment {
    /// Gives it to every core. Threads and connections come with the first request that needs them.
    pub(crate) fn give(self, cores: &Arc<Cores>) -> Result<(), Error> {
        let legs = Arc::new(Legs::new(self, cores));
        cores.each(move |core| {
            let (legs, index) = (legs.clone(), core.index);
            core.node.carry(Rc::new(move |request| legs.take(index, request)));
        })
    }
}

/// The legs of one group, each started when it is first needed.
struct Legs {
    #[cfg(feature = "nats")]
    report: Report,
    #[cfg(feature = "nats")]
    nats: Option<nats::Config>,
    #[cfg(feature = "nats")]
    nats_leg: OnceLock<Option<nats::CallerLeg>>,
}

impl Legs {
    #[cfg_attr(not(feature = "nats"), expect(unused_variables, reason = "there is no leg"))]
    fn new(equipment: Equipment, cores: &Arc<Cores>) -> Self {
        Self {
            #[cfg(feature = "nats")]
            report: report(cores),
            #[cfg(feature = "nats")]
            nats: equipment.nats,
            #[cfg(feature = "nats")]
            nats_leg: OnceLock::new(),
        }
    }

    /// Takes a request of the core of that number, or says why not.
    #[cfg_attr(not(feature = "nats"), expect(unused_variables, reason = "there is no leg"))]
    fn take(&self, core: usize, request: Request) -> Result<(), Answer> {
        match &request.way {
            #[cfg(feature = "nats")]
            Way::Nats { .. } => {
                let config = self.nats.as_ref().ok_or(Answer::NotEquipped(Missing::Configuration))?;
                let start = || {
                    let leg = nats::CallerLeg::start(config.clone(), self.report.clone());
                    leg.inspect_err(|error| tracing::error!(%error, "no thread for NATS")).ok()
                };
                let leg = self.nats_leg.get_or_init(start).as_ref();
                leg.ok_or(Answer::Unreachable(CloseReason::NoBroker))?.send(core, request)
            }
            #[cfg(not(feature = "nats"))]
            Way::Nats { .. } => Err(Answer::NotEquipped(Missing::Feature)),
            Way::Http(_) | Way::Frames => Err(Answer::NotEquipped(Missing::Feature)),
        }
    }
}

/// The way of the answers back, which must not keep the cores alive.
#[cfg(feature = "nats")]
fn report(cores: &Arc<Cores>) -> Report {
    let cores = Arc::downgrade(cores);
    Arc::new(move |core, ticket, answer| {
        let Some(cores) = cores.upgrade() else { return true };
        let answer = answer.clone();
        cores.submit_to(core, move |core| core.node.answer(ticket, answer)).is_ok()
    })
}
