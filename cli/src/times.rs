//! What `call --verbose` says: which instance answered, and in what time.

use std::time::{Duration, Instant};

use ringplane::At;

/// The times of one call.
pub(crate) struct Times {
    begun: Instant,
    first: Option<Duration>,
    items: u64,
    whole: Option<Duration>,
}

impl Times {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), first: None, items: 0, whole: None }
    }

    pub(crate) fn on_item(&mut self) {
        self.items += 1;
        self.first.get_or_insert_with(|| self.begun.elapsed());
    }

    pub(crate) fn on_end(&mut self) {
        self.whole = Some(self.begun.elapsed());
    }

    /// `instance 1f at 10.0.0.7:9000: 2 items in 31.4 ms, the first after 1.2 ms`
    pub(crate) fn line(&self, at: Option<At>, attempts: u32) -> String {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let at = at.map_or_else(|| "no instance".to_owned(), |at| at.to_string());
        let items = if self.items == 1 { "1 item".to_owned() } else { format!("{} items", self.items) };
        let first = self.first.map(|first| format!(", the first after {}", ms(first))).unwrap_or_default();
        let tries = if attempts > 1 { format!(", {attempts} tries") } else { String::new() };
        format!("{at}: {items} in {}{first}{tries}", ms(self.whole.unwrap_or_else(|| self.begun.elapsed())))
    }
}
