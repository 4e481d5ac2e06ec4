//! One connection to a NATS server that queues, objects and services share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::nats::config::Config;
use crate::nats::connect::{Events, Mark, PUBLISH, connect};
use crate::nats::error::Error;

/// How long a connection may take to finish what it was given, and to write it, before it is closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// A connection to a NATS server for [queues](crate::queue) and [objects](crate::store). It comes back by itself when
/// the server is lost. Clones are the same connection, which ends when the last of them and of what was made with it is
/// dropped.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    events: Arc<Events>,
    runtime: Handle,
    /// Pieces of work that go on although nobody waits for them.
    unfinished: Arc<watch::Sender<usize>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("state", &self.client.connection_state()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, within `config.startup`. It is served by the tokio runtime that this is called on.
    ///
    /// # Errors
    /// [`Error`]: a malformed address or login, or no server in time.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        let events = Arc::new(Events::default());
        let client = connect(config, &events, |options| options).await?;
        Ok(Self { client, events, runtime: Handle::current(), unfinished: Arc::default() })
    }

    /// Waits until what must not be left half done is done, as an upload that was dropped takes its pieces back, and what was
    /// handed to the connection is written, for at most 5 s.
    pub async fn flush(&self) {
        let settled = async {
            let _ = self.unfinished.subscribe().wait_for(|left| *left == 0).await;
            let _ = self.client.flush().await;
        };
        // One that is lost meanwhile has nothing to write to.
        let _ = timeout(FAREWELL, settled).await;
    }

    /// The largest payload that the server takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Does `work` to its end, whatever becomes of the one that waits for it. An error: the runtime has ended before.
    pub(crate) fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (tell, told) = oneshot::channel();
        let unfinished = Unfinished::begin(&self.unfinished);
        self.runtime.spawn(async move {
            let done = work.await;
            drop(unfinished);
            // Nobody may be left to hear of it.
            let _ = tell.send(done);
        });
        told
    }

    /// The moment from which on [`denied`](Self::denied) looks.
    pub(crate) fn mark(&self) -> Mark {
        self.events.mark()
    }

    /// Completes when the server does not allow to publish to `subject`.
    pub(crate) async fn denied(&self, since: Mark, subject: &str) -> Error {
        self.events.is_denied(since, PUBLISH, Some(subject)).await
    }
}

/// One piece of work, until it is dropped.
struct Unfinished(Arc<watch::Sender<usize>>);

impl Unfinished {
    fn begin(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|left| *left += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.send_modify(|left| *left -= 1);
    }
}
