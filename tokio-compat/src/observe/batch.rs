//! Spans on their way to a collector: they wait in a bounded queue, and a task on a runtime sends them in batches.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry::trace::FutureExt;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use ringplane_core::stats::counters;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::observe::otlp::Config;
use crate::seldom::Seldom;

counters! {
    /// What has become of the spans of a process. `exported`, `failed` and `dropped` together are those that have ended and wait no
    /// more.
    pub struct SpanStats {
        /// Spans that the collector has taken.
        pub exported,
        /// Spans that it has refused, or did not take in time.
        pub failed,
        /// Spans that found the queue full or closed.
        pub dropped,
        /// Spans that wait now.
        pub waiting,
    }
}

/// Warnings about a collector that takes nothing.
static REFUSED: Seldom = Seldom::new();

/// The processor that spans end in. The SDK's own tells nobody what it drops, and waits for its collector on a thread without a
/// bound of its own.
#[derive(Clone)]
pub(super) struct Batches(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something is to be sent now.
    due: Notify,
    queue: usize,
    batch: usize,
}

#[derive(Default)]
struct State {
    spans: VecDeque<SpanData>,
    /// Spans of the batch that is being sent.
    sending: usize,
    stats: SpanStats,
    closed: bool,
    /// Nothing is sent any more.
    over: bool,
    /// To be told once so many spans have been taken or refused, in all.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

impl State {
    /// Spans that the collector has taken or refused.
    fn gone(&self) -> u64 {
        self.stats.exported + self.stats.failed
    }

    /// Spans that are still to go.
    fn left(&self) -> u64 {
        (self.spans.len() + self.sending) as u64
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Batches {
    /// An empty queue within the bounds of `config`.
    pub(super) fn new(config: &Config) -> Self {
        let (queue, batch) = (config.queue, config.batch);
        Self(Arc::new(Shared { state: Mutex::default(), due: Notify::new(), queue, batch }))
    }

    /// What has become of the spans so far.
    pub(super) fn stats(&self) -> SpanStats {
        let state = self.state();
        SpanStats { waiting: state.left(), ..state.stats }
    }

    /// Takes no more, if `last`, and has what waits sent now. It is told when that is done, whatever has come behind it since, or
    /// dropped if nothing is sent any more.
    pub(super) fn flush(&self, last: bool) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state();
        state.closed |= last;
        if !state.over {
            let mark = state.gone() + state.left();
            state.waiting.push((mark, tell));
        }
        drop(state);
        self.0.due.notify_one();
        told
    }

    /// Sends what comes until the queue is closed. Nothing of it is traced itself.
    pub(super) async fn run(self, exporter: impl SpanExporter, delay: Duration, bound: Duration) {
        let quiet = Context::new().with_telemetry_suppressed();
        loop {
            // Whether it was asked or time is up.
            let _ = timeout(delay, self.0.due.notified()).await;
            while let Some(batch) = self.next() {
                let count = batch.len() as u64;
                let sent = timeout(bound, exporter.export(batch).with_context(quiet.clone())).await;
                self.on_sent(count, sent.map_err(|_| "it did not answer in time".to_owned()));
                self.tell();
            }
            if self.tell() {
                return;
            }
        }
    }

    /// Tells those whose spans have gone. Whether nothing is sent any more.
    fn tell(&self) -> bool {
        let mut state = self.state();
        let gone = state.gone();
        state.over = state.closed && state.left() == 0;
        let is_over = state.over;
        let told: Vec<_> = state.waiting.extract_if(.., |(mark, _)| *mark <= gone).collect();
        drop(state);
        told.into_iter().for_each(|(_, tell)| _ = tell.send(()));
        is_over
    }

    /// The next spans to be sent.
    fn next(&self) -> Option<Vec<SpanData>> {
        let mut state = self.state();
        let count = state.spans.len().min(self.0.batch);
        state.sending = count;
        (count > 0).then(|| state.spans.drain(..count).collect())
    }

    fn on_sent(&self, count: u64, sent: Result<OTelSdkResult, String>) {
        let failed = sent.and_then(|sent| sent.map_err(|error| error.to_string())).err();
        let mut state = self.state();
        state.sending = 0;
        match failed {
            None => state.stats.exported += count,
            Some(_) => state.stats.failed += count,
        }
        drop(state);
        if let Some(error) = failed
            && let Some(times) = REFUSED.due(Instant::now())
        {
            tracing::warn!(times, %error, "a collector does not take spans; they are lost");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpanProcessor for Batches {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        let mut state = self.state();
        if state.closed || state.spans.len() >= self.0.queue {
            state.stats.dropped += 1;
            return;
        }
        state.spans.push_back(span);
        let full = state.spans.len() == self.0.batch;
        drop(state);
        if full {
            self.0.due.notify_one();
        }
    }

    /// Asks for it and does not wait: this may be the thread that sends.
    fn force_flush(&self) -> OTelSdkResult {
        self.0.due.notify_one();
        Ok(())
    }

    /// As [`force_flush`](Self::force_flush), and nothing more is taken.
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.state().closed = true;
        self.force_flush()
    }
}
