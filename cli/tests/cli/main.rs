//! The tool as its users run it: processes that talk, and how they end. Every process is ended by its own id.

mod bench;
#[cfg(feature = "zmq")]
mod broker;
mod calls;
mod deploy;
mod dynamo;
mod endings;
mod environment;
mod events;
mod examples;
mod exec;
mod exec_workers;
mod hosts;
mod inspect;
mod models;
#[cfg(feature = "nats")]
mod nats;
mod readme;
mod streams;
mod support;
mod surroundings;
mod top;
