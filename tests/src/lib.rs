//! Everything the tests share: the simulator, laws of the wire formats, fuzz bodies, a model of two connections, a meter of
//! bytes, and checks of the house rules.

pub mod fuzz;
pub mod house;
pub mod meter;
pub mod mux_model;
pub mod sim;
pub mod wire_laws;
