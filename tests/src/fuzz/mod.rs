//! What each fuzz target asserts, as functions, so that the committed corpora are replayed as ordinary tests too.
//!
//! A target is a function of bytes that panics if a law is broken: a line in the table, a file in `fuzz/fuzz_targets`,
//! a folder in `fuzz/corpus`.

mod ack;
mod connections;
mod control_json;
mod deframer;
mod event;
mod framing;
mod headers;
mod kv_events;
mod mux;
mod request;
mod request_client;
mod request_server;
mod router;
mod stream_fetcher;
mod stream_receiver;
mod stream_sender;
mod table;
mod trace_context;
mod two_part;
mod zmtp;

pub use ack::ack;
pub use connections::connections;
pub use control_json::control_json;
pub use deframer::deframer;
pub use event::event;
pub use headers::headers;
pub use kv_events::kv_events;
pub use mux::mux;
pub use request::request;
pub use request_client::request_client;
pub use request_server::request_server;
pub use router::router;
pub use stream_fetcher::stream_fetcher;
pub use stream_receiver::stream_receiver;
pub use stream_sender::stream_sender;
pub use table::{Body, TARGETS};
pub use trace_context::trace_context;
pub use two_part::two_part;
pub use zmtp::zmtp;
