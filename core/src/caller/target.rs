//! Where an instance is, and how requests reach it.

use alloc::string::String;
use alloc::sync::Arc;
use core::net::SocketAddr;

use crate::route::labels::Labels;
use crate::wire::codec::Codec;

/// Where an instance is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Whom to dial.
    pub addr: SocketAddr,
    /// The path it serves.
    pub path: Arc<str>,
    /// Whether it offers mux.
    pub mux: bool,
    /// How payloads are encoded if it does not.
    pub codec: Codec,
    /// How requests reach it if it does not.
    pub transport: Transport,
    /// What policies are told of it.
    pub labels: Labels,
}

impl Target {
    /// An instance that offers mux.
    pub fn mux(addr: SocketAddr, path: impl Into<Arc<str>>) -> Self {
        Self {
            addr,
            path: path.into(),
            mux: true,
            codec: Codec::Msgpack,
            transport: Transport::Tcp,
            labels: Labels::NONE,
        }
    }

    /// An instance that speaks Dynamo's protocol only.
    pub fn call_home(addr: SocketAddr, path: impl Into<Arc<str>>, codec: Codec) -> Self {
        Self { addr, path: path.into(), mux: false, codec, transport: Transport::Tcp, labels: Labels::NONE }
    }
}

/// How requests in Dynamo's protocol reach an instance.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum Transport {
    /// In frames on a connection to its address.
    #[default]
    Tcp,
    /// In messages of a NATS server.
    Nats {
        /// The subject its record names.
        subject: String,
        /// Where a Dynamo worker listens, if that is another one: tried when nobody listens to the subject.
        slug: Option<String>,
    },
    /// In HTTP requests to this URL.
    Http(String),
}

impl Transport {
    /// `tcp`, `nats` or `http`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Nats { .. } => "nats",
            Self::Http(_) => "http",
        }
    }
}
