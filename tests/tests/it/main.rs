//! The integration tests, in one binary.

mod corpus;
mod wire_dynamo;
