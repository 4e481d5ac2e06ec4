//! How events travel.

use std::sync::Arc;

use ringplane_tokio::event::{InProc, Transport};

use crate::events::mux::MuxConfig;

/// How events travel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventPlane {
    /// Within the process: to all that use the same place.
    InProc(InProc),
    /// By a NATS server, as Dynamo's.
    #[cfg(feature = "nats")]
    Nats(Box<ringplane_tokio::event::NatsConfig>),
    /// By ZeroMQ, from publishers to subscribers or through brokers, as Dynamo's.
    #[cfg(feature = "zmq")]
    Zmq(Box<ringplane_tokio::event::zmq::ZmqConfig>),
    /// Over the connections of calls, between ringplane processes that meet in discovery.
    Mux(Box<MuxConfig>),
    /// By a transport that is there already.
    Transport(Arc<dyn Transport>),
}

impl Default for EventPlane {
    /// Within the process, at the place that has no name.
    fn default() -> Self {
        Self::InProc(InProc::named(""))
    }
}

#[cfg(feature = "nats")]
impl From<ringplane_tokio::event::NatsConfig> for EventPlane {
    fn from(config: ringplane_tokio::event::NatsConfig) -> Self {
        Self::Nats(Box::new(config))
    }
}

#[cfg(feature = "nats")]
impl From<ringplane_tokio::nats::Config> for EventPlane {
    /// By this server, with the default bounds.
    fn from(server: ringplane_tokio::nats::Config) -> Self {
        Self::Nats(Box::new(server.into()))
    }
}

#[cfg(feature = "zmq")]
impl From<ringplane_tokio::event::zmq::ZmqConfig> for EventPlane {
    fn from(config: ringplane_tokio::event::zmq::ZmqConfig) -> Self {
        Self::Zmq(Box::new(config))
    }
}

impl From<InProc> for EventPlane {
    fn from(place: InProc) -> Self {
        Self::InProc(place)
    }
}

impl From<Arc<dyn Transport>> for EventPlane {
    fn from(transport: Arc<dyn Transport>) -> Self {
        Self::Transport(transport)
    }
}

impl From<MuxConfig> for EventPlane {
    fn from(config: MuxConfig) -> Self {
        Self::Mux(Box::new(config))
    }
}
