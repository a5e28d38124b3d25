//! The commit log on a real disk: `cargo bench -p tidelog-benches --bench log`, on a machine that does nothing else.
//!
//! First comes a table of shares: what the log reaches of what a bare loop with the same system calls reaches, both measured in
//! turn in the same run. `-- shares` prints only that, `-- recovery` only the recovery of 10 GiB (`RECOVERY_GIB` for another
//! size), which takes that much space and a minute.
//!
//! Method of the rest: one log, one thread, no sockets, on the file system of the target directory. What matters are the slow ones among
//! many operations, so this prints percentiles instead of means. Appends are measured without a flush and with one after
//! each; recovery is of a log that was not closed, whose files are in the page cache; slices are read from there too.
#![allow(clippy::print_stdout, reason = "the report")]

use std::hint::black_box;
use std::io::{IoSlice, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tidelog_benches::{NOW, batch, batch_of_64_kib, is_bench, report_runs, report_times};
use tidelog_log::{Access, Dir, FlushTarget, Flusher, FsDir, Log, LogConfig, Start, Upkeep};
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

/// Bytes that a rate is taken from.
const SHARE_BYTES: u64 = 256 << 20;

/// Prints what two ways of doing the same reach, and the share.
fn report_share(what: &str, unit: &str, target: f64, runs: &[(f64, f64)]) {
    let median = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let bare = median(runs.iter().map(|run| run.0).collect());
    let log = median(runs.iter().map(|run| run.1).collect());
    let share = median(runs.iter().map(|run| run.1 / run.0).collect());
    println!(
        "{what:<44} bare {bare:>8.2} {unit:<7} log {log:>8.2} {unit:<7} {:>4.0} %  (target {:.0} %)",
        share * 100.0,
        target * 100.0
    );
}

fn gb_per_s(bytes: u64, began: Instant) -> f64 {
    bytes as f64 / began.elapsed().as_secs_f64() / 1e9
}

/// Appends without a flush, against `pwritev` of the same bytes in the same two parts.
fn share_of_append(root: &Path) {
    for (kib, batch) in [
        (4, batch(4, 1000)),
        (16, batch(16, 1000)),
        (64, batch_of_64_kib()),
    ] {
        let runs = (0..RUNS).map(|_| {
            let dir = FsDir::new(root);
            let file = dir
                .open(Path::new("bare"), Access::Truncate)
                .expect("opened");
            let (began, mut position) = (Instant::now(), 0);
            while position < SHARE_BYTES {
                let (front, rest) = batch.bytes().split_at(16);
                file.write_all_at(&mut [IoSlice::new(front), IoSlice::new(rest)], position)
                    .expect("written");
                position += batch.size() as u64;
            }
            let bare = gb_per_s(position, began);
            drop(file);
            dir.remove_file(Path::new("bare")).expect("removed");
            let mut log = open(root, "share-0", LogConfig::default(), Start::NEW);
            let began = Instant::now();
            while log.size() < SHARE_BYTES {
                append(&mut log, &batch);
            }
            let ours = gb_per_s(log.size(), began);
            drop(log);
            std::fs::remove_dir_all(root.join("share-0")).expect("the data is ours");
            (bare, ours)
        });
        let what = format!("append {kib} KiB, page cache");
        report_share(&what, "GB/s", 0.7, &runs.collect::<Vec<_>>());
    }
}

/// Whoever appends waits until a flush has covered it.
struct Durable {
    end: Mutex<u64>,
    moved: Condvar,
}

impl Durable {
    const fn new() -> Self {
        Self {
            end: Mutex::new(0),
            moved: Condvar::new(),
        }
    }

    fn reach(&self, end: u64) {
        *self.end.lock() = end;
        self.moved.notify_all();
    }

    fn wait(&self, end: u64) {
        let mut durable = self.end.lock();
        while *durable < end {
            self.moved.wait(&mut durable);
        }
    }
}

/// A log as a broker has it: a lock, and a flusher.
struct Flushed {
    log: Mutex<Log>,
    durable: Durable,
}

impl FlushTarget for Flushed {
    fn flush(&self) -> Option<Upkeep> {
        let flush = self.log.lock().begin_flush()?;
        let result = flush.run();
        let mut log = self.log.lock();
        let end = log.flush_finished(flush, result).expect("flushed");
        drop(log);
        self.durable.reach(end.value().cast_unsigned());
        self.log.lock().begin_upkeep()
    }
}

const WRITERS: usize = 32;
const GROUP_COMMIT_TIME: Duration = Duration::from_secs(1);

/// Appends per second of so many threads, each of which waits for the flush of what it appended.
fn group_commits(append: impl Fn() + Sync) -> f64 {
    let began = Instant::now();
    let count: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while began.elapsed() < GROUP_COMMIT_TIME {
                        append();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let counts = writers
            .into_iter()
            .map(|writer| writer.join().expect("no panic"));
        counts.sum()
    });
    count as f64 / began.elapsed().as_secs_f64() / 1000.0
}

/// The least that a group commit takes: one thread flushes as soon as anything was written, the others write meanwhile.
fn bare_group_commits(root: &Path, bytes: &[u8]) -> f64 {
    let dir = FsDir::new(root);
    let file = dir
        .open(Path::new("bare"), Access::Truncate)
        .expect("opened");
    let durable = Durable::new();
    let end = Mutex::new(0_u64);
    let (request, requested) = std::sync::mpsc::channel::<()>();
    let rate = std::thread::scope(|scope| {
        let (flushed, durable, end) = (file.clone(), &durable, &end);
        scope.spawn(move || {
            while requested.recv().is_ok() {
                while requested.try_recv().is_ok() {}
                let end = *end.lock();
                flushed.sync_data().expect("flushed");
                durable.reach(end);
            }
        });
        let rate = group_commits(|| {
            let mut position = end.lock();
            file.write_all_at(&mut [IoSlice::new(bytes)], *position)
                .expect("written");
            *position += bytes.len() as u64;
            let mine = *position;
            drop(position);
            request.send(()).expect("the flusher runs");
            durable.wait(mine);
        });
        drop(request);
        rate
    });
    dir.remove_file(Path::new("bare")).expect("removed");
    rate
}

fn share_of_group_commit(root: &Path) {
    let batch = batch(4, 1000);
    let runs = (0..RUNS).map(|_| {
        let bare = bare_group_commits(root, batch.bytes());
        let flusher = Flusher::start("flusher").expect("a thread");
        let flushed = Arc::new(Flushed {
            log: Mutex::new(open(root, "share-0", LogConfig::default(), Start::NEW)),
            durable: Durable::new(),
        });
        let ours = group_commits(|| {
            let mut log = flushed.log.lock();
            append(&mut log, &batch);
            let mine = log.log_end_offset().value().cast_unsigned();
            drop(log);
            flusher.request(flushed.clone());
            flushed.durable.wait(mine);
        });
        drop(flusher);
        std::fs::remove_dir_all(root.join("share-0")).expect("the data is ours");
        (bare, ours)
    });
    let what = format!("append 4 KiB and flush, {WRITERS} writers");
    report_share(&what, "k/s", 0.7, &runs.collect::<Vec<_>>());
}

/// Finding and reading slices one behind the other, against `pread` of the same file.
fn share_of_read(root: &Path) {
    let mut log = open(root, "share-0", LogConfig::default(), Start::NEW);
    let batch = batch_of_64_kib();
    while log.size() < SHARE_BYTES {
        append(&mut log, &batch);
    }
    let (reader, end) = (log.reader(), log.log_end_offset());
    let dir = FsDir::new(root);
    let path = Path::new("share-0/00000000000000000000.log");
    let file = dir.open(path, Access::Read).expect("opened");
    for kib in [64, 256, 1024] {
        let mut buffer = vec![0; kib << 10];
        let runs = (0..RUNS).map(|_| {
            let (began, mut position) = (Instant::now(), 0);
            while position < log.size() {
                let len = buffer.len().min((log.size() - position) as usize);
                file.read_exact_at(&mut buffer[..len], position)
                    .expect("read");
                position += black_box(len) as u64;
            }
            let bare = gb_per_s(position, began);
            let (began, mut from, mut bytes) = (Instant::now(), Offset::ZERO, 0);
            while from < end {
                let slice = reader.read(from, buffer.len(), end, true).expect("read");
                buffer.resize(buffer.len().max(slice.len()), 0);
                slice
                    .data
                    .read_at(&mut buffer[..slice.len()], 0)
                    .expect("read");
                // Only whole batches count, as for a consumer.
                let batches = slice.len() / batch.size();
                bytes += black_box(batches * batch.size()) as u64;
                from = slice.base_offset + (batch.header().records_count as i64 * batches as i64);
            }
            (bare, gb_per_s(bytes, began))
        });
        report_share(
            &format!("read {kib} KiB"),
            "GB/s",
            0.8,
            &runs.collect::<Vec<_>>(),
        );
    }
    drop(log);
    std::fs::remove_dir_all(root.join("share-0")).expect("the data is ours");
}

/// Reads all files of a folder, 1 MiB at a time.
fn read_folder(folder: &Path) {
    let mut piece = vec![0; 1 << 20];
    for entry in std::fs::read_dir(folder).expect("the log's folder") {
        let path = entry.expect("a file").path();
        let mut file = std::fs::File::open(path).expect("opened");
        while black_box(file.read(&mut piece).expect("read")) > 0 {}
    }
}

/// A log of many segments whose process was killed, with the page cache as it is then: from the recovery point on, as a whole,
/// and once more when all is in memory.
fn recover_large(root: &Path) {
    let gib = std::env::var("RECOVERY_GIB")
        .ok()
        .and_then(|gib| gib.parse().ok());
    let bytes: u64 = gib.unwrap_or(10) << 30;
    let mut log = open(root, "large-0", LogConfig::default(), Start::NEW);
    let batch = batch_of_64_kib();
    let mut flushed_bytes = 0;
    while log.size() < bytes {
        append(&mut log, &batch);
        let size = log.size();
        if size <= bytes / 10 * 9 && size - flushed_bytes >= 64 << 20 {
            // As a flusher does.
            log.flush().expect("flushed");
            log.begin_upkeep().into_iter().for_each(Upkeep::run);
            flushed_bytes = size;
        }
    }
    let (end, size, flushed) = (log.log_end_offset(), log.size(), log.recovery_point());
    drop(log);
    let recover = |what: &str, recovery_point: Offset| {
        let start = Start {
            recovery_point,
            ..Start::NEW
        };
        let began = Instant::now();
        let log = open(root, "large-0", LogConfig::default(), start);
        let seconds = began.elapsed().as_secs_f64();
        assert_eq!(log.log_end_offset(), end);
        let what = format!("recover {} GiB, {what}", size >> 30);
        println!(
            "{what:<44} {seconds:>6.2} s  {:>6.2} GB/s  (target 1 GB/s)",
            size as f64 / seconds / 1e9
        );
    };
    recover("9 tenths of it flushed", flushed);
    recover("nothing of it flushed", Offset::ZERO);
    let began = Instant::now();
    read_folder(&root.join("large-0"));
    let (bare, bare_seconds) = (gb_per_s(size, began), began.elapsed().as_secs_f64());
    println!(
        "{:<44} {bare_seconds:>6.2} s  {bare:>6.2} GB/s",
        "read the same files, a bare loop"
    );
    recover("once more", Offset::ZERO);
    std::fs::remove_dir_all(root.join("large-0")).expect("the data is ours");
}

fn main() {
    if !is_bench() {
        return;
    }
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the logs");
    let only = |what: &str| std::env::args().any(|argument| argument == what);
    if only("recovery") {
        recover_large(root.path());
        return;
    }
    share_of_append(root.path());
    share_of_group_commit(root.path());
    share_of_read(root.path());
    if only("shares") {
        return;
    }
    append_and_flush(root.path());
    append_alone(root.path());
    read_at_the_end(root.path());
    read_slices(root.path());
    create(root.path());
    recover(root.path());
}
