//! ZeroMQ by libzmq as an engine of ringplane's benchmarks: a process of `ringplane-benches` becomes this program.

mod caller;
mod engine;
mod events;
mod server;
mod timers;

use std::process::ExitCode;

use ringplane_benches::process::peer;

use crate::engine::Libzmq;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, order @ ..] = &words[..]
        && first == "events"
    {
        return match events::measure(order) {
            Ok(rate) => {
                println!("{rate:.0}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    peer(|_| Some(&Libzmq))
}
