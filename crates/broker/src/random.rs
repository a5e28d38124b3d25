//! Randomness, which only the broker asks the system for.

use tidelog_types::Uuid;

/// A random uuid.
pub(crate) fn random_uuid() -> Uuid {
    Uuid::from_random(random_bytes())
}

/// A random seed.
pub(crate) fn random_seed() -> u64 {
    u64::from_be_bytes(random_bytes())
}

/// Random bytes.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}
