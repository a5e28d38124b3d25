//! Work on disks that nobody waits for, at a bounded rate.

use std::time::{Duration, Instant};

/// Who waits for its turn to read or write looks this often whether it may sooner.
pub(crate) const RATE_CHECK: Duration = Duration::from_millis(100);

/// Bytes that were moved ahead of the time that a rate gives them.
#[derive(Debug, Default)]
pub(crate) struct Debt {
    bytes: f64,
    counted_at: Option<Instant>,
}

impl Debt {
    /// Adds bytes that were moved just now; answers how long it takes until there is none, `None` if there is none now.
    pub(crate) fn wait(&mut self, moved: u64, per_second: f64, now: Instant) -> Option<Duration> {
        let per_second = per_second.max(1.0);
        let since = now - self.counted_at.replace(now).unwrap_or(now);
        self.bytes = (self.bytes - since.as_secs_f64() * per_second).max(0.0) + moved as f64;
        let seconds = self.bytes / per_second;
        // Below this the rate is no bound.
        if seconds < 1e-9 {
            self.bytes = 0.0;
            return None;
        }
        Some(Duration::from_secs_f64(seconds.min(3600.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
