//! The laws of `ringplane_tests::fuzz::router` on random bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringplane_tests::fuzz::router(data));
