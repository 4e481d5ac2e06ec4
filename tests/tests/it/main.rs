//! The integration tests, in one binary.

mod corpus;
mod facade;
mod faces;
mod layering;
mod mux_schedules;
mod sim_calls;
mod sim_links;
mod wire_doc;
mod wire_dynamo;
mod wire_mux;
