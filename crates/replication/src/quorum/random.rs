use std::time::Duration;

/// Random numbers from a seed (SplitMix64, by Steele, Lea and Flood): enough to spread timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0 if there is none.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// `timeout`, and up to as much again.
    pub(super) fn stretch(&mut self, timeout: Duration) -> Duration {
        let micros = usize::try_from(timeout.as_micros()).unwrap_or(usize::MAX);
        timeout + Duration::from_micros(self.below(micros) as u64)
    }
}
