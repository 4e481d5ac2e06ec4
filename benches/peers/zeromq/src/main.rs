//! ZeroMQ by the crate zeromq as an engine of ringplane's benchmarks: a process of `ringplane-benches` becomes this program.

mod engine;

use std::process::ExitCode;

use ringplane_benches::process::peer;

use crate::engine::Zeromq;

fn main() -> ExitCode {
    peer(|_| Some(&Zeromq))
}
