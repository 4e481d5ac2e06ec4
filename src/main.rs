//! The command-line tool `ringplane`; its subcommands are in `cli`, one file each.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
