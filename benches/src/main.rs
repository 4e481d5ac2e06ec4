//! The program that compares engines on scenarios.

fn main() -> std::process::ExitCode {
    ringplane_benches::cli::main()
}
