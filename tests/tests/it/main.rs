//! The integration tests, in one binary.

mod corpus;
mod facade;
mod faces;
mod layering;
mod mux_schedules;
mod operations_doc;
mod readme;
mod sim_calls;
mod sim_links;
mod state_tables;
mod wire_doc;
mod sim_million;
mod wire_dynamo;
mod wire_mux;
