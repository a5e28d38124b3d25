//! Any bytes as `leader-epoch-checkpoint`.

#![no_main]

mod common;

use common::{FOLDER, WHOLE, ask, closed, contents, directory, open};
use tidelog_log::verify::{Depth, verify};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for start in [
        common::CRASHED,
        closed(WHOLE.last().unwrap().header().next_offset()),
    ] {
        let dir = directory();
        dir.put(format!("{FOLDER}/leader-epoch-checkpoint"), bytes);
        let _ = verify(&dir, &Depth::default(), &mut |_| {});
        let (mut log, _) = open(&dir, start).expect("the batches are whole");
        assert_eq!(contents(&log), *WHOLE);
        for entry in log.leader_epochs() {
            let _ = log.end_offset_for(entry.epoch);
        }
        ask(&mut log);
    }
});
