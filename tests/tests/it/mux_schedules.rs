//! Random schedules of two mux connections against the model.

use ringplane_core::rng::Rng;
use ringplane_tests::fuzz::connections;

/// A schedule of `seed`: honest ones three times out of four, mostly long enough to fill windows and pools.
fn schedule(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let len = rng.below(300);
    (0..3 + len).map(|_| rng.below(256) as u8).collect()
}

#[test]
fn every_random_schedule_ends_as_the_model_says() {
    for seed in 0..2000 {
        println!("seed {seed}");
        connections(&schedule(seed));
    }
}
