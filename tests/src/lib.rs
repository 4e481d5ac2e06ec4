//! Everything the tests share: laws of the wire formats, and what the fuzz targets assert.

pub mod fuzz;
pub mod mux_model;
pub mod wire_laws;
