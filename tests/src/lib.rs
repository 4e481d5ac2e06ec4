//! Everything the tests share: the simulator, laws of the wire formats, fuzz bodies, a
//! model of two connections, and checks of the house rules.

pub mod fuzz;
pub mod house;
pub mod mux_model;
pub mod sim;
pub mod wire_laws;
