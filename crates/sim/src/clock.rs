//! The time of the simulation, and the clocks of its nodes, of which none is right.

use std::time::{Duration, Instant};

use tidelog_types::{Now, Timestamp};

/// A moment of the simulation, in nanoseconds since its beginning.
pub(crate) type Time = u64;

pub(crate) const MS: Time = 1_000_000;
pub(crate) const SECOND: Time = 1_000 * MS;

/// Where the wall clocks begin: some day.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// A node's clock: it runs fast or slow, and the wall clock is off by up to hours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Instant,
    /// How many nanoseconds it counts in a millisecond: about a million.
    rate: u64,
    skew_ms: i64,
}

impl Clock {
    pub(crate) const fn new(base: Instant, drift_ppm: i64, skew_ms: i64) -> Self {
        Self {
            base,
            rate: (1_000_000 + drift_ppm) as u64,
            skew_ms,
        }
    }

    fn local(&self, time: Time) -> u64 {
        time / 1_000_000 * self.rate + time % 1_000_000 * self.rate / 1_000_000
    }

    pub(crate) fn now(&self, time: Time) -> Now {
        let local = self.local(time);
        Now {
            instant: self.base + Duration::from_nanos(local),
            timestamp: Timestamp::from_millis(EPOCH_MS + self.skew_ms + (local / MS) as i64),
        }
    }

    /// When this clock will have reached `instant`.
    pub(crate) fn when(&self, instant: Instant) -> Time {
        let local = instant.saturating_duration_since(self.base).as_nanos() as u64;
        // Rounded up, so that the clock does not come short.
        local / self.rate * 1_000_000 + (local % self.rate * 1_000_000).div_ceil(self.rate) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_has_reached_an_instant_when_it_says_so() {
        for drift in [-900, 0, 777] {
            let clock = Clock::new(Instant::now(), drift, 0);
            for time in [
                0,
                1,
                999_999,
                1_000_001,
                7 * SECOND + 123,
                3600 * SECOND + 7,
            ] {
                let instant = clock.now(time).instant;
                let when = clock.when(instant);
                assert!(clock.now(when).instant >= instant && when <= time + 3);
            }
        }
    }
}
