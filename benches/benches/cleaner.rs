//! Compaction on a real disk: `cargo bench -p tidelog-benches --bench cleaner`, on a machine that does nothing else. It takes a
//! minute and 3 GB of disk; `-- rates` and `-- appends` take only one half.
//!
//! Method: a log of 512 MiB in segments of 64 MiB, flushed, in the page cache; keys drawn at random. One thread compacts it as a
//! broker's cleaner does; a run is the whole of it: both passes, the flushes, the renames. The rate is that of the log before, as
//! Kafka's cleaner counts it. Processor time is that of the thread, which other load does not change much. Memory is the most
//! that the process had resident during a run (VmHWM), less what it had before. Beside it, on the same files right before, a
//! bare loop of the same system calls: read everything twice, write as much as stays, flush as often.
//!
//! Appends: one producer on another log of the same directory that appends 1 KiB, with and without a flush after each; first
//! alone, then beside the bare loop, then beside a compaction with the low priority that a broker's has; five rounds. The bare
//! loop shows what disk and processors do by themselves.
#![allow(clippy::print_stdout, reason = "the report")]

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidelog_benches::{NOW, batch, is_bench, report_runs, report_times};
use tidelog_log::{Cleaned, Cleaner, CleanerConfig, FsDir, Log, LogConfig, Start};
use tidelog_record::{Batch, BatchBuilder, Codec};
use tidelog_types::{LeaderEpoch, Now, Timestamp};

const RUNS: usize = 3;
const LOG_BYTES: u64 = 512 << 20;
const BATCH_BYTES: usize = 64 << 10;
const EPOCH: LeaderEpoch = LeaderEpoch::new(0);
/// The priority that a broker's cleaner has.
const NICE: i32 = 10;
/// How often appends are watched, in turns.
const ROUNDS: usize = 5;
/// How long when nothing is beside them.
const WATCH: Duration = Duration::from_secs(1);

fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: NOW,
    }
}

fn config() -> LogConfig {
    LogConfig {
        compact: true,
        delete: false,
        segment_bytes: 64 << 20,
        min_cleanable_dirty_ratio: 0.0,
        ..LogConfig::default()
    }
}

/// What a log is filled with.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    value_size: usize,
    keys: u64,
    /// The share of the bytes that stays, for the bare loop.
    stays: f64,
    codec: Codec,
}

const LOADS: [Load; 5] = [
    Load {
        name: "1 KiB, 1 of 10 records stays",
        value_size: 1024,
        keys: 50_000,
        stays: 0.1,
        codec: Codec::None,
    },
    Load {
        name: "1 KiB, 6 of 10 stay",
        value_size: 1024,
        keys: 500_000,
        stays: 0.6,
        codec: Codec::None,
    },
    Load {
        name: "100 B, 1 of 8 stays",
        value_size: 100,
        keys: 500_000,
        stays: 0.13,
        codec: Codec::None,
    },
    Load {
        name: "100 B, all keys differ",
        value_size: 100,
        keys: u64::MAX,
        stays: 1.0,
        codec: Codec::None,
    },
    Load {
        name: "1 KiB lz4, 1 of 10 stays",
        value_size: 1024,
        keys: 50_000,
        stays: 0.1,
        codec: Codec::Lz4,
    },
];

/// A small generator of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn keyed_batch(load: Load, random: &mut Random) -> Batch {
    let mut builder = BatchBuilder::new(load.codec.into());
    let mut value = vec![7; load.value_size];
    while builder.size() < BATCH_BYTES {
        let key = format!("user-{:011}", random.next() % load.keys % 100_000_000_000);
        // Half of the value does not compress.
        for part in value[load.value_size / 2..].chunks_exact_mut(8) {
            part.copy_from_slice(&random.next().to_be_bytes());
        }
        builder.push(NOW, Some(key.as_bytes()), Some(&value), &[]);
    }
    builder.build().expect("a batch")
}

fn filled(dir: &Arc<FsDir>, name: &str, load: Load) -> Log {
    let opened = Log::open(dir.clone(), name, config(), Start::NEW, now());
    let (mut log, _) = opened.expect("the log opens");
    let mut random = Random(1);
    while log.size() < LOG_BYTES {
        let batch = keyed_batch(load, &mut random);
        log.append_as_leader(&batch, EPOCH, NOW).expect("appended");
    }
    log.flush().expect("flushed");
    log
}

/// Compacts all but the active segment.
fn clean(log: &mut Log) -> Cleaned {
    let end = log.log_end_offset();
    let to_clean = log.to_clean(end).expect("the log is sound");
    let cleanable = to_clean
        .expect("several segments")
        .assess(NOW)
        .expect("the log is sound");
    assert!(cleanable.is_due());
    let seed = [9; 16];
    let cleaner = Cleaner::new(CleanerConfig {
        seed,
        ..CleanerConfig::default()
    });
    let later = Timestamp::from_millis(NOW.as_millis() + 1000);
    let cleaned = cleaner.clean(&cleanable, log, later).expect("compacted");
    log.finish_cleaning(&cleaned);
    cleaned
}

/// A line of `/proc/self/status`, in MiB.
fn memory(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|l| {
        l.strip_prefix(line)?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    });
    value.map_or(f64::NAN, |kib: f64| kib / 1024.0)
}

/// Seconds that this thread has had a processor.
fn cpu_seconds() -> f64 {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = schedule
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok());
    nanos.map_or(f64::NAN, |nanos: f64| nanos / 1e9)
}

/// The closed segments of a log.
fn closed_segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the log's folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|of| of == "log"));
    paths.sort();
    paths.pop();
    paths
}

/// What a compaction asks of the disk, and nothing else; answers how many bytes that was of.
fn bare_loop(folder: &Path, stays: f64) -> u64 {
    let mut piece = vec![0; 256 << 10];
    let path = folder.join("bare");
    let output = File::create(&path).expect("a file");
    let (mut read, mut written, mut flushed) = (0, 0, 0);
    for pass in 1..=2 {
        for segment in closed_segments(folder) {
            let mut segment = File::open(segment).expect("a segment");
            loop {
                let n = segment.read(&mut piece).expect("read");
                if n == 0 {
                    break;
                }
                if pass == 1 {
                    continue;
                }
                read += n as u64;
                if written as f64 <= read as f64 * stays {
                    output.write_all_at(&piece[..n], written).expect("written");
                    written += n as u64;
                }
                if written - flushed >= 8 << 20 {
                    output.sync_data().expect("flushed");
                    flushed = written;
                }
            }
        }
    }
    output.sync_all().expect("flushed");
    std::fs::remove_file(path).expect("removed");
    read
}

fn rates(dir: &Arc<FsDir>, root: &Path) {
    for load in LOADS {
        let (mut rates, mut memories, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        let mut bare = Vec::new();
        let mut kept = 0.0;
        for run in 0..RUNS {
            let mut log = filled(dir, &format!("rate-{run}"), load);
            let began = Instant::now();
            let read = bare_loop(&root.join(format!("rate-{run}")), load.stays);
            bare.push(read as f64 / began.elapsed().as_secs_f64() / 1e6);
            // From now on VmHWM counts anew.
            let _ = std::fs::write("/proc/self/clear_refs", "5");
            let before = memory("VmRSS");
            let (began, cpu_began) = (Instant::now(), cpu_seconds());
            let stats = clean(&mut log).stats;
            let seconds = began.elapsed().as_secs_f64();
            cpu.push((cpu_seconds() - cpu_began) / (stats.bytes_read as f64 / 1e9));
            rates.push(stats.bytes_read as f64 / seconds / 1e6);
            memories.push(memory("VmHWM") - before);
            kept = stats.records_kept as f64 / stats.records_read as f64;
            drop(log);
            std::fs::remove_dir_all(root.join(format!("rate-{run}"))).expect("removed");
        }
        report_runs(&format!("compact, {}", load.name), "MB/s", rates);
        report_runs("  a bare loop", "MB/s", bare);
        report_runs("  processor", "s/GB", cpu);
        report_runs("  memory", "MiB ", memories);
        println!("  records kept {:.0} %", kept * 100.0);
    }
}

/// Appends one batch after another until told to stop; how long each took.
fn append(dir: &Arc<FsDir>, name: &str, flush: bool, stop: &AtomicBool) -> Vec<Duration> {
    let opened = Log::open(dir.clone(), name, LogConfig::default(), Start::NEW, now());
    let (mut log, _) = opened.expect("the log opens");
    let batch = batch(1, 1024);
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        log.append_as_leader(&batch, EPOCH, NOW).expect("appended");
        if flush {
            log.flush().expect("flushed");
        }
        times.push(began.elapsed());
        if let Some(upkeep) = log.begin_upkeep() {
            upkeep.run();
        }
        if !flush {
            // A rate that a busy partition has; more would measure the memory.
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    times
}

/// What goes on beside appends.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    BareLoop,
    Compaction,
}

fn appends_beside(dir: &Arc<FsDir>, root: &Path) {
    const HOW: [(Beside, &str); 3] = [
        (Beside::Nothing, "alone"),
        (Beside::BareLoop, "beside a bare loop"),
        (Beside::Compaction, "beside compaction"),
    ];
    for (what, flush) in [("append 1 KiB", false), ("append 1 KiB + flush", true)] {
        let mut times = [const { Vec::new() }; 3];
        let mut p99 = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            let mut log = filled(dir, "beside", LOADS[0]);
            for (i, (beside, _)) in HOW.into_iter().enumerate() {
                let stop = AtomicBool::new(false);
                let mut appended = std::thread::scope(|scope| {
                    let appending = scope.spawn(|| append(dir, "appended", flush, &stop));
                    let busy = scope.spawn(|| do_beside(beside, &root.join("beside"), &mut log));
                    busy.join().expect("done");
                    stop.store(true, Ordering::Relaxed);
                    appending.join().expect("appended")
                });
                std::fs::remove_dir_all(root.join("appended")).expect("removed");
                appended.sort_unstable();
                p99[i].push(appended[(appended.len() - 1) * 99 / 100].as_secs_f64());
                times[i].append(&mut appended);
            }
            drop(log);
            std::fs::remove_dir_all(root.join("beside")).expect("removed");
        }
        for ((_, how), times) in HOW.iter().zip(times) {
            report_times(&format!("{what}, {how}"), times);
        }
        for i in 1..3 {
            let ratios = p99[i].iter().zip(&p99[0]).map(|(p99, alone)| p99 / alone);
            report_runs(
                &format!("  p99 {}, to that alone", HOW[i].1),
                "(target 2)",
                ratios.collect(),
            );
        }
    }
}

/// On a thread of its own.
fn do_beside(beside: Beside, folder: &Path, log: &mut Log) {
    match beside {
        Beside::Nothing => std::thread::sleep(WATCH),
        Beside::BareLoop => {
            bare_loop(folder, LOADS[0].stays);
        }
        Beside::Compaction => {
            rustix::process::setpriority_process(None, NICE).expect("a lower priority is allowed");
            clean(log);
        }
    }
}

fn main() {
    if !is_bench() {
        return;
    }
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the logs");
    let dir = Arc::new(FsDir::new(root.path()));
    let only = |what: &str| std::env::args().any(|argument| argument == what);
    if !only("appends") {
        rates(&dir, root.path());
    }
    if !only("rates") {
        appends_beside(&dir, root.path());
    }
}
