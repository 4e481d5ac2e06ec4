//! A replica of a service: what answers for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_nats::{Client, Message, Subscriber};
use ringplane_core::discovery::instance::slug;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::nats::connect::next;
use crate::nats::connection::Connection;
use crate::nats::error::Error as Server;
use crate::random::random_u64;
use crate::service::clock::rfc3339;
use crate::service::error::Error;
use crate::service::said::{EndpointInfo, Info, Named, Ping, Stats};
use crate::service::tally::Tally;

/// What a service is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Config {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// Its version, as `1.2.3`.
    pub version: String,
    /// What it is, for people.
    pub description: String,
    /// Whatever else it says of itself.
    pub metadata: BTreeMap<String, String>,
    /// What it serves.
    pub endpoints: Vec<Endpoint>,
}

/// One thing that a service serves. Its requests are the application's own business; the service tells of them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// Where requests go.
    pub subject: String,
    /// Of several that listen there one in this group gets a request.
    pub queue_group: String,
    /// Whatever else it says of itself.
    pub metadata: BTreeMap<String, String>,
}

/// A replica of a service: it answers pings, and questions what it serves and has done. It ends when it is dropped.
pub struct Service {
    replica: Arc<Replica>,
    _stop: DropGuard,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replica { config, id, .. } = &*self.replica;
        f.debug_struct("Service").field("name", &config.name).field("id", id).finish_non_exhaustive()
    }
}

/// The name of the service that a worker's component is, by Dynamo's rule: `namespace_component`, in small letters, with `_` for
/// what no subject has.
pub fn service_name(namespace: &str, component: &str) -> String {
    slug(&format!("{namespace}_{component}"))
}

impl Service {
    /// Answers from now on, on the tokio runtime it is called from.
    ///
    /// # Errors
    /// [`Error::Name`], and [`Error::Server`] if the server takes no subscription.
    pub async fn start(connection: &Connection, config: Config) -> Result<Self, Error> {
        let service = serve(connection.client(), config).await?;
        connection.flush().await;
        Ok(service)
    }

    /// The replica.
    pub fn id(&self) -> &str {
        &self.replica.id
    }

    /// Counts for an endpoint, by its place in [`Config::endpoints`].
    pub fn tally(&self, endpoint: usize) -> Option<Tally> {
        self.replica.tallies.get(endpoint).cloned()
    }
}

/// [`Service::start`] without waiting for the server to know of it.
pub(crate) async fn serve(client: &Client, config: Config) -> Result<Service, Error> {
    if !is_legal(&config.name) {
        return Err(Error::Name(config.name));
    }
    let tallies = config.endpoints.iter().map(|_| Tally::default()).collect();
    let (id, started) = (format!("{:016x}{:016x}", random_u64(), random_u64()), rfc3339(SystemTime::now()));
    let replica = Arc::new(Replica { config, id, started, tallies });
    let mut answering = JoinSet::new();
    for verb in Verb::ALL {
        for subject in replica.subjects(verb) {
            let subscribed = client.subscribe(subject).await;
            let subscriber = subscribed.map_err(|error| Server::Subscribe(error.to_string()))?;
            answering.spawn(answer(client.clone(), subscriber, verb, Arc::clone(&replica)));
        }
    }
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        // They end with the set.
        let _answering = answering;
        stopped.cancelled().await;
    });
    Ok(Service { replica, _stop: stop.drop_guard() })
}

/// Whether a service may have this name.
pub(super) fn is_legal(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// A replica, and what it has to say.
struct Replica {
    config: Config,
    id: String,
    started: String,
    tallies: Vec<Tally>,
}

/// What a service is asked.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Ping,
    Info,
    Stats,
}

impl Verb {
    const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];

    /// Where all services are asked.
    pub(super) const fn subject(self) -> &'static str {
        match self {
            Self::Ping => "$SRV.PING",
            Self::Info => "$SRV.INFO",
            Self::Stats => "$SRV.STATS",
        }
    }
}

impl Replica {
    /// Where all services are asked, those of one name, and one replica.
    fn subjects(&self, verb: Verb) -> [String; 3] {
        let (all, name, id) = (verb.subject(), &self.config.name, &self.id);
        [all.to_owned(), format!("{all}.{name}"), format!("{all}.{name}.{id}")]
    }

    fn said(&self, verb: Verb) -> Vec<u8> {
        let Config { name, version, description, metadata, endpoints } = self.config.clone();
        let id = self.id.clone();
        match verb {
            Verb::Ping => written("io.nats.micro.v1.ping_response", &Ping { name, id, version, metadata }),
            Verb::Info => {
                let endpoint = |Endpoint { name, subject, queue_group, metadata }| EndpointInfo {
                    name,
                    subject,
                    queue_group,
                    metadata,
                };
                let endpoints = endpoints.into_iter().map(endpoint).collect();
                let info = Info { name, id, description, version, metadata, endpoints };
                written("io.nats.micro.v1.info_response", &info)
            }
            Verb::Stats => {
                let counted = endpoints.iter().zip(&self.tallies);
                let stats = |(endpoint, tally): (&Endpoint, &Tally)| {
                    tally.stats(&endpoint.name, &endpoint.subject, &endpoint.queue_group)
                };
                let (endpoints, started) = (counted.map(stats).collect(), self.started.clone());
                let stats = Stats { name, id, version, metadata, started, endpoints };
                written("io.nats.micro.v1.stats_response", &stats)
            }
        }
    }
}

fn written<T: Serialize>(kind: &'static str, said: &T) -> Vec<u8> {
    serde_json::to_vec(&Named { kind, said }).expect("texts and numbers are JSON")
}

async fn answer(client: Client, mut subscriber: Subscriber, verb: Verb, replica: Arc<Replica>) {
    while let Some(Message { reply, .. }) = next(&mut subscriber).await {
        let Some(reply) = reply else { continue };
        if let Err(error) = client.publish(reply, replica.said(verb).into()).await {
            tracing::debug!(%error, "a service could not answer");
        }
    }
}
