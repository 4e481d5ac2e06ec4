//! What an engine is: a way to serve the scenarios' requests and a way to make them.

use std::error::Error as StdError;
use std::result::Result as StdResult;

use crate::line::Ready;
use crate::measure::{Measured, Plan};
use crate::scenario::Scenario;

/// Whatever went wrong, for people.
pub type Error = Box<dyn StdError + Send + Sync>;

/// With [`Error`] unless said otherwise.
pub type Result<T, E = Error> = StdResult<T, E>;

/// One way to move calls between two processes: its two sides. Each runs in a process of its own, pinned before the engine
/// starts, threads included, so an engine needs no pinning, no way to stop, and may leak.
///
/// # What a server does
/// It reads each request with [`Ask::receive`](crate::content::Ask::receive) (a failure fails the call) and answers with
/// `ask.items` items, item `i` being [`Pattern::item`](crate::content::Pattern::item) number `i`, each written as soon as
/// it is made: no engine may gather items of one answer into one message. With `ask.gap_us`, item `i` is sent `i` gaps
/// after the request came, by the clock and not by the last item. `ask.items` may be `u32::MAX`: the reader's pace must
/// bound what is held.
///
/// # What a load does
/// What [`generate`](crate::load::generate) does, which asynchronous engines call with their client.
pub trait Sides: Sync {
    /// Serves until the process ends. Says through `ready` where.
    ///
    /// # Errors
    /// If it cannot start or goes down.
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()>;

    /// Makes the scenario's calls to the `address` its server gave, as planned, and says what came of them.
    ///
    /// # Errors
    /// If it cannot start or a call fails in a way that makes going on pointless; failed calls as such are counted.
    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured>;
}

/// What the program says and asks of an engine, beside running it.
pub trait Engine: Sides {
    /// Its name on the command line. Engines of one family begin alike: all that begin with `zeromq-` are *zeromq*.
    fn name(&self) -> &'static str;

    /// What it is and how it is configured, in one line.
    fn about(&self) -> &'static str;

    /// When it runs.
    fn standing(&self) -> Standing {
        Standing::Usual
    }

    /// What it does for its users beside moving bytes.
    fn offers(&self) -> Offers;

    /// Has at hand what it needs from elsewhere. Called before it runs, maybe often.
    ///
    /// # Errors
    /// Why it cannot run here, for people. It is left out then.
    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Why it cannot run this scenario, if it cannot.
    fn unsupported(&self, scenario: &Scenario) -> Option<&'static str>;
}

/// When an engine runs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// When no engines are asked for, and when its name or the beginning of it is.
    Usual,
    /// When its name or the beginning of it is asked for.
    Asked,
    /// When its whole name is asked for: one of many settings of another engine.
    Variant,
}

/// What an engine does for its users, in a few words each; `no` where they must do it themselves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Offers {
    /// Time for a call that both sides know.
    pub deadline: &'static str,
    /// A reader's pace bounds what is held for its call, and holds no other call back.
    pub credit: &'static str,
    /// A call can be given up, and the server hears of it.
    pub cancel: &'static str,
    /// An answer ends in exactly one outcome: whole, or failed and why. A lost one is not waited for.
    pub end: &'static str,
    /// Bytes that have changed under way are noticed, beyond TCP's own sum.
    pub checksum: &'static str,
}
