//! Everything the tests share: the simulator, laws of the wire formats, an etcd and a NATS server to test with, fuzz bodies,
//! a model of two connections, and checks of the house rules.

pub mod etcd;
pub mod fuzz;
pub mod house;
pub mod mux_model;
pub mod nats;
pub mod sim;
pub mod wire_laws;
