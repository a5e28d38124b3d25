use tidelog_types::{LeaderEpoch, Str, Uuid};

/// Makes member ids that are never given out twice: the name of the client and a random uuid, as Kafka does.
#[derive(Debug)]
pub(super) struct MemberIds {
    state: u64,
}

impl MemberIds {
    pub(super) const fn new(seed: u64, epoch: LeaderEpoch) -> Self {
        // The epoch keeps two leaders of the same partition apart, should they start from the same seed.
        Self {
            state: seed ^ (epoch.value() as u64).rotate_left(32),
        }
    }

    pub(super) fn next(&mut self, prefix: &str) -> Str {
        let (high, low) = (self.random(), self.random());
        // Version 4, variant 1, as Java's UUID.randomUUID.
        let high = (high & !0xf000) | 0x4000;
        let low = (low & !(0b11 << 62)) | (0b10 << 62);
        Str::from(format!(
            "{prefix}-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff,
        ))
    }

    /// An id as Kafka gives members of consumer groups that bring none: a bare uuid in base64.
    pub(super) fn next_uuid(&mut self) -> Str {
        let bits = (u128::from(self.random()) << 64) | u128::from(self.random());
        Str::from(Uuid::from_random(bits.to_be_bytes()).to_string())
    }

    /// SplitMix64: every state occurs once in 2^64 steps.
    const fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_the_prefix_and_a_random_uuid() {
        let mut ids = MemberIds::new(7, LeaderEpoch::new(3));
        let id = ids.next("client");
        assert_eq!(id.len(), "client-".len() + 36);
        assert!(id.starts_with("client-"));
        assert_eq!(&id[21..22], "4");
        assert_ne!(ids.next("client"), id);
        assert_ne!(MemberIds::new(7, LeaderEpoch::new(4)).next("client"), id);
    }
}
