//! The commit log on a real disk: `cargo bench -p tidelog-benches --bench log`, on a machine that does nothing else.
//!
//! Method: one log, one thread, no sockets, on the file system of the target directory. What matters are the slow ones among
//! many operations, so this prints percentiles instead of means. Appends are measured without a flush and with one after
//! each; recovery is of a log that was not closed, whose files are in the page cache; slices are read from there too.
#![allow(clippy::print_stdout, reason = "the report")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_benches::{NOW, batch, batch_of_64_kib, is_bench, report_runs, report_times};
use tidelog_log::{FsDir, Log, LogConfig, Start};
use tidelog_record::Batch;
use tidelog_types::{LeaderEpoch, Now, Offset};

/// How often what takes long is measured.
const RUNS: usize = 5;
const EPOCH: LeaderEpoch = LeaderEpoch::new(0);

fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: NOW,
    }
}

fn open(root: &Path, name: &str, config: LogConfig, start: Start) -> Log {
    let dir = Arc::new(FsDir::new(root));
    Log::open(dir, name, config, start, now())
        .expect("the log opens")
        .0
}

fn append(log: &mut Log, batch: &Batch) {
    black_box(
        log.append_as_leader(batch, EPOCH, now().timestamp)
            .expect("appended"),
    );
}

/// One producer that waits for each flush. The upkeep runs after the answer, as in a broker, but the next append waits for
/// it, which is the worst case.
fn append_and_flush(root: &Path) {
    for round in 0..2 {
        for (name, write_ahead_bytes_max) in [("plain", 0), ("written ahead", 1 << 20)] {
            let config = LogConfig {
                write_ahead_bytes_max,
                ..LogConfig::default()
            };
            let mut log = open(
                root,
                &format!("flush{round}{write_ahead_bytes_max}-0"),
                config,
                Start::NEW,
            );
            let batch = batch(1, 1024);
            let (mut alone, mut with_upkeep) = (Vec::new(), Vec::new());
            for _ in 0..2000 {
                let began = Instant::now();
                append(&mut log, &batch);
                let flush = log.begin_flush().expect("something to flush");
                let result = flush.run();
                log.flush_finished(flush, result).expect("flushed");
                alone.push(began.elapsed());
                if let Some(upkeep) = log.begin_upkeep() {
                    upkeep.run();
                }
                with_upkeep.push(began.elapsed());
            }
            report_times(&format!("append 1 KiB + flush, {name}"), alone);
            report_times(&format!("the same with upkeep, {name}"), with_upkeep);
        }
    }
}

fn append_alone(root: &Path) {
    let batches = [
        ("1 record of 100 bytes", batch(1, 100)),
        ("1 record of 1 KiB", batch(1, 1024)),
        ("16 KiB in records of 1 KiB", batch(16, 1024)),
        ("64 KiB in records of 1 KiB", batch_of_64_kib()),
    ];
    for (i, (what, batch)) in batches.iter().enumerate() {
        let name = format!("append{i}-0");
        let mut log = open(root, &name, LogConfig::default(), Start::NEW);
        let mut times = Vec::new();
        for _ in 0..8000 {
            let began = Instant::now();
            append(&mut log, batch);
            times.push(began.elapsed());
        }
        let rate = log.size() as f64 / times.iter().sum::<Duration>().as_secs_f64() / 1e9;
        report_times(&format!("append {what}"), times);
        println!("{:<44} {rate:.2} GB/s", "");
        drop(log);
        std::fs::remove_dir_all(root.join(name)).expect("the data is ours");
    }
}

/// What a fetch does without the socket: find the slice, read it.
fn read_slices(root: &Path) {
    let mut log = open(root, "slices-0", LogConfig::default(), Start::NEW);
    let batch = batch_of_64_kib();
    while log.size() < 256 << 20 {
        append(&mut log, &batch);
    }
    let (reader, end) = (log.reader(), log.log_end_offset());
    for size in [64 << 10, 1 << 20] {
        let runs = (0..RUNS).map(|_| {
            let (began, mut bytes, mut from) = (Instant::now(), 0, Offset::ZERO);
            while from < end {
                let slice = reader.read(from, size, end, true).expect("read");
                let batches = slice.len() / batch.bytes().len();
                bytes += black_box(slice.data.read_all().expect("read")).len();
                from = slice.base_offset + batch.header().records_count as i64 * batches as i64;
            }
            bytes as f64 / began.elapsed().as_secs_f64() / 1e9
        });
        let what = format!("read slices of {} KiB", size >> 10);
        report_runs(&what, "GB/s", runs.collect());
    }
}

fn read_at_the_end(root: &Path) {
    let mut log = open(root, "read-0", LogConfig::default(), Start::NEW);
    let batch = batch(1, 200);
    for _ in 0..10_000 {
        append(&mut log, &batch);
    }
    let (reader, end) = (log.reader(), log.log_end_offset());
    for behind in [1, 50, 500] {
        let until = end + -behind;
        let times = (0..20_000).map(|_| {
            let began = Instant::now();
            black_box(reader.read(until + -1, 1 << 20, until, true).expect("read"));
            began.elapsed()
        });
        report_times(
            &format!("find a batch, {behind} behind the end"),
            times.collect(),
        );
    }
}

fn create(root: &Path) {
    let began = Instant::now();
    let mut logs: Vec<_> = (0..50)
        .map(|i| {
            open(
                root,
                &format!("create-{i}"),
                LogConfig::default(),
                Start::NEW,
            )
        })
        .collect();
    println!("{:<44} {:.1?}", "create 50 logs", began.elapsed());
    let began = Instant::now();
    let batch = batch(1, 100);
    logs.iter_mut().for_each(|log| append(log, &batch));
    println!(
        "{:<44} {:.1?}",
        "first append to each of 50 logs",
        began.elapsed()
    );
}

fn recover(root: &Path) {
    let config = LogConfig::default();
    let mut log = open(root, "recover-0", config.clone(), Start::NEW);
    let batch = batch(16, 1024);
    while log.size() < 256 << 20 {
        append(&mut log, &batch);
    }
    let (end, size) = (log.log_end_offset(), log.size());
    drop(log);
    let runs = (0..RUNS).map(|_| {
        let began = Instant::now();
        let log = open(root, "recover-0", config.clone(), Start::NEW);
        let time = began.elapsed();
        assert_eq!(log.log_end_offset(), end);
        size as f64 / time.as_secs_f64() / f64::from(1 << 30)
    });
    report_runs("recover 256 MiB", "GiB/s", runs.collect());
    let mut log = open(root, "recover-0", config.clone(), Start::NEW);
    let recovery_point = log.close().expect("closed").log_end_offset();
    let began = Instant::now();
    let log = open(
        root,
        "recover-0",
        config,
        Start {
            recovery_point,
            clean: true,
            ..Start::NEW
        },
    );
    println!(
        "{:<44} {:.1?}",
        "open 256 MiB after a clean shutdown",
        began.elapsed()
    );
    assert!(log.log_end_offset() > Offset::ZERO);
}

fn main() {
    if !is_bench() {
        return;
    }
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the logs");
    append_and_flush(root.path());
    append_alone(root.path());
    read_at_the_end(root.path());
    read_slices(root.path());
    create(root.path());
    recover(root.path());
}
