//! The commit log on a real disk: `cargo bench -p tidelog-benches --bench log`, on a machine that does nothing else.
//!
//! What matters here are the slow ones among many operations, so this prints percentiles instead of means.
#![allow(clippy::print_stdout, reason = "the report")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_log::{FsDir, Log, LogConfig, Start};
use tidelog_record::{Batch, BatchBuilder, Compression};
use tidelog_types::{LeaderEpoch, Now, Offset, Timestamp};

const EPOCH: LeaderEpoch = LeaderEpoch::new(0);

fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(1_700_000_000_000),
    }
}

fn batch(value_size: usize) -> Batch {
    let mut builder = BatchBuilder::new(Compression::NONE);
    builder.push(now().timestamp, None, Some(&vec![7; value_size]), &[]);
    builder.build().expect("a small batch")
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

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{what:<44} p50 {:>9.1?}  p99 {:>9.1?}  p99.9 {:>9.1?}  max {:>9.1?}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
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
            let batch = batch(1024);
            let (mut alone, mut with_upkeep) = (Vec::new(), Vec::new());
            for _ in 0..5000 {
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
            report(&format!("append 1 KiB + flush, {name}"), alone);
            report(&format!("the same with upkeep, {name}"), with_upkeep);
        }
    }
}

fn append_alone(root: &Path) {
    for size in [100, 1024, 16 << 10] {
        let mut log = open(
            root,
            &format!("append{size}-0"),
            LogConfig::default(),
            Start::NEW,
        );
        let batch = batch(size);
        let mut times = Vec::new();
        for _ in 0..20_000 {
            let began = Instant::now();
            append(&mut log, &batch);
            times.push(began.elapsed());
        }
        report(&format!("append {size} bytes"), times);
    }
}

fn read_at_the_end(root: &Path) {
    let mut log = open(root, "read-0", LogConfig::default(), Start::NEW);
    let batch = batch(200);
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
        report(
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
    let batch = batch(100);
    logs.iter_mut().for_each(|log| append(log, &batch));
    println!(
        "{:<44} {:.1?}",
        "first append to each of 50 logs",
        began.elapsed()
    );
}

fn recover(root: &Path) {
    let config = LogConfig {
        segment_bytes: i32::MAX as u32,
        ..LogConfig::default()
    };
    let mut log = open(root, "recover-0", config.clone(), Start::NEW);
    let batch = batch(16 << 10);
    while log.size() < 1 << 30 {
        append(&mut log, &batch);
    }
    let end = log.log_end_offset();
    drop(log);
    for _ in 0..3 {
        let began = Instant::now();
        let log = open(root, "recover-0", config.clone(), Start::NEW);
        println!(
            "{:<44} {:.1?}",
            "recover 1 GiB from the page cache",
            began.elapsed()
        );
        assert_eq!(log.log_end_offset(), end);
    }
    let log = open(root, "recover-0", config.clone(), Start::NEW);
    let recovery_point = log.close().expect("closed");
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
        "open 1 GiB after a clean shutdown",
        began.elapsed()
    );
    assert!(log.log_end_offset() > Offset::ZERO);
}

fn main() {
    // `cargo test` runs benches too, and has no time for them.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the logs");
    append_and_flush(root.path());
    append_alone(root.path());
    read_at_the_end(root.path());
    create(root.path());
    recover(root.path());
}
