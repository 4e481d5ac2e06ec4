//! Counts the instructions of every counted row of the table under callgrind, and checks them against the baseline.

mod allocator;
mod check;
mod harness;

use std::env;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocator::Arena = allocator::Arena::new();

fn main() -> ExitCode {
    // Three ways in: the command, the runner it starts, and one function under callgrind.
    let under_callgrind = env::args().nth(1).is_some_and(|argument| argument == "--gungraun-run");
    if under_callgrind || env::var_os(check::RUNNING).is_some() {
        harness::start();
        return ExitCode::SUCCESS;
    }
    match check::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}
