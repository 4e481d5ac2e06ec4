//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::process;

#[derive(Parser, Debug)]
#[command(name = "ringplane-benches", about = "Compares engines on scenarios")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    #[command(hide = true)]
    ServeEngine,
    #[command(hide = true)]
    LoadEngine,
}

/// Runs the program.
pub fn main() -> ExitCode {
    match Args::parse().command {
        Command::ServeEngine => process::serve(),
        Command::LoadEngine => process::load(),
    }
    ExitCode::SUCCESS
}
