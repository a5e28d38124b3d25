//! Defects that tests plant, to prove that their checkers see. Outside of the tests of this crate there are none.

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// The high watermark does not wait for a replica whose joining the ISR is not confirmed.
    CommittedIsrOnly,
    /// The high watermark does not wait for a replica whose leaving the ISR is not confirmed.
    ShrinkAtOnce,
    /// A change of the ISR is given up when its outcome is unknown.
    RollBackOnAnyError,
    /// A replica joins the ISR whatever the registration under which it fetched.
    ExpandWithoutBrokerEpoch,
    /// A replica joins the ISR that has not reached the high watermark.
    ExpandBelowHighWatermark,
    /// A replica joins the ISR that has not reached the beginning of the leader's epoch.
    ExpandBelowEpochStart,
    /// A replica joins the ISR that has not deleted what the leader has deleted.
    ExpandBelowLogStart,
    /// The leader counts itself by what it has not flushed.
    LeaderCountsUnflushed,
    /// Fetches count whose leader epoch is another one.
    FetchesOfOtherEpochs,
    /// Metadata counts that is older than what an answer of the controller brought.
    OutdatedMetadata,
    /// A leader does not look whether a follower's log is a beginning of its own.
    NoDivergenceCheck,
    /// A new follower truncates to its high watermark, as before KIP-101.
    TruncateToHighWatermark,
    /// A follower asks for what follows its last record, flushed or not.
    FetchFromUnflushed,
}

#[cfg(not(test))]
pub(super) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
pub(super) use tests::{is_sound, plant, planted};

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants one for this thread, in place of the one that there was.
    pub(in crate::partition) fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(in crate::partition) fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Whether none is planted.
    pub(in crate::partition) fn is_sound() -> bool {
        PLANTED.get().is_none()
    }
}
