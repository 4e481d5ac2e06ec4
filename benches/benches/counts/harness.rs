//! The counted rows of the table, each as a function of its own run of callgrind.

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use ringplane_benches::cases::Run;
use ringplane_benches::cases::table::counted;
use ringplane_benches::no_crc;

/// The `nth` counted row, its memory warm.
fn prepared(nth: usize) -> Run {
    counted().get(nth).map(|case| case.warm(no_crc())).expect("the runner counts to the table's length")
}

// One run. The function goes back to whoever gave it, so that dropping it is not counted.
#[library_benchmark(setup = prepared)]
#[benches::row(iter = 0..counted().len())]
fn once(mut run: Run) -> Run {
    run();
    run
}

library_benchmark_group!(name = table, benchmarks = once);
main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = table
);

/// Where the runner puts what callgrind says about the `nth` counted row, below its home.
pub(crate) fn output(nth: usize) -> String {
    format!("ringplane-benches/counts/harness/table/once.row_{nth}/callgrind.once.row_{nth}.out")
}

/// Hands over to the runner, or runs what the runner asks for.
pub(crate) fn start() {
    main();
}
