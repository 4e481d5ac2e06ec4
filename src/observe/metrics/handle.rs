//! The metrics of a process, to be asked for.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringplane_tokio::discovery::Backend;
use ringplane_tokio::observe::metrics::family::{Family, Kind, Value};
use ringplane_tokio::observe::metrics::record::Record;
use ringplane_tokio::observe::metrics::{dynamo, process, text, timed};
use tokio::sync::mpsc;

use crate::observe::metrics::sources::{Endpoints, Seen, Sources};
use crate::observe::metrics::told::Told;
use crate::observe::metrics::{counted, instances, told};
use crate::runtime::cores::Group;

/// How long the threads have to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The metrics of the workers and clients that were [made](crate::WorkerBuilder::metrics) [with it](crate::ClientBuilder::metrics),
/// and of the process. Clones are the same.
///
/// How long calls and requests take is counted by an [`Observer`](crate::observer::Observer) on each thread. All else is what a
/// [`Snapshot`](crate::Snapshot) holds: each time the metrics are asked for, the threads are asked for theirs, and get 2 s for it. A thread that does not answer counts with what it said the last time. Counters of workers and
/// clients that are gone stay as they were when they were last asked for.
///
/// ```
/// use ringplane::observe::{Format, Metrics};
/// use ringplane::{Client, Request, Responder, Worker};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ringplane::Error> {
/// let metrics = Metrics::new();
/// let idle = |_: Request, _: Responder| async move { Ok(()) };
/// let worker = Worker::builder().discovery("mem:metrics").endpoint("a.b.idle", idle).metrics(&metrics).serve().await?;
/// let client = Client::builder().discovery("mem:metrics").metrics(&metrics).connect()?;
///
/// let text = metrics.text(Format::Prometheus).await;
/// assert!(text.lines().any(|line| line == "ringplane_called_calls_total 0"));
/// # client.shutdown().await;
/// # worker.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Metrics {
    sources: Arc<Mutex<Sources>>,
    told: Arc<Mutex<Vec<Told>>>,
    record: Record,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("sources", &*self.lock()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics of the process alone, until workers or clients are made with them.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of them as text, to be served with [`Format::content_type`](text::Format::content_type).
    pub async fn text(&self, format: text::Format) -> String {
        text::write(self.families().await, format)
    }

    /// All of them as of this moment, each name once.
    pub async fn families(&self) -> Vec<Family> {
        let seen = self.see().await;
        let build = vec![("version", env!("CARGO_PKG_VERSION").into())];
        let build = Family::new("ringplane_build", "The build", Kind::Info).with(build, Value::Known);
        let sums = self.record.read();
        let parts = [
            vec![build],
            timed::families(&sums),
            counted::families(&seen),
            instances::families(&seen.instances),
            told::families(&mut self.told()),
            dynamo::families(&sums),
            process::families(),
        ];
        parts.concat()
    }

    /// What its calls and requests are recorded in.
    pub(crate) const fn record(&self) -> &Record {
        &self.record
    }

    /// Tells of a group of threads.
    pub(crate) fn add_group(&self, group: &Arc<Group>) {
        self.lock().add_group(group);
    }

    /// Tells of a place of discovery.
    pub(crate) fn add_backend(&self, backend: &Arc<dyn Backend>) {
        self.lock().add_backend(backend);
    }

    /// Tells of the endpoints that a group calls.
    pub(crate) fn add_endpoints(&self, group: &Arc<Group>, endpoints: &Arc<impl Endpoints + 'static>) {
        self.lock().add_endpoints(group.number, endpoints.clone());
    }

    /// Asks all threads.
    async fn see(&self) -> Seen {
        let mut asked = self.lock().all();
        // Each thread answers once.
        let (tell, mut told) = mpsc::unbounded_channel();
        asked.iter_mut().enumerate().for_each(|(index, asked)| asked.ask(index, &tell));
        drop(tell);
        if let Some(mut over) = asked.first().map(|asked| asked.pause(PATIENCE)) {
            loop {
                tokio::select! {
                    biased;
                    answer = told.recv() => {
                        let Some((index, answer)) = answer else { break };
                        asked.iter_mut().skip(index).take(1).for_each(|asked| asked.hear(&answer));
                    }
                    _ = &mut over => break,
                }
            }
            over.abort();
        }
        self.lock().settle(asked)
    }

    /// What is told beside.
    pub(super) fn told(&self) -> MutexGuard<'_, Vec<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
