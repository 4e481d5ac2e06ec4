//! The command-line tool `ringplane`; its subcommands are in `cli`, one file each.

// The macros that print panic where nobody reads or a disk is full: see `cli::streams` and `cli::stderr`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
