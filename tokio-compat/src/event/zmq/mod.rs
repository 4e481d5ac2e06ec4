//! ZeroMQ: sockets that speak ZMTP 3.1, events from publisher to subscriber and by way of a broker, and KV-cache events with replay.

mod broker;
mod brokers;
mod config;
mod connection;
mod endpoint;
mod kv_publisher;
mod kv_subscriber;
#[cfg(test)]
mod kv_tests;
mod lane;
mod plane;
mod shared;
mod socket;
#[cfg(test)]
mod socket_tests;
mod start;

pub use broker::{Broker, BrokerConfig};
pub use brokers::{BadBrokers, Brokers, Way};
pub use config::Config;
pub use endpoint::{BadEndpoint, Endpoint};
pub use kv_publisher::{KvPublisher, KvPublisherConfig};
pub use kv_subscriber::{KvSubscriber, KvSubscriberConfig, MAX_SEARCHES};
pub use lane::{Message, Pushed};
pub use plane::{BROKER_COMPONENT, Zmq, ZmqConfig};
pub use shared::{Down, Incoming, What, ZmqStats};
pub use socket::Socket;
pub use start::StartError;
