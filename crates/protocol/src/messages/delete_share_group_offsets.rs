//! DeleteShareGroupOffsets, key 92.

use super::*;

/// Makes an empty share group forget topics (KIP-932).
#[message(versions = 0..=0, flexible = 0..)]
pub struct DeleteShareGroupOffsetsRequest {
    /// The group.
    pub group_id: GroupId,
    /// The topics.
    pub topics: Vec<DeleteShareGroupOffsetsRequestTopic>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteShareGroupOffsetsRequestTopic {
    /// The topic.
    pub topic_name: TopicName,
}

/// Says which topics were forgotten.
#[message(versions = 0..=0, flexible = 0..)]
pub struct DeleteShareGroupOffsetsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The topics.
    pub responses: Vec<DeleteShareGroupOffsetsResponseTopic>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteShareGroupOffsetsResponseTopic {
    /// The topic.
    pub topic_name: TopicName,
    /// The id of the topic.
    pub topic_id: Uuid,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
