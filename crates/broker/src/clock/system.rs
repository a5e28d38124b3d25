//! The clock of a broker that is not under test: the system's. Everything here is compiled away.

use std::future::Future;
use std::ops::Add;
use std::time::{Duration, Instant};

use tidelog_types::Now;

use super::real;

/// The system's clocks.
#[derive(Clone, Debug)]
pub(crate) struct Clock;

/// When somebody's patience ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Instant);

/// Whoever does something when its time has come.
#[derive(Debug)]
pub(crate) struct Follower;

/// What a [`Follower`] has seen of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen;

impl Clock {
    pub(crate) const fn new() -> Self {
        Self
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Now {
        real::both()
    }

    /// The time by which replicas and voters judge each other, with the timestamp of everything that is written.
    pub(crate) fn steady(&self) -> Now {
        real::both()
    }

    /// This moment.
    pub(crate) fn moment(&self) -> Moment {
        Moment(real::now())
    }

    /// Returns when the moment comes.
    pub(crate) fn until(&self, moment: Moment) -> impl Future<Output = ()> + Send + 'static {
        real::sleep_until(moment.0)
    }

    /// When in real time this clock will show `at`; `None` if it stands still.
    pub(crate) fn in_real_time(&self, at: Instant) -> Option<Instant> {
        Some(at)
    }

    /// Makes the caller known, so that `wake` is called when the clock was moved.
    pub(crate) fn follow(&self, _wake: impl Fn() + Send + Sync + 'static) -> Follower {
        Follower
    }
}

impl Moment {
    /// The earlier one.
    pub(crate) fn earlier(self, other: Self) -> Self {
        self.min(other)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0 + wait)
    }
}

impl Follower {
    /// To be called before the time is read.
    pub(crate) fn look(&self) -> Seen {
        Seen
    }

    /// Everything is done that was due when the caller looked.
    pub(crate) fn caught_up(&self, _seen: Seen) {}
}
