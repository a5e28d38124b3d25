//! Segments come and go: rolling, retention, recovery from a late point, readers beside a writer.

mod support;

use std::io;
use std::path::Path;
use std::sync::Arc;

use support::*;
use tidelog_log::testing::{Crash, FaultDir, Op};
use tidelog_log::{Access, DeleteReason, Dir, FsDir, Log, LogConfig, LogError, Start};
use tidelog_record::TimestampType;
use tidelog_types::{ErrorCode, Now, Offset, Timestamp, Uuid};

fn append(log: &mut Log, timestamps: &[i64], value_size: usize) -> tidelog_log::Appended {
    log.append_as_leader(&batch(timestamps, value_size), epoch(0), now().timestamp)
        .unwrap()
}

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

fn names(dir: &FaultDir) -> Vec<String> {
    dir.files()
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_new_log_makes_no_file_before_the_first_append() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &LogConfig::default(), Start::NEW);
    log.begin_leader_epoch(epoch(0));
    assert!(log.begin_flush().is_none() && log.begin_upkeep().is_none());
    assert_eq!(dir.files(), [] as [&Path; 0]);
    append(&mut log, &[1], 1);
    flush(&mut log);
    let names = names(&dir);
    assert_eq!(
        names,
        ["00000000000000000000.log", "leader-epoch-checkpoint"]
    );
    assert_eq!(
        dir.content("t-0/leader-epoch-checkpoint").unwrap(),
        b"0\n1\n0 0\n"
    );
}

#[test]
fn the_folder_says_to_which_topic_it_belongs() {
    let dir = FaultDir::new();
    let topic_id = Uuid::from_bytes([3; 16]);
    let start = Start {
        topic_id: Some(topic_id),
        ..Start::NEW
    };
    let (mut log, _) = open(&dir, &LogConfig::default(), start);
    append(&mut log, &[1], 1);
    flush(&mut log);
    dir.crash(Crash::LoseUnsynced);
    let content = dir.content("t-0/partition.metadata").unwrap();
    assert_eq!(
        content,
        format!("version: 0\ntopic_id: {topic_id}").into_bytes()
    );
}

#[test]
fn segments_are_rolled_by_size_and_by_the_time_of_records() {
    let dir = FaultDir::new();
    let config = LogConfig {
        segment_bytes: 300,
        segment_ms: 1000,
        ..LogConfig::default()
    };
    let (mut log, _) = open(&dir, &config, Start::NEW);
    assert!(!append(&mut log, &[5000], 100).rolled);
    assert!(
        !append(&mut log, &[6000], 10).rolled,
        "exactly as old as it may be"
    );
    assert!(
        append(&mut log, &[6001], 10).rolled,
        "older, by the first batch's time"
    );
    assert!(append(&mut log, &[6002], 200).rolled, "no room");
    let large = batch(&[1], 400);
    let error = log
        .append_as_leader(&large, epoch(0), now().timestamp)
        .unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::RECORD_LIST_TOO_LARGE);
    assert_eq!(log.segments_count(), 3);
}

#[test]
fn offsets_far_apart_do_not_share_a_segment() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &LogConfig::default(), Start::NEW);
    let far = i64::from(i32::MAX) + 10;
    for base in [far, far + 1, 2 * far + 2] {
        let batch = batch(&[1], 10).with_leader_fields(offset(base), epoch(0));
        log.append_as_follower(&batch, now().timestamp).unwrap();
    }
    assert_eq!(log.segments_count(), 2);
    assert_eq!(log.first_segment_base_offset(), offset(far));
    assert_eq!(contents(&log).len(), 3);
}

#[test]
fn the_log_sets_the_time_of_its_records_if_it_is_to() {
    let dir = FaultDir::new();
    let config = LogConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..LogConfig::default()
    };
    let (mut log, _) = open(&dir, &config, Start::NEW);
    let appended = append(&mut log, &[1, 2], 10);
    assert_eq!(appended.log_append_time, now().timestamp);
    let batch = log
        .reader()
        .batches(Offset::ZERO, offset(2))
        .next()
        .unwrap()
        .unwrap();
    batch.verify_crc().unwrap();
    assert!(
        batch
            .records()
            .unwrap()
            .all(|r| r.unwrap().timestamp == now().timestamp)
    );
}

#[test]
fn retention_takes_segments_by_size_time_and_log_start() {
    let cases = [
        (
            LogConfig {
                retention_bytes: 1500,
                ..small_segments()
            },
            0,
            DeleteReason::Size,
        ),
        (
            LogConfig {
                retention_ms: 1000,
                ..small_segments()
            },
            0,
            DeleteReason::Time,
        ),
        (
            LogConfig {
                delete: false,
                ..small_segments()
            },
            12,
            DeleteReason::LogStart,
        ),
    ];
    for (config, log_start, reason) in cases {
        let dir = FaultDir::new();
        let (mut log, _) = open(&dir, &config, Start::NEW);
        let recent = now().timestamp.as_millis();
        for i in 0..24 {
            // The first half is old.
            append(&mut log, &[if i < 12 { 1000 } else { recent }], 150);
        }
        log.advance_log_start(offset(log_start)).unwrap();
        let none = log.delete_old_segments(now(), Offset::ZERO).unwrap();
        assert_eq!(none.len(), 0, "not beyond the high watermark");
        let reader = log.reader();
        let deleted = log.delete_old_segments(now(), offset(24)).unwrap();
        assert!(
            !deleted.is_empty() && deleted.iter().all(|d| d.reason() == reason),
            "{reason:?}"
        );
        let first = log.first_segment_base_offset();
        assert_eq!(log.log_start_offset(), first.max(offset(log_start)));
        assert!(matches!(
            reader.read(Offset::ZERO, 1, offset(24), true),
            Err(LogError::OutOfRange { .. })
        ));
        assert!(
            names(&dir)
                .iter()
                .any(|name| name.ends_with(".log.deleted"))
        );
        for segment in deleted {
            segment.remove().unwrap();
        }
        assert!(!names(&dir).iter().any(|name| name.ends_with(".deleted")));
        assert!(!dir.files().contains(&"t-0/00000000000000000000.log".into()));
    }
}

#[test]
fn a_time_of_the_future_keeps_its_segment_and_all_behind_it() {
    let dir = FaultDir::new();
    let config = LogConfig {
        retention_ms: 1000,
        ..small_segments()
    };
    let (mut log, _) = open(&dir, &config, Start::NEW);
    let future = now().timestamp.as_millis() + 60_000;
    for i in 0..24 {
        append(&mut log, &[if i == 12 { future } else { 1000 }], 150);
    }
    let mut gone = |now: Now| {
        let deleted = log.delete_old_segments(now, offset(24)).unwrap();
        deleted
            .into_iter()
            .for_each(|segment| segment.remove().unwrap());
        log.log_start_offset()
    };
    let kept = gone(now());
    assert!((offset(1)..=offset(12)).contains(&kept), "{kept}");
    let later = Now {
        timestamp: millis(future + 1001),
        ..now()
    };
    assert_eq!(gone(later), offset(24));
}

#[test]
fn without_timestamps_the_time_of_the_file_counts() {
    let dir = FaultDir::new();
    let config = LogConfig {
        retention_ms: 1000,
        ..small_segments()
    };
    let (mut log, _) = open(&dir, &config, Start::NEW);
    for _ in 0..24 {
        append(&mut log, &[-1], 150);
    }
    let end = offset(24);
    let old = log.first_segment_base_offset();
    let name = format!("t-0/{:020}.log", old.value());
    for file in dir
        .files()
        .iter()
        .filter(|file| file.extension() == Some("log".as_ref()))
    {
        let file_of_old = file == Path::new(&name);
        let age = if file_of_old { 1001 } else { 1000 };
        let modified = millis(now().timestamp.as_millis() - age);
        let opened = dir.open(file, Access::Write).unwrap();
        opened.set_modified(modified).unwrap();
    }
    let deleted = log.delete_old_segments(now(), end).unwrap();
    let bases: Vec<_> = deleted
        .iter()
        .map(|segment| segment.base_offset())
        .collect();
    assert_eq!(bases, [old]);
}

#[test]
fn an_old_log_is_emptied_but_remembers_where_it_ended() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &small_segments(), Start::NEW);
    append(&mut log, &[1000; 10], 20);
    let deleted = log.delete_old_segments(now(), offset(10)).unwrap();
    assert_eq!(deleted.len(), 1);
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (offset(10), offset(10))
    );
    assert_eq!(
        log.delete_old_segments(now(), offset(10)).unwrap().len(),
        0,
        "an empty one stays"
    );
    drop(log);
    dir.crash(Crash::KeepAll);
    let (log, _) = open(&dir, &small_segments(), Start::NEW);
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (offset(10), offset(10))
    );
}

#[test]
fn who_reads_a_deleted_segment_reads_on() {
    let root = tempfile::tempdir().unwrap();
    let dir = Arc::new(FsDir::new(root.path()));
    let config = LogConfig {
        retention_bytes: 0,
        ..LogConfig::default()
    };
    let (mut log, _) = Log::open(dir, "t-0", config, Start::NEW, now()).unwrap();
    let size = append(&mut log, &[1], 100).end.position as usize;
    let slice = log
        .reader()
        .read(Offset::ZERO, 1 << 20, offset(1), true)
        .unwrap();
    for segment in log.delete_old_segments(now(), offset(1)).unwrap() {
        segment.remove().unwrap();
    }
    assert_eq!(slice.data.read_all().unwrap().len(), size);
    assert!(slice.data.as_fd().is_some());
}

#[test]
fn recovery_begins_late_and_reads_little() {
    let dir = FaultDir::new();
    let config = LogConfig {
        checkpoint_interval_bytes: 20_000,
        // What was written ahead would be read too.
        write_ahead_bytes_max: 0,
        ..LogConfig::default()
    };
    let (mut log, _) = open(&dir, &config, Start::NEW);
    for _ in 0..100 {
        append(&mut log, &[1], 1000);
        flush(&mut log);
    }
    let (recovery_point, size) = (log.recovery_point(), log.size());
    let before = contents(&log);
    drop(log);
    dir.crash(Crash::LoseUnsynced);
    let bytes_read = dir.bytes_read();
    let (log, recovery) = open(
        &dir,
        &config,
        Start {
            recovery_point,
            ..Start::NEW
        },
    );
    let bytes_read = dir.bytes_read() - bytes_read;
    assert!(bytes_read < size / 3, "{bytes_read} of {size} were read");
    assert_eq!(contents(&log), before);
    assert!(
        recovery.scanned_bytes < size / 3,
        "{} of {size}",
        recovery.scanned_bytes
    );
    drop(log);
    dir.crash(Crash::KeepAll);
    // Without the index it has to be the whole segment.
    dir.remove_file(Path::new("t-0/00000000000000000000.index"))
        .unwrap();
    let (log, recovery) = open(
        &dir,
        &config,
        Start {
            recovery_point,
            ..Start::NEW
        },
    );
    assert_eq!(contents(&log), before);
    assert_eq!(recovery.scanned_bytes, size);
}

#[test]
fn the_log_is_cut_at_the_first_damaged_batch() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &small_segments(), Start::NEW);
    for i in 0..20 {
        append(&mut log, &[i], 100);
    }
    flush(&mut log);
    let before = contents(&log);
    let (segments, last) = (log.segments_count(), log.end().segment_base_offset);
    assert!(segments > 3);
    drop(log);
    dir.crash(Crash::KeepAll);
    // One bit in the first batch of the second segment.
    let second = dir
        .files()
        .into_iter()
        .filter(|f| f.extension() == Some("log".as_ref()))
        .nth(1);
    let second = second.unwrap();
    let file = dir.open(&second, Access::Write).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 90).unwrap();
    file.write_all_at(&mut [io::IoSlice::new(&[byte[0] ^ 1])], 90)
        .unwrap();
    let (log, recovery) = open(&dir, &small_segments(), Start::NEW);
    assert_eq!(
        contents(&log),
        before[..log.log_end_offset().value() as usize]
    );
    assert!(recovery.cut_reason.unwrap().contains("CRC"));
    assert_eq!(recovery.dropped_segments, segments - 2);
    assert!(log.log_end_offset() < last);
    assert_eq!(log.segments_count(), 2);
}

#[test]
fn a_failed_flush_poisons_the_log_for_good() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &LogConfig::default(), Start::NEW);
    append(&mut log, &[1], 10);
    flush(&mut log);
    append(&mut log, &[2], 10);
    dir.fail(Op::Sync, 0, io::ErrorKind::Other);
    let pending = log.begin_flush().unwrap();
    let result = pending.run();
    log.flush_finished(pending, result).unwrap_err();
    dir.heal();
    // A second flush would succeed and prove nothing.
    assert!(log.begin_flush().is_none());
    assert_eq!(log.recovery_point(), offset(1));
    let error = log
        .append_as_leader(&batch(&[3], 10), epoch(0), now().timestamp)
        .unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(matches!(
        log.check().unwrap_err(),
        LogError::Poisoned { .. }
    ));
    assert_eq!(contents(&log).len(), 2, "reading goes on");
    log.close().unwrap_err();
}

#[test]
fn a_full_disk_poisons_the_log_and_loses_nothing() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &LogConfig::default(), Start::NEW);
    append(&mut log, &[1], 1000);
    flush(&mut log);
    dir.limit_capacity(1500);
    log.append_as_leader(&batch(&[2], 1000), epoch(0), now().timestamp)
        .unwrap_err();
    dir.heal();
    drop(log);
    dir.crash(Crash::KeepAll);
    let (log, recovery) = open(&dir, &LogConfig::default(), Start::NEW);
    assert_eq!(log.log_end_offset(), offset(1));
    assert!(recovery.cut_bytes > 0);
}

#[test]
fn space_written_ahead_is_no_damage_and_gone_when_closed() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &small_segments(), Start::NEW);
    let config = LogConfig {
        segment_bytes: 200_000,
        ..small_segments()
    };
    log.update_config(config.clone());
    for _ in 0..30 {
        append(&mut log, &[1], 100);
        flush(&mut log);
    }
    let size = log.size();
    let path = "t-0/00000000000000000000.log";
    assert!(
        dir.content(path).unwrap().len() as u64 >= size + 10_000,
        "nothing was prepared"
    );
    drop(log);
    dir.crash(Crash::LoseUnsynced);
    let (mut log, recovery) = open(&dir, &config, Start::NEW);
    assert_eq!(
        (log.size(), recovery.cut_bytes, recovery.cut_reason),
        (size, 0, None)
    );
    for _ in 0..10 {
        append(&mut log, &[1], 100);
        flush(&mut log);
    }
    let size = log.size();
    log.close().unwrap();
    assert_eq!(dir.content(path).unwrap().len() as u64, size);
}

#[test]
fn a_deleted_log_takes_no_more_and_leaves_a_folder_to_remove() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &LogConfig::default(), Start::NEW);
    append(&mut log, &[1], 10);
    let folder = log.delete(Uuid::from_bytes([0xab; 16])).unwrap().unwrap();
    assert_eq!(
        folder,
        Path::new("t-0.abababababababababababababababab-delete")
    );
    let error = log
        .append_as_leader(&batch(&[1], 1), epoch(0), now().timestamp)
        .unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::KAFKA_STORAGE_ERROR);
    let directory = tidelog_log::LogDirectory::open(Arc::new(dir.clone())).unwrap();
    directory.remove_folder(folder).unwrap();
    assert_eq!(names(&dir), [".lock"]);
}

#[test]
fn a_follower_keeps_offsets_and_epochs() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &LogConfig::default(), Start::NEW);
    let append = |log: &mut Log, base, leader_epoch| {
        let batch = batch(&[1, 2], 10).with_leader_fields(offset(base), epoch(leader_epoch));
        log.append_as_follower(&batch, Timestamp::NONE)
    };
    append(&mut log, 0, 2).unwrap();
    append(&mut log, 2, 5).unwrap();
    append(&mut log, 10, 5).unwrap();
    let error = append(&mut log, 11, 5).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the batch begins at offset 11, before the end of the log, 12"
    );
    assert_eq!(log.end_offset_for(epoch(2)), (epoch(2), offset(2)));
    assert_eq!(log.end_offset_for(epoch(3)), (epoch(2), offset(2)));
    assert_eq!(log.end_offset_for(epoch(5)), (epoch(5), offset(12)));
    log.truncate_to(offset(2), now()).unwrap();
    assert_eq!(log.latest_epoch(), Some(epoch(2)));
    log.truncate_fully_and_start_at(offset(100), now()).unwrap();
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (offset(100), offset(100))
    );
    assert_eq!(log.latest_epoch(), None);
    append(&mut log, 100, 6).unwrap();
    assert_eq!(names(&dir), ["00000000000000000100.log"]);
}

#[test]
fn compacted_segments_take_the_place_of_those_they_were_made_of() {
    let dir = FaultDir::new();
    let (mut log, _) = open(&dir, &small_segments(), Start::NEW);
    for i in 0..20 {
        append(&mut log, &[i], 100);
    }
    flush(&mut log);
    let before = contents(&log);
    let end = log.log_end_offset();
    drop(log);
    dir.crash(Crash::KeepAll);
    let files = dir.files();
    let logs: Vec<_> = files
        .iter()
        .filter(|f| f.extension() == Some("log".as_ref()))
        .collect();
    // A crash in the middle of a swap: two segments became one, which is ready, and one of the old is still there.
    let merged = [dir.content(logs[0]).unwrap(), dir.content(logs[1]).unwrap()].concat();
    dir.put("t-0/00000000000000000000.log.swap", &merged);
    dir.remove_file(logs[0]).unwrap();
    // And a compaction further on that was not finished.
    dir.put(logs[3].with_extension("log.cleaned"), b"unfinished");
    let (log, _) = open(&dir, &small_segments(), Start::NEW);
    assert_eq!(log.log_end_offset(), end);
    assert_eq!(contents(&log), before);
    assert_eq!(log.segments_count(), logs.len() - 1);
    assert!(
        !names(&dir)
            .iter()
            .any(|n| n.ends_with(".swap") || n.ends_with(".cleaned"))
    );
}

#[test]
fn readers_go_on_while_the_log_grows() {
    let root = tempfile::tempdir().unwrap();
    let dir = Arc::new(FsDir::new(root.path()));
    let config = LogConfig {
        segment_bytes: 20_000,
        ..LogConfig::default()
    };
    let (mut log, _) = Log::open(dir, "t-0", config, Start::NEW, now()).unwrap();
    let end = offset(2000);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let reader = log.reader();
            scope.spawn(move || {
                let mut next = Offset::ZERO;
                while next < end {
                    for batch in reader.batches(next, reader.log_end_offset()) {
                        let header = *batch.unwrap().header();
                        assert_eq!(header.base_offset, next);
                        next = header.next_offset();
                    }
                }
            });
        }
        while log.log_end_offset() < end {
            append(&mut log, &[1, 2], 50);
            if log.log_end_offset().value() % 300 == 0 {
                flush(&mut log);
            }
        }
    });
    assert!(log.segments_count() > 5);
}

#[cfg(target_os = "linux")]
#[test]
fn few_files_are_open_however_many_there_are() {
    let root = tempfile::tempdir().unwrap();
    let dir = Arc::new(FsDir::new(root.path()).with_open_files_max(5));
    let (mut log, _) = Log::open(dir, "t-0", small_segments(), Start::NEW, now()).unwrap();
    let open_files = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
        targets
            .filter(|target| target.starts_with(root.path()))
            .count()
    };
    for i in 0..200 {
        append(&mut log, &[i], 100);
        if i % 10 == 0 {
            flush(&mut log);
        }
    }
    assert!(log.segments_count() > 20);
    assert!(open_files() > 3, "what is not flushed stays open");
    flush(&mut log);
    assert_eq!(contents(&log).len(), 200);
    let found = log
        .reader()
        .offset_for_timestamp(millis(50), offset(200))
        .unwrap();
    assert_eq!(found.unwrap().offset, offset(50));
    assert!(open_files() <= 6, "{} are open", open_files());
}
