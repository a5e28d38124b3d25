//! Defects that are planted on purpose, to prove that the checkers see.

/// A defect of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The leader acknowledges when it has appended, whatever the others have.
    AcknowledgesTooEarly,
    /// A flush of a partition is reported that was not made.
    FlushLies,
    /// A flush of the metadata log is reported that was not made.
    MetadataFlushLies,
    /// A vote is reported as stored that is not.
    ForgetsVotes,
    /// Where its log parts from the leader's, a follower is not told.
    HidesDivergence,
    /// A leader takes it that a follower has what it was sent.
    CountsWhatWasSent,
    /// A producer's batch is stored again each time it comes.
    ForgetsSequences,
    /// A follower asks a leader that it was told of once for ever.
    NeverAsksAgain,
    /// A coordinator of groups answers when it has appended, whatever the others have.
    CommitsTooEarly,
    /// A coordinator takes commits from whoever was a member once.
    ForgetsGenerations,
    /// A coordinator hands out partitions whose owner has not given them up.
    HandsOutBeforeRevoked,
    /// A coordinator that takes over does not know how far groups have come.
    ForgetsOffsetsWhenLoaded,
    /// A node that starts anew knows the voters that there were at first.
    ForgetsVoterChanges,
    /// A leader answers with acks=1 when it has appended, and not flushed.
    AnswersBeforeItIsWritten,
    /// A node keeps the replicas that it should not have any more.
    KeepsReplicas,
    /// A node takes the folder of a topic that was deleted for that of another one of the same name.
    TakesOverFolders,
    /// A follower keeps records that were deleted.
    KeepsDeletedRecords,
    /// A follower keeps what it knows to be committed, though the leader was elected without it.
    KeepsWhatWasCommitted,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::AcknowledgesTooEarly,
        Self::FlushLies,
        Self::MetadataFlushLies,
        Self::ForgetsVotes,
        Self::HidesDivergence,
        Self::CountsWhatWasSent,
        Self::ForgetsSequences,
        Self::NeverAsksAgain,
        Self::CommitsTooEarly,
        Self::ForgetsGenerations,
        Self::HandsOutBeforeRevoked,
        Self::ForgetsOffsetsWhenLoaded,
        Self::ForgetsVoterChanges,
        Self::AnswersBeforeItIsWritten,
        Self::KeepsReplicas,
        Self::TakesOverFolders,
        Self::KeepsDeletedRecords,
        Self::KeepsWhatWasCommitted,
    ];
}
