//! What is counted, and what it costs.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

/// The shortest latency that there is, in nanoseconds.
const LATENCY_MIN: u64 = 1;
/// Longer ones count as this one.
const LATENCY_MAX: u64 = 3_600_000_000_000;
/// How many digits of a latency are right.
const DIGITS: u8 = 3;

/// Latencies in nanoseconds.
pub(super) type Latencies = Histogram<u64>;

pub(super) fn latencies() -> Latencies {
    Histogram::new_with_bounds(LATENCY_MIN, LATENCY_MAX, DIGITS).expect("the bounds make sense")
}

/// What was counted in a while.
#[derive(Clone)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Records that were not delivered, or never came.
    pub(super) failed: u64,
    pub(super) first_error: Option<String>,
    pub(super) latencies: Vec<Latencies>,
}

impl Tally {
    /// Nothing yet, of so many kinds of latencies.
    pub(super) fn new(kinds: usize) -> Self {
        Self {
            records: 0,
            bytes: 0,
            failed: 0,
            first_error: None,
            latencies: vec![latencies(); kinds],
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.failed += other.failed;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
        for (ours, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            ours.add(theirs).expect("all have the same bounds");
        }
    }

    pub(super) fn record(&mut self, kind: usize, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latencies[kind].saturating_record(nanos);
    }
}

/// Where workers count, and what was counted since somebody last looked.
#[derive(Clone)]
pub(super) struct Gauge {
    kinds: usize,
    tally: Arc<Mutex<Tally>>,
}

impl Gauge {
    pub(super) fn new(kinds: usize) -> Self {
        Self {
            kinds,
            tally: Arc::new(Mutex::new(Tally::new(kinds))),
        }
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally.lock());
    }

    /// What was counted since the last time.
    pub(super) fn take(&self) -> Tally {
        std::mem::replace(&mut *self.tally.lock(), Tally::new(self.kinds))
    }
}

/// The processor time that this process has taken.
pub(super) fn processor_time() -> Duration {
    let taken = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(taken).unwrap_or_default()
}

/// The memory of this process, in bytes, where the system tells.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let gauge = Gauge::new(1);
        for micros in [10, 20, 30_000_000_000] {
            gauge.count(|tally| {
                tally.records += 1;
                tally.record(0, Duration::from_micros(micros));
            });
        }
        let mut total = gauge.take();
        total.add(&gauge.take());
        assert_eq!(total.records, 3);
        assert_eq!(total.latencies[0].len(), 3);
        let within = |nanos: u64, around: u64| nanos.abs_diff(around) * 1000 <= around;
        assert!(within(total.latencies[0].value_at_quantile(0.5), 20_000));
        assert!(within(total.latencies[0].max(), LATENCY_MAX));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_is_measured() {
        assert!(processor_time() > Duration::ZERO);
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
