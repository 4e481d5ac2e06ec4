//! Both sides of a credit window. Law: what the peer may still send, what is held here and what is consumed but not yet
//! told to the peer always add up to the window.

/// Whether an item of this cost is announced and paid by reservation. Only half a window is sure to be free once the
/// reader has taken everything: the rest may be owed and not yet told, so a larger item could wait for ever.
pub(super) const fn is_announced(cost: u64, stream_window: u32) -> bool {
    cost > stream_window as u64 / 2
}

/// The receiving side: how much the peer may send.
#[derive(Debug)]
pub(super) struct Window {
    size: u32,
    /// The peer is told early if it has less than this and can be given as much.
    low: u32,
    /// The peer may still send this much.
    granted: u32,
    /// Consumed here; the peer does not know yet.
    owed: u32,
}

/// The peer sent more than it was granted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Overrun;

impl Window {
    pub(super) const fn new(size: u32) -> Self {
        Self { size, low: 0, granted: size, owed: 0 }
    }

    /// The window of a connection whose streams have `stream_window` each. What slow readers hold must not keep what is
    /// owed from the others: the peer gets room for the largest item that is not announced as soon as there is any.
    pub(super) const fn of_connection(size: u32, stream_window: u32) -> Self {
        Self { low: stream_window / 2, ..Self::new(size) }
    }

    /// The peer spends `cost`.
    pub(super) fn spend(&mut self, cost: u64) -> Result<(), Overrun> {
        let cost = u32::try_from(cost).map_err(|_| Overrun)?;
        self.granted = self.granted.checked_sub(cost).ok_or(Overrun)?;
        Ok(())
    }

    /// `cost` has been consumed; whether it is time to tell the peer.
    pub(super) const fn consume(&mut self, cost: u64) -> bool {
        debug_assert!(cost <= self.held(), "credit is conserved");
        self.owed += cost as u32;
        self.is_due()
    }

    /// Half a window is owed: few frames, and the peer never runs dry while the reader keeps up.
    pub(super) const fn is_due(&self) -> bool {
        self.owed >= self.size.div_ceil(2) || (self.granted < self.low && self.granted + self.owed >= self.low)
    }

    /// What to tell the peer now.
    pub(super) const fn grant(&mut self) -> u32 {
        let grant = core::mem::replace(&mut self.owed, 0);
        self.granted += grant;
        grant
    }

    /// Spent by the peer and not yet consumed.
    pub(super) const fn held(&self) -> u64 {
        (self.size - self.granted - self.owed) as u64
    }
}

/// The sending side: how much the peer takes.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    left: u64,
}

impl Allowance {
    pub(super) const fn new(left: u64) -> Self {
        Self { left }
    }

    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    pub(super) const fn covers(&self, cost: u64) -> bool {
        self.left >= cost
    }

    /// Spends `cost`, which must be covered.
    pub(super) const fn spend(&mut self, cost: u64) {
        debug_assert!(self.left >= cost, "spending is checked with covers() first");
        self.left = self.left.saturating_sub(cost);
    }

    /// More from the peer. `Err` if the sum leaves every sane bound.
    pub(super) fn add(&mut self, more: u64) -> Result<(), Overrun> {
        self.left = self.left.checked_add(more).filter(|sum| *sum < 1 << 48).ok_or(Overrun)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granted_held_and_owed_always_add_up() {
        let mut window = Window::new(100);
        assert_eq!(window.spend(60), Ok(()));
        assert_eq!(window.held(), 60);
        assert!(!window.consume(40));
        assert!(window.consume(10), "half the window is owed");
        assert_eq!(window.held(), 10);
        assert_eq!(window.grant(), 50);
        assert_eq!(window.spend(91), Err(Overrun));
        assert_eq!(window.spend(90), Ok(()));
    }

    #[test]
    fn a_connection_that_slow_readers_have_nearly_filled_tells_what_it_owes_early() {
        let mut window = Window::of_connection(100, 40);
        assert_eq!(window.spend(80), Ok(()));
        assert!(!window.is_due() && !window.consume(0), "nothing is owed");
        assert_eq!(window.spend(10), Ok(()));
        assert!(!window.consume(9), "10 + 9 do not make room for half a stream window");
        assert!(window.consume(1));
        assert_eq!(window.grant(), 10);
        assert!(!window.is_due());
    }

    #[test]
    fn an_allowance_refuses_to_grow_without_bound() {
        let mut allowance = Allowance::new(5);
        assert!(allowance.covers(5) && !allowance.covers(6));
        allowance.spend(5);
        assert_eq!(allowance.add(u64::MAX), Err(Overrun));
    }
}
