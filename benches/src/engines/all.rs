//! The table of engines.

use crate::engine::Engine;
use crate::engines::floor::Floor;
use crate::engines::nats::NatsEngine;
use crate::engines::peers::{DYNAMO, LIBZMQ, PYZMQ, VELO, VELO_BEST, VELO_OTHERS, ZEROMQ_RUST};
use crate::engines::ringplane::{CallHome, Facade, IoUring, Monoio, Place, Ringplane, Tokio, TokioUring};
use crate::engines::tonic::Tonic;
use ringplane::DriverChoice;

/// Every engine, in the order in which they are shown and run.
pub static ALL: &[&dyn Engine] = &[
    &Floor::Epoll,
    &Floor::Uring,
    &Ringplane(IoUring),
    &Ringplane(Tokio),
    &Ringplane(Monoio),
    &Ringplane(TokioUring),
    &Facade { place: Place::Core, driver: DriverChoice::IoUring },
    &Facade { place: Place::Core, driver: DriverChoice::Tokio },
    &Facade { place: Place::Runtime, driver: DriverChoice::IoUring },
    &Facade { place: Place::Runtime, driver: DriverChoice::Tokio },
    &CallHome(IoUring),
    &CallHome(Tokio),
    &Tonic,
    &NatsEngine,
    &VELO,
    &VELO_BEST,
    &VELO_OTHERS[0],
    &VELO_OTHERS[1],
    &VELO_OTHERS[2],
    &VELO_OTHERS[3],
    &VELO_OTHERS[4],
    &VELO_OTHERS[5],
    &LIBZMQ,
    &ZEROMQ_RUST,
    &PYZMQ,
    &DYNAMO,
];

/// The engine called `name`.
pub fn find(name: &str) -> Option<&'static dyn Engine> {
    ALL.iter().copied().find(|engine| engine.name() == name)
}
