//! Dynamo 1.6.1 as an engine of ringplane's benchmarks: a process of `ringplane-benches` becomes this program.

mod engine;
mod item;

use std::process::ExitCode;

use ringplane_benches::process::peer;

use crate::engine::Dynamo;

fn main() -> ExitCode {
    peer(|_| Some(&Dynamo))
}
