//! Directories that Apache Kafka 4.3.1 has left: one after a clean shutdown, one after `kill -9`.
//!
//! They hold the folders of the topics that the interop tests produce: transactions, one of them open, a compacted topic,
//! deleted records, idempotent producers, each codec.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::*;
use tidelog_log::testing::FaultDir;
use tidelog_log::{Checkpoint, FolderKind, Log, LogConfig, LogDirectory, Start};
use tidelog_types::{Offset, TopicPartition};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// Reads a directory of testdata into memory, so that nothing there is changed.
fn load(name: &str) -> FaultDir {
    let dir = FaultDir::new();
    let root = testdata().join(name);
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                dir.put(path.strip_prefix(&root).unwrap(), &fs::read(&path).unwrap());
            }
        }
    }
    dir
}

/// A killed broker leaves its index files as large as they were allocated, zero behind the entries it had; they are not
/// stored with the testdata.
fn put_preallocated_indexes(dir: &FaultDir) {
    for file in dir
        .files()
        .into_iter()
        .filter(|f| f.extension() == Some("log".as_ref()))
    {
        for (extension, len) in [("index", 65_536), ("timeindex", 65_532)] {
            let index = file.with_extension(extension);
            if dir.content(&index).is_none() {
                dir.put(&index, &vec![0; len]);
            }
        }
    }
}

fn config() -> LogConfig {
    LogConfig {
        producer_id_expiration_ms: i64::MAX,
        ..LogConfig::default()
    }
}

/// Opens every partition of a directory as a broker does.
fn open_all(dir: &FaultDir, clean: bool) -> Vec<(String, Log)> {
    let directory = LogDirectory::open(Arc::new(dir.clone())).unwrap();
    let recovery_points = directory
        .read_checkpoint(Checkpoint::RecoveryPoint)
        .unwrap();
    let log_starts = directory.read_checkpoint(Checkpoint::LogStart).unwrap();
    let folders = directory.partitions().unwrap();
    let live = folders
        .into_iter()
        .filter(|folder| folder.kind == FolderKind::Live);
    let open = |partition: &TopicPartition, name: &str| {
        let start = Start {
            log_start_offset: log_starts.get(partition).copied().unwrap_or_default(),
            recovery_point: recovery_points.get(partition).copied().unwrap_or_default(),
            clean,
            topic_id: directory.partition_topic_id(name).unwrap(),
        };
        Log::open(directory.dir(), name, config(), start, now())
            .unwrap()
            .0
    };
    live.map(|folder| (folder.name.clone(), open(&folder.partition, &folder.name)))
        .collect()
}

/// Log start offset, log end offset, last stable offset and number of records consumers get, as Kafka's tools told.
const EXPECTED: [(&str, i64, i64, i64, usize); 9] = [
    ("append-time-0", 0, 60, 60, 60),
    ("codec-none-0", 200, 200, 200, 0),
    ("codec-zstd-0", 0, 200, 200, 200),
    ("compacted-0", 0, 480, 480, 423),
    ("deleted-records-0", 50, 100, 100, 50),
    ("idempotent-0", 0, 150, 150, 150),
    ("partitions-3", 0, 23, 23, 23),
    ("txn-0", 0, 23, 16, 19),
    ("txn-1", 0, 63, 63, 59),
];

fn check(dir: &FaultDir, clean: bool) -> Vec<(String, Log)> {
    let mut logs = open_all(dir, clean);
    for (name, log_start, log_end, last_stable, records) in EXPECTED {
        let (_, log) = logs.iter_mut().find(|(folder, _)| folder == name).unwrap();
        assert_eq!(log.log_start_offset(), offset(log_start), "{name}");
        assert_eq!(log.log_end_offset(), offset(log_end), "{name}");
        assert_eq!(
            log.last_stable_offset(offset(log_end)),
            offset(last_stable),
            "{name}"
        );
        let batches = log
            .reader()
            .batches(log.log_start_offset(), log.log_end_offset());
        let found: usize = batches
            .map(Result::unwrap)
            .filter(|batch| !batch.header().attributes.is_control())
            .map(|batch| {
                let records = batch.records().unwrap().map(Result::unwrap);
                records
                    .filter(|record| record.offset >= offset(log_start))
                    .count()
            })
            .sum();
        assert_eq!(found, records, "{name}");
        // An epoch in which nothing was written is noted anew by its leader.
        let written = log.log_end_offset() > log.first_segment_base_offset();
        assert_eq!(log.latest_epoch(), written.then(|| epoch(0)), "{name}");
    }
    logs
}

fn log<'a>(logs: &'a [(String, Log)], name: &str) -> &'a Log {
    &logs.iter().find(|(folder, _)| folder == name).unwrap().1
}

fn check_transactions(logs: &[(String, Log)]) {
    let reader = log(logs, "txn-0").reader();
    let aborted = reader.aborted_between(Offset::ZERO, offset(16)).unwrap();
    let aborted: Vec<_> = aborted
        .iter()
        .map(|a| {
            (
                a.producer_id.value(),
                a.first_offset.value(),
                a.last_offset.value(),
            )
        })
        .collect();
    assert_eq!(aborted, [(4, 6, 10), (4, 14, 15)]);
    assert_eq!(
        reader
            .aborted_between(Offset::ZERO, offset(14))
            .unwrap()
            .len(),
        1
    );
    assert_eq!(reader.aborted_between(offset(16), offset(23)).unwrap(), []);
    let slice = reader.read(offset(11), 1 << 20, offset(16), true).unwrap();
    let aborted = reader.aborted_transactions(offset(11), &slice).unwrap();
    assert_eq!(
        aborted
            .iter()
            .map(|a| a.first_offset.value())
            .collect::<Vec<_>>(),
        [14]
    );
    let mut producers: Vec<_> = log(logs, "txn-0")
        .producers()
        .map(|(id, state)| {
            (
                id.value(),
                state.producer_epoch.value(),
                state.coordinator_epoch,
                state.last_sequence(),
                state.current_txn_first_offset,
            )
        })
        .collect();
    producers.sort_unstable();
    let expected = [
        (3, 1, 0, 1, None),
        (4, 1, 0, 0, None),
        (5, 0, -1, 3, Some(offset(16))),
    ];
    assert_eq!(producers, expected);
}

#[test]
fn a_directory_after_a_clean_shutdown() {
    let dir = load("kafka-4.3.1-clean");
    let directory = LogDirectory::open(Arc::new(dir.clone())).unwrap();
    let mark = directory.take_clean_shutdown().unwrap().unwrap();
    assert_eq!(mark.broker_epoch, 13);
    let properties = directory.meta_properties().unwrap().unwrap();
    assert_eq!(properties.cluster_id, "dGlkZWxvZy1maXh0dXJlMQ");
    drop(directory);
    let logs = check(&dir, true);
    check_transactions(&logs);
}

#[test]
fn a_directory_after_a_kill() {
    let dir = load("kafka-4.3.1-killed");
    put_preallocated_indexes(&dir);
    let logs = check(&dir, false);
    check_transactions(&logs);
}

/// What recovery rebuilds out of the batches alone is what Kafka has written.
#[test]
fn rebuilt_files_are_kafkas() {
    let dir = load("kafka-4.3.1-clean");
    let originals = load("kafka-4.3.1-clean");
    let rebuilt = ["index", "timeindex", "txnindex", "snapshot"];
    let is_rebuilt = |path: &PathBuf| {
        path.extension().is_some_and(|e| rebuilt.iter().any(|r| e == *r))
            // Of the compacted segment Kafka has other indexes than of the batches it was made from.
            && !path.starts_with("compacted-0")
    };
    for file in originals.files().iter().filter(|path| is_rebuilt(path)) {
        tidelog_log::Dir::remove_file(&dir, file).unwrap();
    }
    tidelog_log::Dir::remove_file(&dir, Path::new("txn-1/leader-epoch-checkpoint")).unwrap();
    for (_, mut log) in open_all(&dir, false) {
        log.close().unwrap();
    }
    for file in originals.files().iter().filter(|path| is_rebuilt(path)) {
        let content = originals.content(file).unwrap();
        assert_eq!(dir.content(file), Some(content), "{}", file.display());
    }
    let epochs = "txn-1/leader-epoch-checkpoint";
    assert_eq!(dir.content(epochs), originals.content(epochs));
}
