//! What a worker tells its callers of its load.

use alloc::vec::Vec;

use crate::buf::slab::Key;
use crate::time::Instant;
use crate::wire::mux::load::Load as WireLoad;
use crate::worker::machine::Worker;

impl Worker {
    /// How many calls may run now.
    pub const fn capacity(&self) -> usize {
        self.admission.capacity()
    }

    /// Sets a gauge of the application's own, which reports of load carry from now on; `false` if there is no room for it: see
    /// [`Load::set_gauge`](crate::route::load::Load::set_gauge).
    pub fn gauge(&mut self, name: &str, value: u64) -> bool {
        self.gauges.set_gauge(name, value)
    }

    /// A reply on this connection ends, or a call is refused: its peer hears of the load unless it has lately.
    pub(super) fn report_after(&mut self, link: Key, now: Instant) {
        let Some(every) = self.config.report_every else { return };
        let Some(accepted) = self.links.accepted(link) else { return };
        if accepted.reported.is_none_or(|last| last + every <= now) {
            self.report(link, now);
        }
    }

    /// Tells the peer of a connection how much there is to do.
    pub(super) fn report(&mut self, link: Key, now: Instant) {
        if self.config.report_every.is_none() {
            return;
        }
        let (running, queued) = self.admission.load();
        let [running, queued, capacity] =
            [running, queued, self.admission.capacity()].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let mut header = Vec::new();
        let gauges = self.gauges.gauges.iter().map(|gauge| (&*gauge.name, gauge.value));
        WireLoad::new(running, queued, capacity).write(gauges, |bytes| header.extend_from_slice(bytes));
        if let Some(mux) = self.links.mux(link) {
            mux.report(header.into());
            self.stats.reports += 1;
        }
        if let Some(accepted) = self.links.accepted_mut(link) {
            accepted.reported = Some(now);
        }
    }
}
