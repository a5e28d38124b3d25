#![allow(dead_code, reason = "each test takes what it needs")]

use std::time::Instant;

use bytes::Bytes;
use tidelog_log::testing::FaultDir;
use tidelog_log::{Log, LogConfig, Recovery, Start};
use tidelog_record::{Batch, BatchBuilder, Compression};
use tidelog_types::{LeaderEpoch, Now, Offset, ProducerEpoch, ProducerId, Timestamp};

/// A wall clock that stands still; nothing here depends on the monotonic one.
pub(crate) fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(1_700_000_000_000),
    }
}

pub(crate) fn offset(value: i64) -> Offset {
    Offset::new(value)
}

pub(crate) fn epoch(value: i32) -> LeaderEpoch {
    LeaderEpoch::new(value)
}

pub(crate) fn millis(value: i64) -> Timestamp {
    Timestamp::from_millis(value)
}

/// A batch with one record for each timestamp, each with a value of this size.
pub(crate) fn batch(timestamps: &[i64], value_size: usize) -> Batch {
    let mut builder = BatchBuilder::new(Compression::NONE);
    push(&mut builder, timestamps, value_size);
    builder.build().unwrap()
}

/// A batch of an idempotent producer.
pub(crate) fn idempotent(
    producer: i64,
    producer_epoch: i16,
    sequence: i32,
    records: usize,
) -> Batch {
    let mut builder = producer_builder(producer, producer_epoch, sequence);
    push(&mut builder, &vec![1000; records], 10);
    builder.build().unwrap()
}

pub(crate) fn producer_builder(producer: i64, producer_epoch: i16, sequence: i32) -> BatchBuilder {
    BatchBuilder::new(Compression::NONE).producer(
        ProducerId::new(producer),
        ProducerEpoch::new(producer_epoch),
        sequence,
    )
}

pub(crate) fn push(builder: &mut BatchBuilder, timestamps: &[i64], value_size: usize) {
    for (i, timestamp) in timestamps.iter().enumerate() {
        let value = vec![i as u8 ^ 0x5a; value_size];
        builder.push(millis(*timestamp), Some(b"key"), Some(&value), &[]);
    }
}

pub(crate) fn open(dir: &FaultDir, config: &LogConfig, start: Start) -> (Log, Recovery) {
    Log::open(
        std::sync::Arc::new(dir.clone()),
        "t-0",
        config.clone(),
        start,
        now(),
    )
    .unwrap()
}

/// Flushes the log and does the upkeep, as a flusher does.
pub(crate) fn flush(log: &mut Log) -> Offset {
    if let Some(flush) = log.begin_flush() {
        let result = flush.run();
        log.flush_finished(flush, result).unwrap();
    }
    if let Some(upkeep) = log.begin_upkeep() {
        upkeep.run();
    }
    log.recovery_point()
}

/// All batches of the log, as they are stored.
pub(crate) fn contents(log: &Log) -> Vec<Bytes> {
    log.reader()
        .batches(log.log_start_offset(), log.log_end_offset())
        .map(|batch| batch.unwrap().bytes().clone())
        .collect()
}
