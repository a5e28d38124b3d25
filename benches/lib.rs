//! What the benchmarks share; see `docs/performance.md` for the method.
#![allow(clippy::print_stdout, reason = "the report")]

pub mod wire;

use std::time::Duration;

use tidelog_record::{Batch, BatchBuilder, Compression};
use tidelog_types::Timestamp;

/// The time of all records.
pub const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Whether the program was started by `cargo bench`: `cargo test --all-targets` runs benches too, and has no time for them.
pub fn is_bench() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// A batch, not compressed, of `records` records with values of `value_size` bytes.
pub fn batch(records: usize, value_size: usize) -> Batch {
    let mut builder = BatchBuilder::new(Compression::NONE);
    for _ in 0..records {
        builder.push(NOW, None, Some(&vec![7; value_size]), &[]);
    }
    builder.build().expect("a batch")
}

/// A batch of records of 1 KiB, as many as fit in 64 KiB: the load of the rates.
pub fn batch_of_64_kib() -> Batch {
    batch(63, 1024)
}

/// Prints how long operations took: the median, and what matters more, the slow ones.
pub fn report_times(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{what:<44} p50 {:>9.1?}  p99 {:>9.1?}  p99.9 {:>9.1?}  max {:>9.1?}  of {}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        times.len(),
    );
}

/// Prints the median, the least and the most of some runs.
pub fn report_runs(what: &str, unit: &str, mut runs: Vec<f64>) {
    runs.sort_unstable_by(f64::total_cmp);
    println!(
        "{what:<44} {:>9.2} {unit}  (min {:.2}, max {:.2}, {} runs)",
        runs[runs.len() / 2],
        runs[0],
        runs[runs.len() - 1],
        runs.len(),
    );
}
