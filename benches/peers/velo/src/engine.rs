//! The engine, in the settings that its name says.

use ringplane_benches::content::Pattern;
use ringplane_benches::engine::{Result, Sides};
use ringplane_benches::line::Ready;
use ringplane_benches::load::generate;
use ringplane_benches::local::{Local, run};
use ringplane_benches::measure::{Measured, Plan};
use ringplane_benches::scenario::Scenario;

use crate::caller::Nodes;
use crate::node::peer_text;
use crate::server::serve;

/// velo over TCP with its mux only, "the way a serving frontend and its workers run" (its own tests), on one thread.
///
/// One item is a unary message; more are an anchor with a zero-RTT ticket, opened by the request's message, with items of
/// plain bytes (`send_bytes` and `next_bytes`, meant for "items the application already serialized"). `cN` in the name is the
/// credit of a stream, `lanesN` the connections to a peer, `manual` velo's flush policy "a serving loop wants": items are
/// written when every stream that has one has sent it. A connection of a scenario is a node of its own.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    /// Connections to a peer.
    pub(crate) lanes: u16,
    /// Items of a stream under way.
    pub(crate) credit: u32,
    /// Whether the server says when to write.
    pub(crate) manual: bool,
}

impl Setting {
    /// What `velo-…` means.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let mut setting = Self { lanes: 1, credit: 32, manual: false };
        for word in name.strip_prefix("velo")?.split('-').filter(|word| !word.is_empty()) {
            match (word, word.strip_prefix("lanes"), word.strip_prefix('c')) {
                ("default", ..) => {}
                ("manual", ..) => setting.manual = true,
                (_, Some(lanes), _) => setting.lanes = lanes.parse().ok()?,
                (_, _, Some(credit)) => setting.credit = credit.parse().ok()?,
                _ => return None,
            }
        }
        Some(setting)
    }
}

impl Sides for Setting {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        let pattern = Pattern::new(scenario.largest());
        run(async move {
            let velo = serve(*self, pattern).await?;
            ready.tell(peer_text(&velo)?);
            std::future::pending().await
        })
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        run(async {
            let nodes = Nodes::new(*self, scenario, address)?;
            Ok(generate(scenario, plan, nodes, Local).await)
        })
    }
}
