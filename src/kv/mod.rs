//! What Dynamo's KV routers and planners hear of a worker: which blocks it holds, how much it has to do, and its forward passes.
//!
//! A [`BlockPublisher`] takes the events of an engine's cache, from the engine itself or from its stream over ZeroMQ, and tells
//! routers which prompts the worker has the beginning of. A [`LoadPublisher`] tells how full it is, a [`ForwardPublisher`] how its
//! passes went. All of them publish on the event plane, in Dynamo 1.6.1's form, and never hold up who calls them.
//!
//! ```no_run
#![doc = include_str!("../../examples/kv_publisher.rs")]
//! ```
//!
//! Subscribers of the same topics read them by [`router_events`] and, for what is one value,
//! [`EventValue`](crate::events::EventValue).

mod blocks;
mod error;
mod forward;
mod line;
mod load;
mod payload;
#[cfg(test)]
mod upkeep_tests;

pub use blocks::{BlockConfig, BlockPublisher, BlockStats};
pub use error::PublishError;
pub use forward::ForwardPublisher;
pub use line::LineStats;
pub use load::LoadPublisher;
pub use payload::router_events;
pub use ringplane_core::event::kv::announcer::{KvAnnouncerStats, Untold};
pub use ringplane_core::event::kv::copies::Config as CopiesConfig;
pub use ringplane_core::event::kv::router::{
    BLOCKS, Block, CacheEvent, Change, Extra, FORWARD, ForwardPass, LOAD, Load, MmObject, Queued, RemovedBlocks,
    Residency, RouterEvent, Scheduled, StoredBlocks, tokens_hash,
};
pub use ringplane_core::event::kv::{Event, Output, Removed, Stored, Tier, Tokens};
