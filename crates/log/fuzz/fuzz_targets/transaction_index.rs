//! Any bytes as a `.txnindex` file.

#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| common::damage_beside_the_batches("txnindex", bytes));
