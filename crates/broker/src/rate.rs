//! Work that nobody waits for, at a bounded rate: on disks, and among brokers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Who waits for its turn to read or write looks this often whether it may sooner.
pub(crate) const RATE_CHECK: Duration = Duration::from_millis(100);

/// Bytes that were moved ahead of the time that a rate gives them.
#[derive(Debug, Default)]
pub(crate) struct Debt {
    bytes: f64,
    counted_at: Option<Instant>,
    /// What is owed for longer than this is forgotten, the bytes apart that were moved last.
    window: Option<Duration>,
}

impl Debt {
    /// Adds bytes that were moved just now; answers how long it takes until there is none, `None` if there is none now.
    pub(crate) fn wait(&mut self, moved: u64, per_second: f64, now: Instant) -> Option<Duration> {
        let per_second = per_second.max(1.0);
        let since = now - self.counted_at.replace(now).unwrap_or(now);
        self.bytes = (self.bytes - since.as_secs_f64() * per_second).max(0.0);
        if moved > 0
            && let Some(window) = self.window
        {
            self.bytes = self.bytes.min(window.as_secs_f64() * per_second);
        }
        self.bytes += moved as f64;
        let seconds = self.bytes / per_second;
        // Below this the rate is no bound.
        if seconds < 1e-9 {
            self.bytes = 0.0;
            return None;
        }
        Some(Duration::from_secs_f64(seconds.min(3600.0)))
    }
}

/// A rate that several share, and that may be set, changed and taken back at any time.
///
/// What is moved is counted whoever moved it; who may wait asks first. Without a rate nothing is counted.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    is_bounded: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    per_second: f64,
    debt: Debt,
}

impl Throttle {
    /// Takes over a rate in bytes a second, `None` for no bound, and for how long what was moved too much is remembered.
    pub(crate) fn configure(&self, per_second: Option<u64>, window: Duration) {
        let mut state = self.state.lock();
        match per_second {
            Some(per_second) => state.per_second = per_second as f64,
            None => state.debt = Debt::default(),
        }
        state.debt.window = Some(window);
        self.is_bounded
            .store(per_second.is_some(), Ordering::Release);
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.is_bounded.load(Ordering::Acquire)
    }

    /// So many bytes were moved.
    pub(crate) fn moved(&self, bytes: usize, now: Instant) {
        self.count(u64::try_from(bytes).unwrap_or(u64::MAX), now);
    }

    /// How long until more may be moved; `None` if it may be now.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.count(0, now)
    }

    fn count(&self, moved: u64, now: Instant) -> Option<Duration> {
        if !self.is_bounded() {
            return None;
        }
        let State { per_second, debt } = &mut *self.state.lock();
        debt.wait(moved, *per_second, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_too_much_is_forgotten_but_for_the_last() {
        let begin = Instant::now();
        let at = |secs| begin + Duration::from_secs(secs);
        let throttle = Throttle::default();
        let wait = |now| throttle.wait(now).map(|wait| wait.as_secs());
        throttle.moved(1_000_000, at(0));
        assert_eq!(wait(at(0)), None, "nothing is counted without a rate");
        throttle.configure(Some(1000), Duration::from_secs(11));
        // Those who do not wait move ten times as much as they should, for a minute.
        (0..60).for_each(|second| throttle.moved(10_000, at(second)));
        assert_eq!(wait(at(59)), Some(21));
        assert_eq!(wait(at(79)), Some(1));
        // More at a time than the window has room for is waited for to the end.
        throttle.moved(20_000, at(80));
        assert_eq!(wait(at(80)), Some(20));
        assert_eq!(wait(at(99)), Some(1));
        throttle.configure(None, Duration::from_secs(11));
        throttle.configure(Some(1), Duration::from_secs(11));
        assert_eq!(wait(at(99)), None);
    }

    #[test]
    fn bytes_are_moved_at_the_rate_and_no_faster() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut debt = Debt::default();
        let mut moved = |bytes, per_second, now| {
            let wait = debt.wait(bytes, per_second, now);
            wait.map(|wait| wait.as_millis())
        };
        assert_eq!(moved(500, 1000.0, at(0)), Some(500));
        assert_eq!(moved(0, 1000.0, at(400)), Some(100));
        assert_eq!(moved(0, 1000.0, at(500)), None);
        // Time in which nothing was moved does not count later.
        assert_eq!(moved(500, 1000.0, at(9500)), Some(500));
        // Several threads share the rate, and a change of it counts at once.
        assert_eq!(moved(1000, 1000.0, at(9500)), Some(1500));
        assert_eq!(moved(0, 3000.0, at(9500)), Some(500));
        assert_eq!(moved(0, f64::MAX, at(9500)), None);
    }
}
