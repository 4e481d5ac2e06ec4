//! Telling of what is beside workers and clients.

use ringplane_tokio::event::Subscription;
use ringplane_tokio::task::TaskTracker;

use crate::observe::metrics::handle::Metrics;
use crate::observe::metrics::told::{Counted, EVENTS, MetricsError, TASK_SIZES, TASKS, Told, add, events, tasks};

impl Metrics {
    /// Tells of the tasks of a tracker and of those below it, with the label `tracker`. One of the same name before it is told of no
    /// more.
    ///
    /// # Errors
    /// [`MetricsError::TooMany`].
    pub fn tasks(&self, name: impl Into<String>, tracker: &TaskTracker) -> Result<(), MetricsError> {
        let stats = tracker.stats_while_alive();
        let (group, label) = (TASKS.to_owned(), ("tracker", name.into()));
        self.tell(Told { group, label, sizes: TASK_SIZES, read: Box::new(move || stats().map(|stats| tasks(&stats))) })
    }

    /// Tells of a subscription to events, with the label `subscription`. One of the same name before it is told of no more.
    ///
    /// # Errors
    /// [`MetricsError::TooMany`].
    pub fn subscription(&self, name: impl Into<String>, subscription: &Subscription) -> Result<(), MetricsError> {
        let stats = subscription.stats_while_alive();
        let (group, label) = (EVENTS.to_owned(), ("subscription", name.into()));
        self.tell(Told { group, label, sizes: &[], read: Box::new(move || stats().map(|stats| events(&stats))) })
    }

    /// Tells of whatever else counts: `read` is called at each scrape, from the thread that scrapes, until it answers `None`. It
    /// may not ask for metrics. Its counters are `GROUP_COUNTER_total`, with the label. Whatever [`counters!`](ringplane_core::counters) has made says of itself
    /// what is needed.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use ringplane::observe::{Format, Metrics};
    ///
    /// ringplane::ringplane_core::stats::counters! {
    ///     /// What a cache has done.
    ///     pub struct Cache {
    ///         /// Blocks that were there.
    ///         pub hits,
    ///         /// Blocks that were not.
    ///         pub misses,
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (metrics, cache) = (Metrics::new(), Arc::new(Mutex::new(Cache::default())));
    /// let read = cache.clone();
    /// metrics.counters("my_cache", ("device", "gpu0"), move || Some(read.lock().ok()?.described().collect()))?;
    /// cache.lock().unwrap().hits += 7;
    /// assert!(metrics.text(Format::Prometheus).await.contains("my_cache_hits_total{device=\"gpu0\"} 7\n"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn counters(
        &self,
        group: impl Into<String>,
        (label, value): (&'static str, impl Into<String>),
        read: impl Fn() -> Option<Vec<Counted>> + Send + Sync + 'static,
    ) -> Result<(), MetricsError> {
        let group = group.into();
        for name in [&group, label] {
            if !is_name(name) {
                return Err(MetricsError::Name(name.to_owned()));
            }
        }
        if ["ringplane", "process", "dynamo"].iter().any(|taken| group.starts_with(taken)) {
            return Err(MetricsError::Taken(group));
        }
        self.tell(Told { group, label: (label, value.into()), sizes: &[], read: Box::new(read) })
    }

    fn tell(&self, told: Told) -> Result<(), MetricsError> {
        add(&mut self.told(), told)
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.as_bytes().first().is_some_and(u8::is_ascii_lowercase) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use ringplane_tokio::observe::metrics::family::Family;

    use super::*;
    use crate::observe::metrics::told::{MOST, families};

    #[test]
    fn names_of_others_and_those_that_are_none_are_refused() {
        let metrics = Metrics::new();
        let add = |group: &str, label| metrics.counters(group, (label, "x"), || Some(Vec::new()));
        for name in ["", "1a", "a-b", "A", "a b"] {
            assert_eq!(add(name, "label"), Err(MetricsError::Name(name.to_owned())));
        }
        assert_eq!(add("mine", "a-b"), Err(MetricsError::Name("a-b".to_owned())));
        assert_eq!(add("ringplane_mine", "a"), Err(MetricsError::Taken("ringplane_mine".to_owned())));
    }

    #[test]
    fn what_is_gone_makes_room_and_the_same_name_takes_the_place_of_what_was_there() {
        let metrics = Metrics::new();
        for number in 0..MOST {
            let read = move || (number > 0).then(Vec::new);
            assert_eq!(metrics.counters(format!("m{number}"), ("a", "x"), read), Ok(()));
        }
        let more = |group: &str| metrics.counters(group, ("a", "x"), || Some(vec![("calls", "Calls.", 3)]));
        assert_eq!((more("one"), more("m7")), (Ok(()), Ok(())), "the first is gone");
        assert_eq!(more("another"), Err(MetricsError::TooMany { most: MOST }));
        let told = families(&mut metrics.told());
        let calls: Vec<String> =
            told.iter().map(Family::full_name).filter(|name| name.ends_with("_calls_total")).collect();
        assert_eq!(calls, ["one_calls_total", "m7_calls_total"]);
    }
}
