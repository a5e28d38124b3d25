//! Waiting times that double (KIP-580).

use std::time::Duration;

/// How far a waiting time is off to either side, as a share of it in percent.
const JITTER_PERCENT: u64 = 20;

/// A stream of numbers that are random enough for waiting times and the choice of a partition (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded from the operating system.
    pub(crate) fn seeded() -> Self {
        let mut seed = [0; 8];
        // Without randomness clients would wait in step, which is bearable.
        let _ = getrandom::fill(&mut seed);
        Self(u64::from_le_bytes(seed))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// How long to wait before the next of `failures` + 1 attempts: `first`, twice that, and so on up to `max`, give or take a
/// fifth.
pub(crate) fn backoff(
    first: Duration,
    max: Duration,
    failures: u32,
    random: &mut Random,
) -> Duration {
    let doubled = first.saturating_mul(1_u32 << failures.saturating_sub(1).min(20));
    let percent = 100 - JITTER_PERCENT + random.next() % (2 * JITTER_PERCENT + 1);
    doubled.min(max) * percent as u32 / 100
}

/// How soon what was urgent may be done once more: who asks again at once waits, the longer the more often.
#[derive(Debug)]
pub(crate) struct Pace {
    random: Random,
    in_a_row: u32,
}

impl Pace {
    pub(crate) fn seeded() -> Self {
        Self {
            random: Random::seeded(),
            in_a_row: 0,
        }
    }

    /// How long to wait after something urgent, if this much time has passed since the last wait.
    pub(crate) fn wait(&mut self, passed: Duration, first: Duration, max: Duration) -> Duration {
        self.in_a_row = if passed > max { 1 } else { self.in_a_row + 1 };
        backoff(first, max, self.in_a_row, &mut self.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_its_bound() {
        let mut random = Random::new(7);
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(1));
        for (failures, expected) in [(1, 100), (2, 200), (3, 400), (5, 1000), (99, 1000)] {
            for _ in 0..50 {
                let millis = backoff(first, max, failures, &mut random).as_millis() as u64;
                assert!(
                    (expected * 8 / 10..=expected * 12 / 10).contains(&millis),
                    "{failures}: {millis}"
                );
            }
        }
    }
}
