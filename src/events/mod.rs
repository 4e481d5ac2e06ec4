//! Events: publishers say what happens, and whoever subscribes hears all of it, or what is missing.
//!
//! [`Events`] is the way in: it publishes and subscribes by a scope (`namespace`, `namespace.component` or
//! `namespace.component.endpoint`) and a topic. An [`EventPlane`] says how events travel. A subscriber is told each event of its
//! topic in the order of its publisher, and of each that did not arrive: see [`Delivery`]. What is missing shows by the numbers of what
//! comes; losses behind the last event that arrives are told once another does, over mux at once, or once there is a connection.
//! A publisher may keep events ([`Speak::replay`]) for subscribers that [ask for them again](Listen::replay).
//!
//! ```
#![doc = include_str!("../../examples/publisher.rs")]
//! ```
//!
//! ```no_run
#![doc = include_str!("../../examples/subscriber.rs")]
//! ```

mod ask;
pub(crate) mod entry;
mod homes;
mod mux;
pub(crate) mod plane;
pub(crate) mod publisher;
#[cfg(feature = "serde")]
mod value;
mod within;

pub use entry::{Events, EventsBuilder};
pub use mux::MuxConfig;
pub use plane::EventPlane;
pub use publisher::{EventPublisher, Speak};
pub use ringplane_core::discovery::event::{PublisherId, Scope};
pub use ringplane_core::event::inbox::{Config as InboxConfig, Delivery, Slow, Stats};
pub use ringplane_core::event::message::Message;
pub use ringplane_core::event::observer::{Consumed, EventObserver, Publishing, Underway};
pub use ringplane_core::event::replay::Config as ReplayConfig;
pub use ringplane_core::event::subject::Subject;
pub use ringplane_core::event::tracker::{Counters, Gap};
pub use ringplane_tokio::event::{Error, Feeder, InProc, Kind, Listen, Subscription, Transport, subscription};
#[cfg(feature = "nats")]
pub use ringplane_tokio::event::{Nats, NatsConfig};
#[cfg(feature = "serde")]
pub use value::EventValue;
