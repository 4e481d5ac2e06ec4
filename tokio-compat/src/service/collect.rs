//! What all replicas of a service say.

use std::time::Duration;

use async_nats::StatusCode;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::nats::connect::next;
use crate::nats::connection::Connection;
use crate::nats::error::Error as Server;
use crate::service::error::Error;
use crate::service::replica::{Verb, is_legal};
use crate::service::said::{Info, Ping, Stats};

/// How long answers are waited for, and how many.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// When waiting ends: nobody knows how many replicas there are. Default 1 s.
    pub deadline: Duration,
    /// How many replicas are known to be there: once so many have answered, none is waited for. Default unknown.
    pub replicas: Option<usize>,
    /// The most answers that are taken. Default 10,000.
    pub most: usize,
}

impl Default for Ask {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(1), replicas: None, most: 10_000 }
    }
}

/// What was answered in time.
#[derive(Clone, PartialEq, Debug)]
pub struct Answers<T> {
    /// What each replica said, in the order of arrival.
    pub replicas: Vec<T>,
    /// Answers that could not be read.
    pub unreadable: usize,
}

/// Which replicas of a service are there, or of all services without a name. A name followed by `.ID` is one replica.
///
/// # Errors
/// [`Error::Name`], and [`Error::Server`] if the question does not leave.
pub async fn ping(connection: &Connection, name: Option<&str>, ask: Ask) -> Result<Answers<Ping>, Error> {
    collect(connection, Verb::Ping, name, ask).await
}

/// What the replicas of a service serve; those of all services without a name.
///
/// # Errors
/// As [`ping`].
pub async fn info(connection: &Connection, name: Option<&str>, ask: Ask) -> Result<Answers<Info>, Error> {
    collect(connection, Verb::Info, name, ask).await
}

/// What the replicas of a service have done; those of all services without a name.
///
/// # Errors
/// As [`ping`].
pub async fn stats(connection: &Connection, name: Option<&str>, ask: Ask) -> Result<Answers<Stats>, Error> {
    collect(connection, Verb::Stats, name, ask).await
}

async fn collect<T: DeserializeOwned>(
    connection: &Connection,
    verb: Verb,
    name: Option<&str>,
    ask: Ask,
) -> Result<Answers<T>, Error> {
    if let Some(name) = name.filter(|name| !name.split('.').all(is_legal)) {
        return Err(Error::Name(name.to_owned()));
    }
    let (client, until) = (connection.client(), Instant::now() + ask.deadline);
    let subject = name.map_or_else(|| verb.subject().to_owned(), |name| format!("{}.{name}", verb.subject()));
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| Server::Subscribe(error.to_string()))?;
    let asked = client.publish_with_reply(subject, inbox, Bytes::new()).await;
    asked.map_err(|error| Server::Connect(error.to_string()))?;
    let mut said = Answers { replicas: Vec::new(), unreadable: 0 };
    let wanted = ask.replicas.unwrap_or(usize::MAX).min(ask.most);
    while said.replicas.len() + said.unreadable < wanted {
        let Ok(Some(answer)) = timeout_at(until, next(&mut answers)).await else { break };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            break;
        }
        match serde_json::from_slice(&answer.payload) {
            Ok(one) => said.replicas.push(one),
            Err(error) => {
                tracing::debug!(%error, "an answer of a service that cannot be read");
                said.unreadable += 1;
            }
        }
    }
    Ok(said)
}
