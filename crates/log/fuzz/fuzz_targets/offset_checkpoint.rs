//! Any bytes as a file with an offset for each partition: what is read is written and read again.

#![no_main]

mod common;

use tidelog_log::Checkpoint;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for checkpoint in Checkpoint::ALL {
        let directory = common::directory_with(checkpoint.file_name(), bytes);
        let Ok(offsets) = directory.read_checkpoint(checkpoint) else {
            continue;
        };
        let lines = offsets
            .iter()
            .map(|(partition, offset)| (partition, *offset));
        directory.write_checkpoint(checkpoint, lines).unwrap();
        assert_eq!(directory.read_checkpoint(checkpoint).unwrap(), offsets);
    }
});
