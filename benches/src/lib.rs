//! Scenarios and micro benches: what ringplane costs, on every driver.
