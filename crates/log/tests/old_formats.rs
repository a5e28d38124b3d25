//! Logs with message formats 0 and 1, from before Kafka 0.11: opened, searched, and read as format 2.

mod support;

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use support::*;
use tidelog_log::testing::FaultDir;
use tidelog_log::{Log, LogConfig, Recovery, Start};
use tidelog_record::legacy::{LegacyBuilder, LegacyMagic};
use tidelog_record::{Batch, BatchBuilder, Codec, Compression, Record, TimestampType};
use tidelog_types::{Offset, Timestamp};

/// Opens a log whose first segment holds these bytes.
fn open_with(bytes: &[u8], base: i64, config: LogConfig) -> (FaultDir, Log, Recovery) {
    let dir = FaultDir::new();
    dir.put(format!("t-0/{base:020}.log"), bytes);
    let (log, recovery) = open(&dir, &config, Start::NEW);
    (dir, log, recovery)
}

fn records(log: &Log) -> Vec<Record> {
    log.reader()
        .batches(log.log_start_offset(), log.log_end_offset())
        .flat_map(|batch| batch.unwrap().records().unwrap())
        .map(Result::unwrap)
        .collect()
}

fn hex(value: &Value) -> Option<Vec<u8>> {
    let text = value.as_str()?;
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    Some((0..text.len()).step_by(2).map(digits).collect())
}

/// Each record set that Kafka has written, as the first segment of a log.
#[test]
fn the_record_sets_of_kafka_are_read_as_format_2() {
    let path = "../record/testdata/record-sets.jsonl";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let sets = std::fs::read_to_string(path).unwrap();
    let mut old = 0;
    for line in sets.lines() {
        let set: Value = serde_json::from_str(line).unwrap();
        let name = set["name"].as_str().unwrap();
        let batches = set["batches"].as_array().unwrap();
        let base = batches[0]["baseOffset"].as_i64().unwrap();
        let bytes = hex(&set["hex"]).unwrap();
        let (_, log, recovery) = open_with(&bytes, base, LogConfig::default());
        assert_eq!(recovery.cut_bytes, 0, "{name}");
        let found = records(&log);
        let expected = batches
            .iter()
            .flat_map(|batch| batch["records"].as_array().unwrap());
        assert_eq!(found.len(), expected.clone().count(), "{name}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.offset.value(), expected["offset"], "{name}");
            assert_eq!(found.timestamp.as_millis(), expected["timestamp"], "{name}");
            assert_eq!(found.key.as_deref(), hex(&expected["key"]).as_deref());
            assert_eq!(found.value.as_deref(), hex(&expected["value"]).as_deref());
        }
        old += usize::from(batches[0]["magic"] != 2);
    }
    assert!(old > 30, "{old}");
}

const FORMATS: [(LegacyMagic, Codec); 4] = [
    (LegacyMagic::V0, Codec::None),
    (LegacyMagic::V0, Codec::Gzip),
    (LegacyMagic::V1, Codec::None),
    (LegacyMagic::V1, Codec::Snappy),
];

/// Three records at 1000 ms times their offset, where the format has times.
fn message_set(magic: LegacyMagic, codec: Codec, base: i64) -> Vec<u8> {
    let mut builder = LegacyBuilder::new(magic, codec.into())
        .unwrap()
        .base_offset(offset(base));
    for i in 0..3 {
        builder.push(millis((base + i) * 1000), Some(b"k"), Some(b"some value"));
    }
    builder.build().unwrap().to_vec()
}

fn new_batch(base: i64) -> Batch {
    let mut builder = BatchBuilder::new(Compression::NONE).base_offset(offset(base));
    for i in 0..3 {
        builder.push(
            millis((base + i) * 1000),
            Some(b"k"),
            Some(b"some value"),
            &[],
        );
    }
    builder.build().unwrap()
}

/// All formats one behind the other, twice, and whether the record at each offset has a time.
fn mixed() -> (Vec<u8>, Vec<bool>) {
    let mut bytes = Vec::new();
    let mut has_time = Vec::new();
    for _ in 0..2 {
        for (magic, codec) in FORMATS {
            bytes.extend(message_set(magic, codec, has_time.len() as i64));
            has_time.extend([magic == LegacyMagic::V1; 3]);
        }
        bytes.extend_from_slice(new_batch(has_time.len() as i64).bytes());
        has_time.extend([true; 3]);
    }
    (bytes, has_time)
}

#[test]
fn old_and_new_formats_live_in_one_log() {
    let (bytes, has_time) = mixed();
    let count = has_time.len() as i64;
    let config = LogConfig {
        // An index entry for each batch but the first.
        index_interval_bytes: 0,
        ..LogConfig::default()
    };
    let (dir, mut log, recovery) = open_with(&bytes, 0, config.clone());
    assert_eq!(
        (recovery.cut_bytes, log.log_end_offset()),
        (0, offset(count))
    );
    // What is appended now is in format 2.
    log.append_as_leader(&new_batch(0), epoch(4), millis(0))
        .unwrap();
    assert_eq!(log.latest_epoch(), Some(epoch(4)));
    log.close().unwrap();
    for clean in [true, false] {
        let start = Start {
            clean,
            recovery_point: if clean { offset(count + 3) } else { offset(7) },
            ..Start::NEW
        };
        let (log, _) = open(&dir, &config, start);
        check_mixed(&log, &has_time);
    }
}

fn check_mixed(log: &Log, times: &[bool]) {
    let count = times.len() as i64;
    let end = log.log_end_offset();
    assert_eq!(end, offset(count + 3));
    let reader = log.reader();
    let found = records(log);
    let offsets: Vec<_> = found.iter().map(|record| record.offset.value()).collect();
    assert_eq!(offsets, (0..count + 3).collect::<Vec<_>>());
    for (record, has_time) in found.iter().zip(times) {
        let time = record.offset.value() * 1000;
        let expected = if *has_time {
            millis(time)
        } else {
            Timestamp::NONE
        };
        assert_eq!(record.timestamp, expected, "{}", record.offset);
        // Read from each offset on, as a fetch does.
        let slice = reader.read(record.offset, 1 << 20, end, true).unwrap();
        assert!(slice.base_offset <= record.offset);
        let mut first = if slice.is_old_format() {
            slice.read_converted().unwrap()
        } else {
            slice.data.read_all().unwrap()
        };
        let first = Batch::split_from(&mut first).unwrap().unwrap();
        first.verify_crc().unwrap();
        assert!(first.header().base_offset <= record.offset);
        assert!(first.header().last_offset() >= record.offset);
        // And by its time: a record without one is passed over.
        let found = reader
            .offset_for_timestamp(millis(time), end)
            .unwrap()
            .unwrap();
        let later = (record.offset.value()..count).find(|at| times[*at as usize]);
        assert_eq!(Some(found.offset.value()), later, "{}", record.offset);
    }
    let max = reader.max_timestamp(end).unwrap().unwrap();
    assert_eq!(max.offset, offset(count - 1));
}

#[test]
fn a_torn_message_is_cut_and_a_damaged_one_too() {
    let (mut bytes, has_time) = mixed();
    let whole_len = bytes.len();
    bytes.extend(message_set(
        LegacyMagic::V1,
        Codec::None,
        has_time.len() as i64,
    ));
    let end = offset(has_time.len() as i64);
    let (_, log, recovery) = open_with(&bytes[..bytes.len() - 1], 0, LogConfig::default());
    assert_eq!(
        log.log_end_offset(),
        end + 2,
        "two of three messages are whole"
    );
    assert!(recovery.cut_bytes > 0);
    // In the first of them, behind the checksum.
    bytes[whole_len + 20] ^= 1;
    let (_, log, recovery) = open_with(&bytes, 0, LogConfig::default());
    assert_eq!(log.log_end_offset(), end);
    assert_eq!(recovery.cut_bytes as usize, bytes.len() - whole_len);
}

#[test]
fn the_time_of_the_append_counts_where_it_did() {
    let time = millis(77_000);
    let mut builder = LegacyBuilder::new(LegacyMagic::V1, Codec::Gzip.into())
        .unwrap()
        .log_append_time(time);
    for i in 0..3 {
        builder.push(millis(i), None, Some(b"v"));
    }
    let bytes = builder.build().unwrap();
    let (_, log, _) = open_with(&bytes, 0, LogConfig::default());
    assert!(records(&log).iter().all(|record| record.timestamp == time));
    let found = log
        .reader()
        .offset_for_timestamp(millis(5), log.log_end_offset());
    assert_eq!(found.unwrap().unwrap().offset, Offset::ZERO);
    let batch = log.reader().batches(Offset::ZERO, offset(3)).next();
    let attributes = batch.unwrap().unwrap().header().attributes;
    assert_eq!(attributes.timestamp_type(), TimestampType::LogAppendTime);
}

#[test]
fn a_segment_without_any_time_is_opened_cleanly() {
    let bytes = message_set(LegacyMagic::V0, Codec::None, 0);
    let (dir, mut log, _) = open_with(&bytes, 0, LogConfig::default());
    log.close().unwrap();
    let start = Start {
        clean: true,
        recovery_point: offset(3),
        ..Start::NEW
    };
    let opened = Log::open(Arc::new(dir), "t-0", LogConfig::default(), start, now());
    let (log, recovery) = opened.unwrap();
    assert_eq!(recovery.scanned_bytes, 0);
    let end = log.log_end_offset();
    assert_eq!(
        log.reader().offset_for_timestamp(millis(0), end).unwrap(),
        None
    );
}

/// Found by fuzzing: who went on behind the records found the same wrapper again, for ever.
#[test]
fn a_wrapper_that_reaches_further_than_its_records_is_read_once() {
    let mut bytes = message_set(LegacyMagic::V0, Codec::Gzip, 0);
    // The offset lies outside of the checksum's reach.
    bytes[..8].copy_from_slice(&9_i64.to_be_bytes());
    let (_, log, _) = open_with(&bytes, 0, LogConfig::default());
    assert_eq!(log.log_end_offset(), offset(10));
    let batches: Vec<_> = contents(&log);
    assert_eq!(batches.len(), 1);
    let batch = Batch::parse(batches[0].clone()).unwrap();
    assert_eq!(batch.header().next_offset(), offset(10));
    assert_eq!(records(&log).len(), 3);
    // One that ends before its records cannot be part of a log.
    bytes[..8].copy_from_slice(&1_i64.to_be_bytes());
    let (_, log, _) = open_with(&bytes, 0, LogConfig::default());
    let end = log.log_end_offset();
    let mut batches = log.reader().batches(Offset::ZERO, end);
    assert!(batches.next().unwrap().is_err());
    assert!(batches.next().is_none());
}
