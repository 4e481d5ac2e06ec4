//! A call-home connection as the worker keeps it: what it is for, and how far its dial is.

use core::net::SocketAddr;
use core::time::Duration;

use crate::protocol::CloseReason;
use crate::time::{Deadline, Instant, Reason};
use crate::worker::config::Config;
use crate::worker::job::JobId;

/// A connection that a worker dials, for one stream.
#[derive(Debug)]
pub(in crate::worker) struct Dialed {
    /// The call whose response it brings, or whose request items it fetches; `None` once that is settled, and for a refusal.
    pub(in crate::worker) job: Option<JobId>,
    /// It brings a refusal: it counts against `max_refusals`.
    pub(super) refusal: bool,
    pub(super) addr: SocketAddr,
    dial: Dial,
    tries: u32,
}

/// ```text
///  Dialing ──up──▶ Done
///    ▲  └──no descriptor, no port──▶ Pausing (a new name, the same stream)
///    └───────────redial_pause──────────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Dial {
    Dialing { since: Instant },
    Pausing { until: Instant },
    Done,
}

impl Dialed {
    /// A connection to `addr` that is being dialed.
    pub(super) const fn new(addr: SocketAddr, refusal: bool, now: Instant) -> Self {
        Self { job: None, refusal, addr, dial: Dial::Dialing { since: now }, tries: 0 }
    }

    /// It is up, or given up.
    pub(super) const fn on_done(&mut self) {
        self.dial = Dial::Done;
    }

    /// The dial has failed; whether it is to be tried again after a pause. It is if this host lacked something, and has been
    /// tried less often than it may.
    pub(super) fn on_failed(&mut self, why: CloseReason, config: &Config, now: Instant) -> bool {
        let lacking = matches!(why, CloseReason::NoDescriptors | CloseReason::NoPorts);
        let again = lacking && self.tries < config.redials;
        if again {
            self.tries += 1;
            self.dial = Dial::Pausing { until: now + config.redial_pause };
        }
        again
    }

    /// The pause is over, if it was one: it is dialed again.
    pub(super) fn on_pause_over(&mut self, now: Instant) -> bool {
        let pauses = self.is_pausing();
        if pauses {
            self.dial = Dial::Dialing { since: now };
        }
        pauses
    }

    /// Whether it waits to be dialed again: the driver does not know it.
    pub(super) const fn is_pausing(&self) -> bool {
        matches!(self.dial, Dial::Pausing { .. })
    }

    /// When the dial, or the pause before it, is over.
    pub(super) fn deadline(&self, dial_timeout: Duration) -> Option<Deadline> {
        match self.dial {
            Dial::Dialing { since } => Some(Deadline { at: since + dial_timeout, why: Reason::Connect }),
            Dial::Pausing { until } => Some(Deadline { at: until, why: Reason::Redial }),
            Dial::Done => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::ZERO;

    fn dialed() -> Dialed {
        Dialed::new(SocketAddr::from(([127, 0, 0, 1], 9)), false, T0)
    }

    #[test]
    fn a_dial_is_repeated_after_a_pause_while_this_host_lacks_something_and_as_often_as_configured() {
        let (mut dialed, config) = (dialed(), Config { redials: 1, ..Config::default() });
        assert!(!dialed.on_failed(CloseReason::Refused, &config, T0), "another host's word is final");
        assert!(dialed.on_failed(CloseReason::NoPorts, &config, T0) && dialed.is_pausing());
        let pause = Deadline { at: T0 + config.redial_pause, why: Reason::Redial };
        assert_eq!(dialed.deadline(config.dial_timeout), Some(pause));
        assert!(dialed.on_pause_over(pause.at) && !dialed.on_pause_over(pause.at));
        assert!(!dialed.on_failed(CloseReason::NoPorts, &config, T0));
    }

    #[test]
    fn a_dial_has_its_bound_until_it_is_done() {
        let (mut dialed, bound) = (dialed(), Duration::from_secs(5));
        assert_eq!(dialed.deadline(bound), Some(Deadline { at: T0 + bound, why: Reason::Connect }));
        dialed.on_done();
        assert_eq!(dialed.deadline(bound), None);
    }
}
