//! The command-line tool: what it takes ([`args`]), what it answers ([`exit`]), and one file per subcommand.
//!
//! The environment is read here and nowhere below.

mod args;
mod builtin;
mod call;
mod decode;
mod demo;
mod discover;
mod doctor;
mod environment;
mod exec;
mod exit;
mod limits;
mod lines;
mod output;
mod payload;
mod place;
mod serve;
mod signals;
mod stderr;
mod streams;

pub(crate) use args::run;
