//! The quorum as a whole: many nodes, and everything that can go wrong.

/// A defect that a test puts in on purpose, to see that the checkers find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// A vote leaves before it is stored.
    AnswersBeforeStoring,
    /// A new leader commits what its predecessors left, as soon as a majority has it.
    CommitsEarlierEpochs,
    /// A vote goes to a candidate whose log lacks records.
    VotesForShorterLogs,
    /// Whoever asks is promised a vote, also while there is a leader.
    PromisesAnyVote,
    /// A voter that hears nothing stands for election without asking whether it would win.
    NoPreVote,
    /// The leader counts itself by what it has appended.
    CountsUnflushed,
    /// A follower asks for what follows the end of its log, flushed or not.
    FetchesUnflushed,
    /// Voters are changed again before the last change is committed.
    OverlappingChanges,
}
