//! Every rule of the ringplane protocols as sans-IO state machines.
//!
//! This crate owns no clock, socket, environment, thread or allocator of its own choosing: time, randomness,
//! configuration and bytes are arguments. Drivers (`ringplane-io-uring`, `ringplane-tokio`, the simulator in
//! `ringplane-tests`) move bytes and time into the machines and effects out of them.
//!
//! Floors, each importing only from the ones below it:
//!
//! | floor | modules |
//! |---|---|
//! | roof | [`config`] |
//! | 6 | [`local`] |
//! | 5 | [`caller`], [`worker`]; on these two, [`node`]; beside them [`observer`] |
//! | 4 | [`protocol`]; [`mux`], [`dynamo`], [`route`], `links` |
//! | 3 | [`task`] |
//! | 2 | [`buf`], [`retry`], [`discovery`], [`event`] |
//! | ground | [`time`], [`chain`], [`id`], [`rng`], [`stats`], `log`, [`wire`] |
//!
//! Without the `alloc` feature the ground floor, [`retry`] and selection in [`route`] remain, on borrowed slices.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::std_instead_of_core,
        clippy::std_instead_of_alloc
    )
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[macro_use]
mod log;

#[cfg(feature = "alloc")]
pub mod buf;
#[cfg(feature = "alloc")]
pub mod caller;
pub mod chain;
#[cfg(feature = "alloc")]
pub mod config;
#[cfg(feature = "alloc")]
pub mod discovery;
#[cfg(feature = "alloc")]
pub mod dynamo;
#[cfg(feature = "alloc")]
pub mod event;
pub mod id;
#[cfg(feature = "alloc")]
mod links;
#[cfg(feature = "alloc")]
pub mod local;
#[cfg(feature = "alloc")]
pub mod mux;
#[cfg(feature = "alloc")]
pub mod node;
#[cfg(feature = "alloc")]
pub mod observer;
#[cfg(feature = "alloc")]
pub mod overload;
#[cfg(feature = "alloc")]
pub mod protocol;
pub mod retry;
pub mod rng;
pub mod route;
pub mod stats;
#[cfg(feature = "alloc")]
pub mod task;
#[cfg(all(test, feature = "alloc"))]
mod tests;
pub mod time;
pub mod wire;
#[cfg(feature = "alloc")]
pub mod worker;
