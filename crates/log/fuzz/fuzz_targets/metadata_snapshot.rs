//! Any bytes as a snapshot of the metadata log, as far as the log knows of it.

#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let name = "__cluster_metadata-0/00000000000000000000-0000000000.checkpoint";
    common::directory_with(name, bytes);
});
