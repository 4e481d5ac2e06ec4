//! The loop of a publisher on tokio: it receives always, publishes when it can, and hears at once that it is cancelled.

use std::fmt;
use std::pin::pin;
use std::time::Instant;

use ringplane_core::rng::Rng;
use ringplane_core::task::publisher::{Action, Config, End, Publisher, PublisherStats};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::random::random_u64;
use crate::seldom::Seldom;
use crate::task::clock::Clock;

/// An item whose turn it is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Due<T> {
    /// What is to be published.
    pub item: T,
    /// Items before it that had to be dropped, since the last that was published.
    pub dropped: u64,
}

/// Publishes what comes from `source` by calling `publish` for one item after the other, until the source is closed and all is
/// published, too many tries in a row have failed, or `token` is cancelled. A try that fails is made again after a pause.
///
/// It receives in pauses and while it publishes too, so that whoever sends is not held up. What waits is bounded: the oldest
/// is dropped, counted, logged, and told with the next item. A try under way is dropped when the token is cancelled.
///
/// ```
/// use ringplane_tokio::task::publisher::{Config, End};
/// use ringplane_tokio::task::{CancellationToken, publish};
/// use tokio::sync::mpsc;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (events, source) = mpsc::channel(8);
/// for event in ["stored", "removed"] {
///     events.send(event).await.unwrap();
/// }
/// drop(events);
/// let mut tries = 0;
/// let publishing = publish(Config::KV_EVENTS, source, |due| {
///     tries += 1;
///     let refused = tries == 1;
///     async move {
///         println!("{}, after {} dropped", due.item, due.dropped);
///         if refused { Err("not connected") } else { Ok(()) }
///     }
/// }, CancellationToken::new());
/// let (end, stats) = publishing.await;
/// assert_eq!((end, stats.published, stats.errors), (End::Drained, 2, 1));
/// # });
/// ```
pub async fn publish<T: Clone, E: fmt::Display, F: Future<Output = Result<(), E>>>(
    config: Config,
    mut source: mpsc::Receiver<T>,
    mut publish: impl FnMut(Due<T>) -> F,
    token: CancellationToken,
) -> (End, PublisherStats) {
    let mut publisher = Publisher::new(config);
    let (clock, mut rng, told) = (Clock::start(), Rng::new(random_u64()), Told::default());
    loop {
        match publisher.poll_action() {
            Action::Publish | Action::Busy => {
                let Some(item) = publisher.current().cloned() else { continue };
                let tried = pin!(publish(Due { item, dropped: publisher.dropped_before() }));
                match until(&mut publisher, &mut source, &token, &told, tried).await {
                    Some(Ok(())) => publisher.handle_published(),
                    Some(Err(error)) => {
                        told.failed(&error);
                        publisher.handle_failed(clock.now(), &mut rng);
                    }
                    None => {}
                }
            }
            Action::Wait(at) => {
                let pause = async {
                    match clock.at(at) {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                until(&mut publisher, &mut source, &token, &told, pin!(pause)).await;
                publisher.handle_timeout(clock.now());
            }
            Action::Receive => tokio::select! {
                biased;
                () = token.cancelled() => publisher.cancel(),
                item = source.recv() => take(&mut publisher, item, &told),
            },
            Action::Stop(end) => {
                // What was sent and not received is counted too.
                source.close();
                while let Ok(item) = source.try_recv() {
                    publisher.handle_received(item);
                }
                return (end, publisher.stats());
            }
        }
    }
}

/// Receives until `done`; `None` if the publisher is cancelled first.
async fn until<T, R>(
    publisher: &mut Publisher<T>,
    source: &mut mpsc::Receiver<T>,
    token: &CancellationToken,
    told: &Told,
    mut done: std::pin::Pin<&mut impl Future<Output = R>>,
) -> Option<R> {
    loop {
        tokio::select! {
            biased;
            () = token.cancelled() => {
                publisher.cancel();
                return None;
            }
            result = &mut done => return Some(result),
            item = source.recv(), if !publisher.is_closed() => take(publisher, item, told),
        }
    }
}

fn take<T>(publisher: &mut Publisher<T>, item: Option<T>, told: &Told) {
    match item {
        None => publisher.handle_closed(),
        Some(item) => {
            if publisher.handle_received(item).is_some() {
                told.dropped();
            }
        }
    }
}

/// What is logged, and not too often.
#[derive(Default)]
struct Told {
    failures: Seldom,
    drops: Seldom,
}

impl Told {
    fn failed(&self, error: &impl fmt::Display) {
        if let Some(times) = self.failures.due(Instant::now()) {
            tracing::warn!(times, %error, "nothing can be published; trying again");
        }
    }

    fn dropped(&self) {
        if let Some(items) = self.drops.due(Instant::now()) {
            tracing::warn!(items, "too many items wait to be published; the oldest are dropped");
        }
    }
}
