//! What others see of a process, with a collector of the test's own.

pub(crate) mod collector;
mod export;
mod spans;
