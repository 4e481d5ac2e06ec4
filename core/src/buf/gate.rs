//! When a connection is to be received from, by what lies unread of it.

/// Bytes that may still come once a connection is to pause: what a driver had received by then. One that brings more does not
/// pause.
pub(crate) const BURST: usize = 64 << 20;

/// What a driver is to do about receiving.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Receive nothing more.
    Pause,
    /// Receive again.
    Resume,
}

/// Shuts when more lies unread than a mark, and opens when half of that is left: in between it stays as it is, so that a
/// reader that takes one item at a time does not pause and resume with each.
///
/// ```text
///   open ──more than the mark──▶ shut ──half of it, or open()──▶ open
/// ```
#[derive(Debug)]
pub(crate) struct Gate {
    shut: bool,
    /// As the driver knows it.
    told: bool,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Self { shut: false, told: false }
    }

    /// `unread` bytes lie here.
    pub(crate) const fn weigh(&mut self, unread: usize, mark: usize) {
        self.shut = unread > if self.shut { low(mark) } else { mark };
    }

    /// Nothing holds the peer back any more.
    pub(crate) const fn open(&mut self) {
        self.shut = false;
    }

    /// Whether the peer is held back.
    pub(crate) const fn is_shut(&self) -> bool {
        self.shut
    }

    /// What the driver has to be told, once.
    pub(crate) const fn poll(&mut self) -> Option<Flow> {
        if self.shut == self.told {
            return None;
        }
        self.told = self.shut;
        Some(if self.shut { Flow::Pause } else { Flow::Resume })
    }
}

/// At which amount a gate that shut beyond `mark` opens again.
pub(crate) const fn low(mark: usize) -> usize {
    mark / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_shuts_beyond_its_mark_and_opens_at_half_of_it() {
        let mut gate = Gate::new();
        for (unread, said) in
            [(100, None), (101, Some(Flow::Pause)), (200, None), (51, None), (50, Some(Flow::Resume)), (100, None)]
        {
            gate.weigh(unread, 100);
            assert_eq!((gate.poll(), gate.poll()), (said, None), "{unread}");
        }
    }

    #[test]
    fn what_changes_back_before_it_is_told_is_not_told() {
        let mut gate = Gate::new();
        gate.weigh(101, 100);
        gate.open();
        assert_eq!(gate.poll(), None);
        gate.weigh(1, 0);
        assert_eq!(gate.poll(), Some(Flow::Pause));
        gate.open();
        assert_eq!(gate.poll(), Some(Flow::Resume));
    }
}
