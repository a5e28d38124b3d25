use super::timers::TimerId;

/// Where a classic group stands.
///
/// ```text
///            first member joins                      all have joined, or time is up
///   Empty ------------------------> PreparingRebalance ------------------> CompletingRebalance
///     ^                              |      ^      ^    generation + 1        |         |
///     |  nobody is left              |      |      |                          |         | the leader's assignment
///     +------------------------------+      |      +--------------------------+         v is committed
///                                           |          a member changes              Stable
///                                           +-------------------------------------------+
/// ```
///
/// A group that is deleted or expires is simply gone; Kafka's `Dead` is only shown for groups that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No members; there may be offsets.
    Empty,
    /// Waits for members to join or to join again.
    PreparingRebalance {
        /// Set while a group that was empty waits for its first members.
        initial: Option<InitialDelay>,
        /// When the join phase ends at the latest.
        timer: TimerId,
    },
    /// Everybody knows the new generation; waits for the leader's assignment.
    CompletingRebalance {
        /// The append that makes the assignment durable, once the leader has sent it.
        assignment: Option<u64>,
    },
    /// Everybody may know its assignment.
    Stable,
}

/// How much longer the first rebalance of a group may be delayed by members that join one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InitialDelay {
    pub(super) delay_ms: i32,
    pub(super) remaining_ms: i32,
    pub(super) new_member_added: bool,
}

impl State {
    /// Kafka's name of the state.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance { .. } => "PreparingRebalance",
            Self::CompletingRebalance { .. } => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}
