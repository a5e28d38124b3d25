//! Directories that Apache Kafka 4.3.1 has left: one after a clean shutdown, one after `kill -9`.
//!
//! They hold transactions, one of them open, a compacted topic, deleted records, idempotent producers, each codec, several
//! segments. What Kafka's readers found in them is compared record by record.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fixture::{Expected, consume, unpack};
use support::*;
use tidelog_log::testing::FaultDir;
use tidelog_log::{Checkpoint, FolderKind, Log, LogConfig, LogDirectory, QuorumState, Start};
use tidelog_types::{NodeId, Offset, TopicPartition};

/// Reads a directory of testdata into memory, so that nothing there is changed.
fn load(which: &str) -> FaultDir {
    let dir = FaultDir::new();
    unpack(which, |path, content| dir.put(path, content));
    dir
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

/// Compares every partition of the directory with what consumers have read of it.
fn check(which: &str, dir: &FaultDir, clean: bool) -> Vec<(String, Log)> {
    let mut logs = open_all(dir, clean);
    let expected = Expected::of(which);
    let partitions = expected.partitions();
    let visible = |name: &str| !name.starts_with("__");
    assert_eq!(
        logs.iter().filter(|(name, _)| visible(name)).count(),
        partitions.len()
    );
    for (name, expected) in &partitions {
        let (_, log) = logs.iter_mut().find(|(folder, _)| folder == name).unwrap();
        let start = offset(expected.log_start_offset);
        let end = offset(expected.high_watermark);
        assert_eq!(log.log_start_offset(), start, "{name}");
        assert_eq!(log.log_end_offset(), end, "{name}");
        assert_eq!(
            end.value(),
            expected.end_position.unwrap_or_else(|| end.value())
        );
        let stable = log.last_stable_offset(end);
        let committed_end = expected
            .committed_end_position
            .unwrap_or_else(|| stable.value());
        assert_eq!(stable.value(), committed_end, "{name}");
        let reader = log.reader();
        let batches = |until| reader.batches(start, until).map(Result::unwrap);
        let aborted = reader.aborted_between(start, stable).unwrap();
        let aborted: Vec<_> = aborted
            .iter()
            .map(|a| (a.producer_id, a.first_offset))
            .collect();
        let all = consume(batches(end), start, &[]);
        let committed = consume(batches(stable), start, &aborted);
        expected.check(name, &all, &committed);
        // An epoch in which nothing was written is noted anew by its leader.
        let written = log.log_end_offset() > log.first_segment_base_offset();
        assert_eq!(log.latest_epoch(), written.then(|| epoch(0)), "{name}");
    }
    logs
}

/// The state of the producers, as `kafka-transactions describe-producers` prints it.
fn check_producers(which: &str, logs: &mut [(String, Log)]) {
    let expected = Expected::of(which);
    for (folder, lines) in expected.0["producers"].as_object().unwrap() {
        let lines = lines.as_array().unwrap().iter().skip(1);
        let mut expected: Vec<Vec<String>> = lines
            .map(|line| {
                let words = line.as_str().unwrap().split_whitespace();
                words.map(str::to_owned).collect()
            })
            .collect();
        expected.sort();
        let found = log(logs, folder).producers().unwrap().map(|(id, state)| {
            let open = state.current_txn_first_offset;
            vec![
                id.to_string(),
                state.producer_epoch.to_string(),
                state.coordinator_epoch.to_string(),
                state.last_sequence().to_string(),
                state.last_timestamp.as_millis().to_string(),
                open.map_or_else(|| "None".to_owned(), |first| first.to_string()),
            ]
        });
        let mut found: Vec<_> = found.collect();
        found.sort();
        assert_eq!(found, expected, "{folder}");
    }
}

/// The files that concern the whole directory.
fn check_directory(directory: &LogDirectory, logs: &[(String, Log)], flushed: bool) {
    let properties = directory.meta_properties().unwrap().unwrap();
    assert_eq!(properties.cluster_id, "dGlkZWxvZy1maXh0dXJlMQ");
    assert_eq!(properties.node_id, NodeId::new(1));
    let state = directory.read_quorum_state("__cluster_metadata-0").unwrap();
    assert!(
        matches!(state, Some(QuorumState { leader_id: Some(id), leader_epoch: 1, .. }) if id == NodeId::new(1))
    );
    let snapshots = directory.snapshots("__cluster_metadata-0").unwrap();
    assert!(snapshots.len() > 2);
    let read = |checkpoint| directory.read_checkpoint(checkpoint).unwrap();
    let starts = read(Checkpoint::LogStart);
    let deleted = TopicPartition::new("deleted-records", 0);
    assert_eq!(starts, BTreeMap::from([(deleted, offset(50))]));
    let compacted = TopicPartition::new("compacted", 0);
    assert!(read(Checkpoint::Cleaner)[&compacted] > Offset::ZERO);
    let (recovery_points, high_watermarks) = (
        read(Checkpoint::RecoveryPoint),
        read(Checkpoint::Replication),
    );
    for (name, log) in logs
        .iter()
        .filter(|(name, _)| name != "__cluster_metadata-0")
    {
        let (topic, index) = name.rsplit_once('-').unwrap();
        let partition = TopicPartition::new(topic, index.parse().unwrap());
        let at = |offsets: &BTreeMap<TopicPartition, Offset>| offsets.get(&partition).copied();
        let end = log.log_end_offset();
        if flushed {
            assert_eq!(at(&recovery_points), Some(end), "{name}");
            assert_eq!(at(&high_watermarks), Some(end), "{name}");
        } else {
            assert!(at(&recovery_points) <= Some(end), "{name}");
            assert!(at(&high_watermarks) <= Some(end), "{name}");
        }
    }
}

fn log<'a>(logs: &'a mut [(String, Log)], name: &str) -> &'a mut Log {
    let found = logs.iter_mut().find(|(folder, _)| folder == name);
    &mut found.unwrap().1
}

fn check_transactions(logs: &mut [(String, Log)]) {
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
}

#[test]
fn a_directory_after_a_clean_shutdown() {
    let dir = load("clean");
    let directory = LogDirectory::open(Arc::new(dir.clone())).unwrap();
    let mark = directory.take_clean_shutdown().unwrap().unwrap();
    assert_eq!(mark.broker_epoch, 13);
    drop(directory);
    let mut logs = check("clean", &dir, true);
    check_transactions(&mut logs);
    check_producers("clean", &mut logs);
    let directory = LogDirectory::open(Arc::new(dir)).unwrap();
    check_directory(&directory, &logs, true);
}

#[test]
fn a_directory_after_a_kill() {
    let dir = load("killed");
    let mut logs = check("killed", &dir, false);
    check_transactions(&mut logs);
    check_producers("killed", &mut logs);
    let directory = LogDirectory::open(Arc::new(dir)).unwrap();
    assert_eq!(directory.take_clean_shutdown().unwrap(), None);
    check_directory(&directory, &logs, false);
}

/// What recovery rebuilds out of the batches alone is what Kafka has written.
#[test]
fn rebuilt_files_are_kafkas() {
    let dir = load("clean");
    let originals = load("clean");
    let rebuilt = ["index", "timeindex", "txnindex", "snapshot"];
    let is_rebuilt = |path: &PathBuf| {
        path.extension().is_some_and(|e| rebuilt.iter().any(|r| e == *r))
            // Of the compacted segment Kafka has other indexes than of the batches it was made from.
            && !path.starts_with("compacted-0")
            && !path.parent().unwrap().to_str().unwrap().ends_with("-delete")
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
        assert!(dir.content(file) == Some(content), "{}", file.display());
    }
    let epochs = "txn-1/leader-epoch-checkpoint";
    assert_eq!(dir.content(epochs), originals.content(epochs));
}
