//! Whether the peer is there and takes bytes: pings after silence, and a bound on both.

use crate::buf::progress::Progress;
use crate::mux::config::Config;
use crate::protocol::Fault;
use crate::time::{Deadline, Instant, Reason};

/// One connection's signs of life.
///
/// ```text
///  Quiet ──nothing heard for ping_interval──▶ Asked ──nothing for ping_timeout──▶ Silent (fault)
///    ▲───────────────anything heard────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Liveness {
    heard: Instant,
    asked: Option<Instant>,
    /// A ping is due to be written.
    ping_due: bool,
    tokens: u64,
    progress: Progress,
}

impl Liveness {
    pub(super) const fn new(now: Instant) -> Self {
        Self { heard: now, asked: None, ping_due: false, tokens: 0, progress: Progress::new(now) }
    }

    pub(super) const fn on_received(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
        self.ping_due = false;
    }

    pub(super) const fn on_handed_out(&mut self, bytes: usize, now: Instant) {
        self.progress.begin(now);
        self.progress.on_handed_out(bytes);
    }

    pub(super) const fn on_sent(&mut self, bytes: usize, now: Instant) {
        self.progress.on_sent(bytes, now);
    }

    /// The token of the ping to write now, if one is due.
    pub(super) const fn take_ping(&mut self) -> Option<u64> {
        if !self.ping_due {
            return None;
        }
        self.ping_due = false;
        self.tokens += 1;
        Some(self.tokens)
    }

    pub(super) const fn is_ping_due(&self) -> bool {
        self.ping_due
    }

    /// Whether the peer's pong answers a ping of ours.
    pub(super) const fn knows(&self, token: u64) -> bool {
        token >= 1 && token <= self.tokens
    }

    pub(super) fn handle_timeout(&mut self, config: &Config, now: Instant) -> Result<(), Fault> {
        if self.progress.deadline(config.send_timeout).is_some_and(|deadline| deadline.at <= now) {
            return Err(Fault::Stalled);
        }
        match self.asked {
            Some(asked) if asked + config.ping_timeout <= now => Err(Fault::Silent),
            None if self.heard + config.ping_interval <= now => {
                self.asked = Some(now);
                self.ping_due = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn deadline(&self, config: &Config) -> Deadline {
        let voice = match self.asked {
            Some(asked) => Deadline { at: asked + config.ping_timeout, why: Reason::Pong },
            None => Deadline { at: self.heard + config.ping_interval, why: Reason::Ping },
        };
        match self.progress.deadline(config.send_timeout) {
            Some(stall) if stall.at < voice.at => stall,
            _ => voice,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const START: Instant = Instant::ZERO;

    fn after(seconds: u64) -> Instant {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_asked_about_and_then_fatal() {
        let config = Config::default();
        let mut liveness = Liveness::new(START);
        assert_eq!(liveness.deadline(&config), Deadline { at: after(5), why: Reason::Ping });
        assert_eq!(liveness.handle_timeout(&config, after(5)), Ok(()));
        assert_eq!(liveness.take_ping(), Some(1));
        assert_eq!(liveness.deadline(&config), Deadline { at: after(10), why: Reason::Pong });
        assert_eq!(liveness.handle_timeout(&config, after(10)), Err(Fault::Silent));
    }

    #[test]
    fn any_byte_answers_a_ping() {
        let config = Config::default();
        let mut liveness = Liveness::new(START);
        liveness.handle_timeout(&config, after(5)).unwrap();
        liveness.on_received(after(6));
        assert_eq!(liveness.handle_timeout(&config, after(10)), Ok(()));
        assert_eq!(liveness.deadline(&config), Deadline { at: after(11), why: Reason::Ping });
    }

    #[test]
    fn bytes_that_do_not_move_end_the_connection_and_progress_resets_the_bound() {
        let config = Config::default();
        let mut liveness = Liveness::new(START);
        liveness.on_handed_out(10, after(1));
        liveness.on_received(after(9));
        liveness.on_sent(4, after(9));
        assert_eq!(liveness.handle_timeout(&config, after(12)), Ok(()));
        liveness.on_received(after(18));
        assert_eq!(liveness.handle_timeout(&config, after(19)), Err(Fault::Stalled));
    }
}
