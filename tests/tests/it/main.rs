//! The integration tests, in one binary.

mod conformance_doc;
mod corpus;
mod dynamo_states;
mod events;
mod facade;
mod faces;
mod layering;
mod layers;
mod leaving;
mod mux_schedules;
mod operations_doc;
mod operations_doc_zmq;
mod parity;
mod pausing;
mod readme;
mod router_table;
mod runtime;
mod sim_calls;
mod sim_fleet;
mod sim_links;
mod sim_million;
mod state_tables;
mod wire_doc;
mod wire_dynamo;
mod wire_events;
mod wire_mux;
