//! Events: what publishers say to all that listen, in Dynamo's form, with nothing lost silently.
//!
//! A [`Publisher`] numbers what it publishes and seals each event in an [`Envelope`]. Transports carry envelopes by
//! [`Subject`]; over ZeroMQ in a [`Frame`]. What a subscriber takes from them goes through an [`Inbox`], which has a bound,
//! drops what has been delivered before, and tells of each event that is missing. What a publisher keeps in a [`replay::Ring`]
//! fills gaps before they are told.
//!
//! Engines' events about their KV caches have a form of their own, [`kv`]. A connection of a ZeroMQ socket is [`zmtp`].
//!
//! Transports belong to `ringplane-tokio`.

pub mod envelope;
pub mod frame;
pub mod inbox;
#[cfg(test)]
mod inbox_tests;
pub mod kv;
pub mod message;
pub mod observer;
pub mod publisher;
pub mod replay;
pub mod subject;
pub mod tracker;
#[cfg(test)]
mod tracker_tests;
pub mod zmtp;

pub use envelope::Envelope;
pub use frame::Frame;
pub use inbox::{Delivery, Inbox};
pub use message::Message;
pub use observer::EventObserver;
pub use publisher::Publisher;
pub use subject::Subject;
pub use tracker::{Gap, Tracker};
