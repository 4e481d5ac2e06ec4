//! Everything the tests share: the simulator, laws of the wire formats, and fuzz bodies.

pub mod fuzz;
pub mod sim;
pub mod wire_laws;
