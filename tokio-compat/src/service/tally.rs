//! What an endpoint has done, counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::service::said::EndpointStats;

/// The longest text that is kept of an error, in characters.
const LONGEST: usize = 256;

/// Counts what an endpoint does. Clones count together.
#[derive(Clone, Default, Debug)]
pub struct Tally(Arc<Counts>);

#[derive(Default, Debug)]
struct Counts {
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    last: Mutex<String>,
}

impl Tally {
    /// A request was replied to after this time; `error` is what was wrong with it, if anything was.
    pub fn count(&self, took: Duration, error: Option<&str>) {
        let Counts { requests, errors, nanos, last } = &*self.0;
        requests.fetch_add(1, Ordering::Relaxed);
        nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(error) = error {
            errors.fetch_add(1, Ordering::Relaxed);
            *last.lock().unwrap_or_else(PoisonError::into_inner) = error.chars().take(LONGEST).collect();
        }
    }

    /// What is counted of the endpoint by this name.
    pub(super) fn stats(&self, name: &str, subject: &str, queue_group: &str) -> EndpointStats {
        let Counts { requests, errors, nanos, last } = &*self.0;
        let [num_requests, num_errors, processing_time] =
            [requests, errors, nanos].map(|count| count.load(Ordering::Relaxed));
        EndpointStats {
            name: name.to_owned(),
            subject: subject.to_owned(),
            num_requests,
            num_errors,
            processing_time,
            average_processing_time: processing_time.checked_div(num_requests).unwrap_or(0),
            last_error: last.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            queue_group: queue_group.to_owned(),
            data: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_and_an_error_has_an_end() {
        let tally = Tally::default();
        assert_eq!(tally.stats("e", "s", "q").average_processing_time, 0);
        tally.count(Duration::from_nanos(10), None);
        tally.clone().count(Duration::from_nanos(30), Some(&"x".repeat(1000)));
        let stats = tally.stats("e", "s", "q");
        assert_eq!((stats.num_requests, stats.num_errors, stats.average_processing_time), (2, 1, 20));
        assert_eq!(stats.last_error.len(), LONGEST);
    }
}
