//! How long a queue keeps what, and how often it tries.

use std::time::Duration;

use crate::vars::Error;

/// What bounds a queue. The server keeps a queue and its consumers as they were made: what says "made with" changes none that
/// is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The age after which a message is dropped, acknowledged or not: the queue is made with it. Default 1 h, as Dynamo.
    pub max_age: Duration,
    /// How long one that takes a task may be silent before another gets it: consumers are made with it. Default 30 s, which
    /// [`Task::keep`](super::Task::keep) extends while it works.
    pub ack_wait: Duration,
    /// How long a named consumer may take nothing before the server forgets it and its place: it is made with it. Default
    /// 5 min, as Dynamo.
    pub inactive: Duration,
    /// The same of the default group; zero is for ever. Default zero: workers that come back after a pause go on where they
    /// were. Dynamo makes it with 5 min.
    pub group_inactive: Duration,
    /// How often a task is handed out before it goes to the dead-letter queue; zero is without end. Default 5.
    pub max_tries: u32,
    /// The age after which a dead letter is dropped: its queue is made with it. Default 7 days.
    pub dead_age: Duration,
    /// How long one answer of the server is waited for. Default 5 s.
    pub answer: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(3600),
            ack_wait: Duration::from_secs(30),
            inactive: Duration::from_secs(300),
            group_inactive: Duration::ZERO,
            max_tries: 5,
            dead_age: Duration::from_secs(7 * 24 * 3600),
            answer: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Reads Dynamo's variable `DYN_NATS_STREAM_MAX_AGE`, seconds, through `get`. An empty one counts as unset.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is no whole number from 1 on.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let name = "DYN_NATS_STREAM_MAX_AGE";
        let mut config = Self::default();
        if let Some(value) = get(name).filter(|value| !value.is_empty()) {
            let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
            let wanted = "a whole number of seconds from 1 on";
            config.max_age = seconds.map(Duration::from_secs).ok_or(Error::Malformed { name, value, wanted })?;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_dynamos_variable() {
        let read =
            |value: &str| Config::from_vars(|name| (name == "DYN_NATS_STREAM_MAX_AGE").then(|| value.to_owned()));
        assert_eq!(read(""), Ok(Config::default()));
        assert_eq!(read("60").unwrap().max_age, Duration::from_secs(60));
        for value in ["0", "-1", "1h"] {
            assert!(matches!(read(value), Err(Error::Malformed { .. })), "{value}");
        }
    }
}
