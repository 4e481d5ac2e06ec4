//! The laws of `ringplane_tests::fuzz::zmtp` on random bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringplane_tests::fuzz::zmtp(data));
