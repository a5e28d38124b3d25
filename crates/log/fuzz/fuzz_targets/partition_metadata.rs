//! Any bytes as `partition.metadata`.

#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let directory = common::directory_with("t-0/partition.metadata", bytes);
    let _ = directory.partition_topic_id("t-0");
});
