//! What a core shares with other threads, as the facade has it but for the hubs, which belong to tokio: for rows that count
//! its instructions.
#![allow(dead_code, unused_imports, reason = "the facade uses more of it")]

#[path = "../../../src/runtime/crossing.rs"]
pub(crate) mod crossing;
#[path = "../../../tests/tests/it/runtime/hub.rs"]
pub(crate) mod hub;
#[path = "../../../tests/tests/it/runtime/known.rs"]
pub(crate) mod known;
#[path = "../../../src/runtime/lane.rs"]
pub(crate) mod lane;
#[path = "../../../src/runtime/port.rs"]
pub(crate) mod port;
#[path = "../../../src/runtime/room.rs"]
pub(crate) mod room;
#[path = "../../../src/runtime/sync.rs"]
pub(crate) mod sync;
