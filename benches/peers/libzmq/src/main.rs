//! ZeroMQ by libzmq as an engine of ringplane's benchmarks: a process of `ringplane-benches` becomes this program.

mod caller;
mod engine;
mod server;
mod timers;

use std::process::ExitCode;

use ringplane_benches::process::peer;

use crate::engine::Libzmq;

fn main() -> ExitCode {
    peer(|_| Some(&Libzmq))
}
