//! Whether this node and the active controller agree on what time it is.
//!
//! Nothing that keeps the cluster together depends on that: who leads, who is in sync and who is alive is judged by how much time has
//! passed on one node. But what records say of when they came, for how long they are kept, and which of them are taken at all
//! (`message.timestamp.after.max.ms`) goes by the clock of the broker that leads.

use std::time::{Duration, Instant};

use tidelog_types::Timestamp;

/// So far clocks may be apart without a word.
const APART_MAX_MS: u64 = 60_000;
/// How often in a row they have to be: one record may have been on its way for long.
const SEEN_MIN: u32 = 3;
/// How often it is said.
const SAID_EVERY: Duration = Duration::from_hours(1);

/// What was seen of the clock of the active controller.
#[derive(Debug, Default)]
pub(super) struct ControllersClock {
    /// How often in a row it was too far away.
    seen: u32,
    said_at: Option<Instant>,
}

impl ControllersClock {
    /// The active controller has just written something, when its clock showed `written`, and that of this node shows `own`. Gives
    /// by how many milliseconds this node is ahead, if that is to be said.
    pub(super) fn compare(
        &mut self,
        written: Timestamp,
        own: Timestamp,
        now: Instant,
    ) -> Option<i64> {
        let ahead_ms = own.millis_since(written);
        if ahead_ms.unsigned_abs() <= APART_MAX_MS {
            *self = Self::default();
            return None;
        }
        self.seen = self.seen.saturating_add(1);
        let is_said = self.said_at.is_some_and(|at| now < at + SAID_EVERY);
        if self.seen < SEEN_MIN || is_said {
            return None;
        }
        self.said_at = Some(now);
        Some(ahead_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::real;

    #[test]
    fn a_clock_that_stays_apart_is_said_once_an_hour() {
        let (mut clock, start) = (ControllersClock::default(), real::now());
        let mut compare = |ahead_ms, second| {
            let written = Timestamp::from_millis(1_000_000_000);
            let own = written.saturating_add_millis(ahead_ms);
            clock.compare(written, own, start + Duration::from_secs(second))
        };
        assert_eq!(
            [compare(60_000, 0), compare(-90_000, 1), compare(-90_000, 2)],
            [None; 3]
        );
        assert_eq!(compare(-90_000, 3), Some(-90_000));
        assert_eq!([compare(-90_000, 4), compare(-90_000, 3602)], [None; 2]);
        assert_eq!(compare(90_000, 3603), Some(90_000));
        // Once it is right, it is looked at anew.
        assert_eq!([compare(0, 3604), compare(90_000, 3605)], [None; 2]);
    }
}
