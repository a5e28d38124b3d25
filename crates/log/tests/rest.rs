//! Logs that nobody uses: what they cost, how they wake, and when the summary of their directory counts.

mod support;

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::*;
use tidelog_log::testing::{Crash, FaultDir};
use tidelog_log::{
    Access, CleanShutdown, Dir, FsDir, Log, LogConfig, LogDirectory, LogError, LogSummary, Start,
};
use tidelog_types::{Offset, Uuid};

const FOLDER: &str = "t-0";
const LAST_LOG: &str = "t-0/00000000000000000000.log";

/// A log of some segments, closed, and what was said of it.
fn closed(dir: &FaultDir) -> LogSummary {
    let config = LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 100,
        ..LogConfig::default()
    };
    let start = Start {
        topic_id: Some(Uuid::from_bytes([5; 16])),
        ..Start::NEW
    };
    let (mut log, _) = open(dir, &config, start);
    log.begin_leader_epoch(epoch(3));
    for i in 0..20 {
        log.append_as_leader(&batch(&[i, i + 100], 100), epoch(3), now().timestamp)
            .unwrap();
    }
    log.append_as_leader(&idempotent(7, 0, 0, 2), epoch(3), now().timestamp)
        .unwrap();
    log.close().unwrap()
}

fn directory(dir: &FaultDir) -> LogDirectory {
    LogDirectory::open(Arc::new(dir.clone())).unwrap()
}

fn write_mark(dir: &FaultDir, summary: &LogSummary) {
    directory(dir)
        .write_clean_shutdown(9, [(Path::new(FOLDER), summary)])
        .unwrap();
}

fn take_mark(dir: &FaultDir) -> CleanShutdown {
    directory(dir).take_clean_shutdown().unwrap().unwrap()
}

fn resume(dir: &FaultDir, summary: LogSummary) -> Log {
    let config = LogConfig {
        producer_id_expiration_ms: i64::MAX,
        ..LogConfig::default()
    };
    Log::resume(Arc::new(dir.clone()), FOLDER, config, summary)
}

#[test]
fn a_resumed_log_touches_no_file_before_it_is_used() {
    let dir = FaultDir::new();
    let summary = closed(&dir);
    write_mark(&dir, &summary);
    dir.crash(Crash::LoseUnsynced);
    let mut clean = take_mark(&dir);
    assert_eq!(clean.broker_epoch, 9);
    let found = clean.summaries.remove(FOLDER).unwrap();
    assert_eq!(found, summary);
    let (opened_by_files, _) = open(
        &dir,
        &LogConfig::default(),
        Start {
            clean: true,
            ..Start::NEW
        },
    );
    let before = contents(&opened_by_files);
    let opened = dir.opened();
    let mut log = resume(&dir, found);
    // All that a broker asks for when it starts, and what waits at the end of the log.
    assert_eq!(log.log_end_offset(), offset(42));
    assert_eq!(log.end(), opened_by_files.end());
    assert_eq!(log.size(), opened_by_files.size());
    assert_eq!(log.segments_count(), opened_by_files.segments_count());
    assert_eq!(log.leader_epochs(), opened_by_files.leader_epochs());
    assert_eq!(log.topic_id(), Some(Uuid::from_bytes([5; 16])));
    assert_eq!(log.first_unstable_offset(offset(42)), None);
    log.begin_leader_epoch(epoch(4));
    assert_eq!(
        log.delete_old_segments(now(), Offset::ZERO).unwrap().len(),
        0
    );
    let reader = log.reader();
    assert!(
        reader
            .read(offset(42), 100, offset(42), true)
            .unwrap()
            .is_empty()
    );
    assert_eq!(reader.bytes_available(offset(42), offset(42)), 0);
    assert!(log.is_resting() && log.begin_flush().is_none());
    log.close().unwrap();
    assert_eq!(dir.opened(), opened);
    // Reading wakes the reader's side only, appending all of it.
    assert_eq!(contents(&log), before);
    let again = log
        .append_as_leader(&idempotent(7, 0, 0, 2), epoch(4), now().timestamp)
        .unwrap();
    assert!(again.duplicate, "producers are remembered");
    log.append_as_leader(&batch(&[1], 10), epoch(4), now().timestamp)
        .unwrap();
    assert_eq!(flush(&mut log), offset(43));
    assert_eq!(log.end_offset_for(epoch(3)), (epoch(3), offset(42)));
    let epochs = dir.content("t-0/leader-epoch-checkpoint").unwrap();
    assert_eq!(epochs, b"0\n2\n3 0\n4 42\n");
}

#[test]
fn a_log_rests_only_when_nothing_is_undecided_or_in_use() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &LogConfig::default(), Start::NEW);
    assert!(log.is_resting(), "a new log has nothing to remember");
    let transactional = {
        let mut builder = producer_builder(8, 0, 0).transactional(true);
        push(&mut builder, &[1], 10);
        builder.build().unwrap()
    };
    log.append_as_leader(&transactional, epoch(0), now().timestamp)
        .unwrap();
    let rest = |log: &mut Log, high_watermark| {
        let Some(pending) = log.begin_rest(offset(high_watermark)) else {
            return false;
        };
        let result = pending.run();
        log.rest_finished(pending, result).unwrap()
    };
    let reader = log.reader();
    let slice = reader.read(Offset::ZERO, 1000, offset(1), true).unwrap();
    assert!(!rest(&mut log, 1), "somebody reads");
    drop(slice);
    let pending = log.begin_rest(offset(1)).unwrap();
    log.append_as_leader(&batch(&[1], 10), epoch(0), now().timestamp)
        .unwrap();
    let result = pending.run();
    assert!(
        !log.rest_finished(pending, result).unwrap(),
        "it was written to"
    );
    assert!(rest(&mut log, 2) && log.is_resting());
    assert_eq!(
        log.last_stable_offset(offset(2)),
        Offset::ZERO,
        "the transaction is open"
    );
    assert!(log.take_used());
    assert!(!log.take_used());
    assert_eq!(contents(&log).len(), 2);
    assert!(log.take_used() && !log.is_resting());
    assert!(log.begin_rest(offset(2)).is_none() && log.is_resting());
}

#[test]
fn what_a_rest_has_completed_survives_a_crash() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &LogConfig::default(), Start::NEW);
    for i in 0..5 {
        log.append_as_leader(&batch(&[i], 100), epoch(0), now().timestamp)
            .unwrap();
    }
    let pending = log.begin_rest(offset(5)).unwrap();
    let result = pending.run();
    assert!(log.rest_finished(pending, result).unwrap());
    let recovery_point = log.recovery_point();
    drop(log);
    dir.crash(Crash::LoseUnsynced);
    let bytes_read = dir.bytes_read();
    let start = Start {
        recovery_point,
        ..Start::NEW
    };
    let (log, recovery) = open(&dir, &LogConfig::default(), start);
    assert_eq!((log.log_end_offset(), recovery.cut_bytes), (offset(5), 0));
    assert!(dir.bytes_read() - bytes_read < 2000);
}

/// Kafka ran in between, somebody copied the mark, bits fell over: then the files tell.
#[test]
fn a_summary_counts_only_with_the_mark_it_was_written_for() {
    let dir = FaultDir::new();
    let summary = closed(&dir);
    write_mark(&dir, &summary);
    let mark = dir.content(".kafka_cleanshutdown").unwrap();
    // The same bytes in another file.
    dir.put(".kafka_cleanshutdown", &mark);
    assert_eq!(take_mark(&dir).summaries.len(), 0);
    write_mark(&dir, &summary);
    assert_eq!(take_mark(&dir).summaries.len(), 1);
    assert_eq!(directory(&dir).take_clean_shutdown().unwrap(), None);
    write_mark(&dir, &summary);
    let bytes = dir.content("tidelog.summary").unwrap();
    for at in (0..bytes.len()).step_by(3) {
        write_mark(&dir, &summary);
        let file = dir
            .open(Path::new("tidelog.summary"), Access::Write)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64).unwrap();
        let flipped = [byte[0] ^ 1];
        file.write_all_at(&mut [IoSlice::new(&flipped)], at as u64)
            .unwrap();
        assert_eq!(take_mark(&dir).summaries.len(), 0, "byte {at}");
    }
    for len in 0..bytes.len() {
        write_mark(&dir, &summary);
        let file = dir
            .open(Path::new("tidelog.summary"), Access::Write)
            .unwrap();
        file.set_len(len as u64).unwrap();
        assert_eq!(take_mark(&dir).summaries.len(), 0, "cut at {len}");
    }
}

#[test]
fn a_copied_directory_is_opened_by_its_files() {
    let root = tempfile::tempdir().unwrap();
    let write = |root: &Path| {
        let directory = LogDirectory::open(Arc::new(FsDir::new(root))).unwrap();
        let dir = FaultDir::new();
        let summary = closed(&dir);
        directory
            .write_clean_shutdown(1, [(Path::new(FOLDER), &summary)])
            .unwrap();
    };
    let take = |root: &Path| {
        let directory = LogDirectory::open(Arc::new(FsDir::new(root))).unwrap();
        directory.take_clean_shutdown().unwrap().unwrap().summaries
    };
    let (original, copy) = (root.path().join("a"), root.path().join("b"));
    write(&original);
    std::fs::create_dir(&copy).unwrap();
    for file in [".kafka_cleanshutdown", "tidelog.summary"] {
        std::fs::copy(original.join(file), copy.join(file)).unwrap();
    }
    assert_eq!(take(&copy).len(), 0);
    assert_eq!(take(&original).len(), 1);
}

#[test]
fn a_folder_that_somebody_changed_is_not_written_to() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &LogConfig::default(), Start::NEW);
    log.append_as_leader(&batch(&[1], 100), epoch(0), now().timestamp)
        .unwrap();
    let summary = log.close().unwrap();
    let content = dir.content(LAST_LOG).unwrap();
    dir.put(LAST_LOG, &[content.clone(), content].concat());
    let mut log = resume(&dir, summary);
    let error = log
        .append_as_leader(&batch(&[1], 100), epoch(0), now().timestamp)
        .unwrap_err();
    assert!(error.to_string().contains("somebody changed it"), "{error}");
    assert!(matches!(
        log.check().unwrap_err(),
        LogError::Poisoned { .. }
    ));
    log.close().unwrap_err();
}

#[test]
fn a_log_whose_index_or_snapshot_is_gone_wakes_all_the_same() {
    let dir = FaultDir::new();
    let summary = closed(&dir);
    let gone: Vec<PathBuf> = dir
        .files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|e| e != "log"))
        .collect();
    for file in gone {
        dir.remove_file(&file).unwrap();
    }
    let mut log = resume(&dir, summary);
    let again = log
        .append_as_leader(&idempotent(7, 0, 0, 2), epoch(3), now().timestamp)
        .unwrap();
    assert!(again.duplicate);
    log.append_as_leader(&batch(&[1], 10), epoch(3), now().timestamp)
        .unwrap();
    assert_eq!(contents(&log).len(), 22);
}
