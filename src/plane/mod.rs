//! How requests reach a worker: over TCP, by a broker, by HTTP.

pub(crate) mod built;
#[cfg_attr(not(all(feature = "http", feature = "nats")), allow(dead_code, reason = "each plane uses its part"))]
pub(crate) mod carriers;
#[cfg(feature = "http")]
pub(crate) mod http;
#[cfg_attr(
    not(any(feature = "http", feature = "nats")),
    allow(dead_code, reason = "over TCP the cores take requests in")
)]
pub(crate) mod intake;
pub(crate) mod name;
#[cfg(feature = "nats")]
pub(crate) mod nats;
pub(crate) mod plane;
pub(crate) mod tcp;
