//! Any bytes as a segment, of any message format, also with checksums that fit. The log keeps the batches up to the first
//! that is not whole, and says what it cut.

#![no_main]

mod common;

use std::path::Path;

use common::{CRASHED, FOLDER, ask, closed, contents, open};
use tidelog_log::inspect::{Content, read};
use tidelog_log::testing::FaultDir;
use tidelog_log::verify::{Depth, verify};
use tidelog_record::crc::{crc32, crc32c};
use tidelog_record::{AnyBatch, AnyHeader};
use tidelog_types::Offset;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    check(&sealed(bytes));
});

fn check(bytes: &[u8]) {
    let path = format!("{FOLDER}/00000000000000000000.log");
    let dir = FaultDir::new();
    dir.put(&path, bytes);
    let _ = verify(&dir, &Depth { records: true }, &mut |_| {});
    let (end, position) = whole(&dir, Path::new(&path));
    let (mut log, recovery) = open(&dir, CRASHED).expect("a log that was cut is a log");
    assert_eq!(log.log_end_offset(), end);
    if recovery.cut_bytes > 0 {
        assert_eq!(recovery.cut_bytes, bytes.len() as u64 - position);
        assert!(recovery.cut_reason.is_some());
    }
    ask(&mut log);
    let before = contents(&log);
    log.close().unwrap();
    let (log, _) = open(&dir, closed(end)).expect("it was closed right now");
    assert_eq!(contents(&log), before);
    let dir = FaultDir::new();
    dir.put(&path, bytes);
    if let Some((mut log, _)) = open(&dir, closed(end)) {
        ask(&mut log);
    }
}

/// Up to which offset, and where in the file, the batches are whole and in order.
fn whole(dir: &FaultDir, path: &Path) -> (Offset, u64) {
    let Ok(Content::Batches(batches)) = read(dir, path) else {
        panic!("a segment holds batches");
    };
    let (mut end, mut position) = (Offset::ZERO, 0);
    for stored in batches.map_while(Result::ok) {
        let header = stored.batch.header();
        let first = header.base_offset().unwrap_or_else(|| header.last_offset());
        let is_sound = match &stored.batch {
            AnyBatch::V2(batch) => batch.header().check_offsets().is_ok(),
            AnyBatch::Legacy(_) => header.last_offset().value() < i64::MAX,
        };
        let fits = first >= end && header.last_offset().value() <= i64::from(i32::MAX);
        if stored.checksum.is_err() || !is_sound || !fits {
            break;
        }
        end = header.next_offset();
        position = stored.position + header.size() as u64;
    }
    (end, position)
}

/// The bytes with the checksums that each batch should have.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Ok(header) = AnyHeader::decode(&bytes[at..]) {
        let Some(batch) = bytes[at..].get_mut(..header.size()) else {
            break;
        };
        match header {
            AnyHeader::Legacy(_) => {
                let crc = crc32(&batch[16..]);
                batch[12..16].copy_from_slice(&crc.to_be_bytes());
            }
            AnyHeader::V2(_) => {
                let crc = crc32c(&batch[21..]);
                batch[17..21].copy_from_slice(&crc.to_be_bytes());
            }
        }
        at += header.size();
    }
    bytes
}
