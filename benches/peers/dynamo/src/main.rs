//! Dynamo 1.6.1 as an engine of ringplane's benchmarks: a process of `ringplane-benches` becomes this program.

mod engine;
mod item;

use std::env::args;
use std::process::ExitCode;

use ringplane_benches::process::{load_as, serve_as};

use crate::engine::Dynamo;

fn main() -> ExitCode {
    let [role, order] = args().skip(1).collect::<Vec<_>>().try_into().unwrap_or_default();
    match role.as_str() {
        "serve-engine" => serve_as(&Dynamo, &order),
        "load-engine" => load_as(&Dynamo, &order),
        _ => eprintln!("run it with `ringplane-benches run --engines dynamo`"),
    }
    ExitCode::FAILURE
}
