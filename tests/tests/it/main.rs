//! The integration tests, in one binary.

mod corpus;
mod mux_schedules;
mod wire_doc;
mod wire_dynamo;
mod wire_mux;
