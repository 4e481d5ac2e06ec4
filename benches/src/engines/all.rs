//! The table of engines.

use crate::engine::Engine;
use crate::engines::dynamo::Dynamo;
use crate::engines::floor::Floor;
use crate::engines::nats::NatsEngine;
use crate::engines::ringplane::{CallHome, IoUring, Monoio, Ringplane, Tokio, TokioUring};
use crate::engines::tonic::Tonic;

/// Every engine, in the order in which they are shown and run.
pub static ALL: &[&dyn Engine] = &[
    &Floor::Epoll,
    &Floor::Uring,
    &Ringplane(IoUring),
    &Ringplane(Tokio),
    &Ringplane(Monoio),
    &Ringplane(TokioUring),
    &CallHome(IoUring),
    &CallHome(Tokio),
    &Tonic,
    &NatsEngine,
    &Dynamo,
];

/// The engine called `name`.
pub fn find(name: &str) -> Option<&'static dyn Engine> {
    ALL.iter().copied().find(|engine| engine.name() == name)
}
