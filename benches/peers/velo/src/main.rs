//! velo 0.21 as an engine of ringplane's benchmarks: a process of `ringplane-benches` becomes this program.

mod caller;
mod engine;
mod node;
mod server;

use std::process::ExitCode;

use ringplane_benches::engine::Sides;
use ringplane_benches::process::peer;

use crate::engine::Setting;

fn main() -> ExitCode {
    peer(|name| Some(Box::leak(Box::new(Setting::of(name)?)) as &dyn Sides))
}
