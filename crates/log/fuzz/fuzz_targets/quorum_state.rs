//! Any bytes as `quorum-state`: what is read is written and read again.

#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = "__cluster_metadata-0";
    let directory = common::directory_with("__cluster_metadata-0/quorum-state", bytes);
    if let Ok(Some(state)) = directory.read_quorum_state(folder) {
        directory.write_quorum_state(folder, &state).unwrap();
        assert_eq!(directory.read_quorum_state(folder).unwrap(), Some(state));
    }
});
