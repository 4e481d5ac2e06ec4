//! The command-line tool `ringplane`: what it takes (`args`), what it answers (`exit`), and one file per subcommand.
//!
//! The environment is read here and nowhere below.

// The macros that print panic where nobody reads or a disk is full: see `streams` and `stderr`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod absent;
mod alive;
mod args;
mod asked;
mod bench;
mod builtin;
mod call;
mod decode;
mod demo;
mod discover;
mod doctor;
mod environment;
mod event_plane;
mod exec;
mod exit;
mod input;
mod limits;
mod lines;
mod model;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
mod object;
mod observe;
mod options;
mod output;
mod payload;
mod place;
mod progress;
mod publish;
#[cfg(feature = "nats")]
mod queue;
mod record;
mod serve;
mod status;
mod stderr;
mod streams;
mod subscribe;
mod times;
mod top;
#[cfg(feature = "zmq")]
mod zmq_broker;

fn main() -> std::process::ExitCode {
    args::run()
}
