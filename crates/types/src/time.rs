use std::fmt;
use std::time::{Duration, Instant};

/// A point in wall-clock time: milliseconds since 1970-01-01 UTC, as Kafka writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// "No timestamp" (-1).
    pub const NONE: Self = Self(-1);

    /// Wraps milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time moved by `millis`, kept within what an i64 can hold.
    #[must_use]
    pub const fn saturating_add_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` until this time, negative if `earlier` is the later one.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One reading of both clocks, handed to every machine with every input.
///
/// Timeouts are measured on `instant`, which never goes back; what is written down carries `timestamp`, which people
/// understand. A machine reads no clock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// The wall clock.
    pub timestamp: Timestamp,
}

impl std::ops::Add<Duration> for Now {
    type Output = Self;

    /// Both clocks, `passed` later.
    fn add(self, passed: Duration) -> Self {
        let millis = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        Self {
            instant: self.instant + passed,
            timestamp: self.timestamp.saturating_add_millis(millis),
        }
    }
}
