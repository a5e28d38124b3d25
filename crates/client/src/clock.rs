//! Both clocks, read cheaply.

use std::time::{Duration, Instant, SystemTime};

use tidelog_types::{Now, Timestamp};

/// The time, by one reading of one clock: the wall clock is looked at once in a while.
#[derive(Debug)]
pub(crate) struct Clock {
    read: Now,
}

impl Clock {
    /// For how long the wall clock is taken to go like the other.
    const PERIOD: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Self {
        let read = Self::read(Instant::now());
        Self { read }
    }

    fn read(instant: Instant) -> Now {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis() as i64);
        let timestamp = Timestamp::from_millis(millis);
        Now { instant, timestamp }
    }

    pub(crate) fn now(&mut self) -> Now {
        let instant = Instant::now();
        let passed = instant.saturating_duration_since(self.read.instant);
        if passed >= Self::PERIOD {
            self.read = Self::read(instant);
            return self.read;
        }
        self.read + passed
    }
}
