//! The integration tests, in one binary.

mod corpus;
mod sim_links;
mod wire_dynamo;
