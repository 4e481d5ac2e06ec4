//! The table of engines.

use crate::engine::Engine;
use crate::engines::floor::Floor;
use crate::engines::nats::NatsEngine;
use crate::engines::peers::{DYNAMO, LIBZMQ, PYZMQ, VELO, VELO_BEST, VELO_OTHERS, ZEROMQ_RUST};
use crate::engines::ringplane::{
    CallHome, Facade, IoUring, Monoio, Place, Ringplane, Several, Tokio, TokioUring, Watched,
};
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
    &facade(Place::Core, DriverChoice::IoUring),
    &Several(facade(Place::Core, DriverChoice::IoUring)),
    &facade(Place::Core, DriverChoice::Tokio),
    &facade(Place::Runtime, DriverChoice::IoUring),
    &facade(Place::Runtime, DriverChoice::Tokio),
    &facade(Place::Here, DriverChoice::Tokio),
    &watched(Watched::Propagated),
    #[cfg(feature = "watched")]
    &watched(Watched::Metrics),
    #[cfg(feature = "watched")]
    &watched(Watched::Spans(1)),
    #[cfg(feature = "watched")]
    &watched(Watched::Spans(100)),
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

const fn facade(place: Place, driver: DriverChoice) -> Facade {
    Facade { place, driver, watched: Watched::No }
}

const fn watched(watched: Watched) -> Facade {
    Facade { place: Place::Core, driver: DriverChoice::IoUring, watched }
}

/// The engine called `name`.
pub fn find(name: &str) -> Option<&'static dyn Engine> {
    ALL.iter().copied().find(|engine| engine.name() == name)
}
