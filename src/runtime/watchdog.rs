//! Looks at the cores from outside, so that a task that holds one is told of while it does: a handler that waits for its own
//! core never comes to an end of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringplane_core::local::pace::{Beat, Running};

use crate::runtime::upkeep::Upkeep;

/// From one look to the next. A poll that two of them see has lasted that long.
const LOOK: Duration = Duration::from_secs(1);
/// From one word about an endpoint to the next.
const QUIET: Duration = Duration::from_secs(60);

/// What can be seen of the cores of a group. It is watched for as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    beats: Mutex<Vec<Arc<Beat>>>,
    /// The paths of endpoints by their numbers, which are the same on every core.
    paths: Mutex<HashMap<u32, String>>,
}

impl Watched {
    /// One that is watched.
    pub(crate) fn start(upkeep: &Upkeep) -> Arc<Self> {
        let watched = Arc::new(Self::default());
        let weak = Arc::downgrade(&watched);
        // It ends with the cores.
        drop(upkeep.spawn(async move {
            let mut looks = Looks::default();
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(watched) = weak.upgrade() else { return };
                looks.look(&watched, Instant::now()).into_iter().for_each(|held| watched.tell(held));
            }
        }));
        watched
    }

    /// One more core.
    pub(crate) fn add(&self, beat: Arc<Beat>) {
        lock(&self.beats).push(beat);
    }

    /// The path of an endpoint, for people.
    pub(crate) fn name(&self, endpoint: u32, path: &str) {
        lock(&self.paths).insert(endpoint, path.to_owned());
    }

    /// The paths of the endpoints whose handlers run at this moment.
    #[cfg(feature = "status")]
    pub(crate) fn running(&self) -> Vec<String> {
        let running: Vec<u32> =
            lock(&self.beats).iter().filter_map(|beat| beat.running()).filter_map(|one| one.endpoint).collect();
        let paths = lock(&self.paths);
        running.iter().filter_map(|number| paths.get(number).cloned()).collect()
    }

    fn tell(&self, held: Running) {
        let path = held.endpoint.and_then(|number| lock(&self.paths).get(&number).cloned());
        let endpoint = path.as_deref().unwrap_or("none");
        tracing::warn!(endpoint, "a task has blocked its core for more than a second; nobody else is served there");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the looks before have seen.
#[derive(Debug, Default)]
struct Looks {
    seen: Vec<Option<Running>>,
    /// When each endpoint was last told of.
    told: HashMap<Option<u32>, Instant>,
}

impl Looks {
    /// Looks at every core; what is to be told.
    fn look(&mut self, watched: &Watched, now: Instant) -> Vec<Running> {
        let beats = lock(&watched.beats);
        self.seen.resize(beats.len(), None);
        let mut news = Vec::new();
        for (beat, seen) in beats.iter().zip(&mut self.seen) {
            let running = beat.running();
            let before = std::mem::replace(seen, running);
            let Some(held) = running.filter(|_| running == before) else { continue };
            let told = self.told.get(&held.endpoint);
            if told.is_none_or(|at| now.saturating_duration_since(*at) >= QUIET) {
                self.told.insert(held.endpoint, now);
                beat.tell(held);
                news.push(held);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::local::Env;
    use ringplane_core::time::Instant as Time;

    use super::*;

    /// An environment whose task is in the middle of a poll, as another thread sees it.
    fn busy() -> Env {
        let env = Env::new(
            || Time::ZERO,
            |mut task| _ = task.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())),
            || {},
        );
        env.spawn(std::future::pending());
        env
    }

    #[test]
    fn a_poll_that_two_looks_see_is_told_once_and_its_endpoint_not_again_for_a_minute() {
        let (watched, mut looks, begun) = (Watched::default(), Looks::default(), Instant::now());
        let (first, second) = (busy(), busy());
        watched.add(first.pace().beat().clone());
        watched.add(second.pace().beat().clone());
        let mut told = |after: u64| looks.look(&watched, begun + Duration::from_secs(after)).len();
        assert_eq!((told(0), told(1), told(2)), (0, 1, 0), "both are polls of the same kind");
        second.pace().rest(Time::ZERO);
        assert_eq!((told(60), told(61), told(62)), (0, 1, 0), "a minute after the first word");
        first.pace().rest(Time::ZERO);
        assert_eq!((told(200), told(201)), (0, 0));
        // Each look sees another poll: the thread is busy, and gets on.
        first.spawn(std::future::pending());
        assert_eq!(told(202), 0);
        first.spawn(std::future::pending());
        assert_eq!(told(203), 0);
    }
}
