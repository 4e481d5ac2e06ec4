//! One connection to a NATS server that queues, objects and services share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use tokio::time::timeout;

use crate::nats::config::Config;
use crate::nats::connect::{Events, connect};
use crate::nats::error::Error;

/// How long a connection may take to write what was handed to it before it is closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// A connection to a NATS server for [queues](crate::queue). It comes back by itself when
/// the server is lost. Clones are the same connection, which ends when the last of them and of what was made with it is
/// dropped.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    events: Arc<Events>,
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
        Ok(Self { client, events })
    }

    /// Waits until what was handed to the connection is written, for at most 5 s.
    pub async fn flush(&self) {
        // One that is lost meanwhile has nothing to write to.
        let _ = timeout(FAREWELL, self.client.flush()).await;
    }

    /// The largest payload that the server takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What the server has been heard not to allow on `subject`.
    pub(crate) fn denied(&self, subject: &str) -> Result<(), Error> {
        match self.events.denied() {
            Err(Error::Denied { subject: denied, .. }) if denied != subject => Ok(()),
            said => said,
        }
    }
}
