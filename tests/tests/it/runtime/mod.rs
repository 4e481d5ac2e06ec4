//! What a core shares with other threads, as the facade has it but for the lock, which is loom's: every order of events is tried.

#[allow(dead_code, reason = "the facade uses more of it")]
#[path = "../../../../src/handler/crossing.rs"]
mod answering;
mod cores;
#[path = "../../../../src/runtime/crossing.rs"]
mod crossing;
mod hub;
mod known;
#[path = "../../../../src/runtime/lane.rs"]
mod lane;
mod orders;
mod orders_of_answers;
#[path = "../../../../src/runtime/port.rs"]
mod port;
#[path = "../../../../src/runtime/room.rs"]
mod room;
mod sync;
