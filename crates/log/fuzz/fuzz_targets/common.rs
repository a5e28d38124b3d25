//! A log to damage, and what must be left of it.

#![allow(dead_code, reason = "each target takes what it needs")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use tidelog_log::testing::FaultDir;
use tidelog_log::verify::{Depth, verify};
use tidelog_log::{Log, LogConfig, LogDirectory, Recovery, Start};
use tidelog_record::control::{EndTxnMarker, TransactionResult};
use tidelog_record::{Batch, BatchBuilder, Compression};
use tidelog_types::{LeaderEpoch, Now, Offset, ProducerEpoch, ProducerId, Timestamp};

/// The folder of the partition.
pub const FOLDER: &str = "t-0";

pub fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(1_000_000),
    }
}

pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1500,
        index_interval_bytes: 200,
        producer_id_expiration_ms: i64::MAX,
        ..LogConfig::default()
    }
}

/// The files of a log with several segments, transactions, idempotent producers, and epochs.
static FILES: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let dir = FaultDir::new();
    let start = Start::NEW;
    let (mut log, _) = Log::open(Arc::new(dir.clone()), FOLDER, config(), start, now()).unwrap();
    for i in 0..40 {
        let producer = ProducerId::new(i % 3);
        let epoch = ProducerEpoch::new(0);
        let mut builder = BatchBuilder::new(Compression::NONE);
        builder = match i % 3 {
            0 => builder,
            1 => builder.producer(producer, epoch, (i / 3 * 2) as i32),
            _ => builder
                .producer(producer, epoch, (i / 3 * 2) as i32)
                .transactional(true),
        };
        for record in 0..2 {
            let time = Timestamp::from_millis(1000 * i + record);
            builder.push(time, Some(b"key"), Some(b"a value of some bytes"), &[]);
        }
        append(&mut log, &builder.build().unwrap(), i);
        if i % 6 == 5 {
            let marker = EndTxnMarker {
                result: match i % 4 {
                    1 => TransactionResult::Abort,
                    _ => TransactionResult::Commit,
                },
                coordinator_epoch: 1,
            };
            let time = Timestamp::from_millis(1000 * i);
            append(&mut log, &marker.batch(producer, epoch, time), i);
        }
    }
    log.close().unwrap();
    let files = dir.files().into_iter();
    files
        .map(|path| {
            let content = dir.content(&path).unwrap();
            (path, content)
        })
        .collect()
});

fn append(log: &mut Log, batch: &Batch, i: i64) {
    let epoch = LeaderEpoch::new((i / 15) as i32);
    log.append_as_leader(batch, epoch, Timestamp::NONE).unwrap();
    if let Some(flush) = log.begin_flush() {
        let result = flush.run();
        log.flush_finished(flush, result).unwrap();
    }
    if let Some(upkeep) = log.begin_upkeep() {
        upkeep.run();
    }
}

/// A directory with that log.
pub fn directory() -> FaultDir {
    let dir = FaultDir::new();
    for (path, content) in FILES.iter() {
        dir.put(path, content);
    }
    dir
}

/// The first file of the log with this extension.
pub fn file(extension: &str) -> &'static Path {
    let is_it = |path: &&PathBuf| path.extension().is_some_and(|e| e == extension);
    FILES.iter().map(|(path, _)| path).find(is_it).unwrap()
}

pub fn open(dir: &FaultDir, start: Start) -> Option<(Log, Recovery)> {
    Log::open(Arc::new(dir.clone()), FOLDER, config(), start, now()).ok()
}

/// After a crash everything is read, whatever the files beside the batches say.
pub const CRASHED: Start = Start::NEW;

/// After a clean shutdown the files beside the batches are trusted.
pub fn closed(end: Offset) -> Start {
    Start {
        clean: true,
        recovery_point: end,
        ..Start::NEW
    }
}

/// All batches of a log, as long as they can be read.
pub fn contents(log: &Log) -> Vec<Batch> {
    let reader = log.reader();
    let batches = reader.batches(log.log_start_offset(), log.log_end_offset());
    batches.map_while(Result::ok).collect()
}

/// Asks for everything that can be asked of a log; nothing of it may panic.
pub fn ask(log: &mut Log) {
    let reader = log.reader();
    let end = log.log_end_offset();
    for offset in 0..90 {
        let offset = Offset::new(offset);
        if let Ok(slice) = reader.read(offset, 300, end, true) {
            let _ = reader.aborted_transactions(offset, &slice);
        }
        let time = Timestamp::from_millis(offset.value() * 500);
        let _ = reader.offset_for_timestamp(time, end);
    }
    let _ = reader.max_timestamp(end);
    let _ = reader.aborted_between(Offset::ZERO, end);
    let _ = log.last_stable_offset(end);
}

/// What the log says before anything is damaged.
pub static WHOLE: LazyLock<Vec<Batch>> = LazyLock::new(|| {
    let dir = directory();
    let (log, _) = open(&dir, CRASHED).unwrap();
    contents(&log)
});

/// Puts `bytes` in the place of a file that is not of batches. After a crash nothing is lost; after a clean shutdown nothing
/// panics.
pub fn damage_beside_the_batches(extension: &str, bytes: &[u8]) {
    let dir = directory();
    dir.put(file(extension), bytes);
    let _ = verify(&dir, &Depth { records: true }, &mut |_| {});
    let (mut log, recovery) = open(&dir, CRASHED).expect("the batches are whole");
    assert_eq!(recovery.cut_bytes, 0);
    assert_eq!(contents(&log), *WHOLE);
    let end = log.log_end_offset();
    ask(&mut log);
    drop(log);
    let dir = directory();
    dir.put(file(extension), bytes);
    if let Some((mut log, _)) = open(&dir, closed(end)) {
        ask(&mut log);
    }
}

/// A log directory in which one file says `bytes`.
pub fn directory_with(name: &str, bytes: &[u8]) -> LogDirectory {
    let dir = FaultDir::new();
    dir.put(name, bytes);
    let _ = verify(&dir, &Depth::default(), &mut |_| {});
    let _ = tidelog_log::inspect::read(&dir, Path::new(name));
    LogDirectory::open(Arc::new(dir)).expect("nobody else has it")
}
