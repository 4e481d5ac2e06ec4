//! The KV-cache events of inference engines: which blocks of which prefixes they hold.
//!
//! vLLM defined the stream, SGLang, TensorRT-LLM and others copy it: batches of events in MessagePack, numbered by their
//! publisher, and a second socket that sends recent batches again. The machines here neither own sockets nor know ZeroMQ:
//!
//! ```text
//!   engine ──▶ Publisher ──▶ live ────────▶ Subscriber ──▶ Output: stored, removed, cleared, missed
//!                  ◀──────── Ask ◀───────────┤
//!                  └───────▶ answers ─────────▶
//! ```
//!
//! Dynamo's routers do not read that stream: each worker tells them of its blocks on the event plane, as [`Announcer`] does.

pub mod announcer;
pub mod batch;
pub mod copies;
pub mod event;
mod fields;
pub mod frames;
pub mod limits;
pub mod publisher;
#[cfg(test)]
mod publisher_tests;
mod ring;
pub mod router;
pub mod source;
pub mod subscriber;
#[cfg(test)]
mod subscriber_tests;
#[cfg(test)]
mod vector_tests;
pub mod write;

pub use announcer::Announcer;
pub use batch::{Batch, EventError};
pub use event::{Event, Removed, Stored, Tier, Tokens};
pub use limits::Limits;
pub use publisher::Publisher;
pub use source::Output;
pub use subscriber::Subscriber;
pub use write::Form;
