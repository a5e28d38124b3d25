//! DeleteTopics, key 20.

use super::*;

/// Deletes topics.
///
/// Version 5 may be told to slow down (KIP-599), 6 takes topic ids (KIP-516).
#[message(versions = 0..=6, flexible = 4..)]
pub struct DeleteTopicsRequest {
    /// The topics, by name or id.
    #[wire(versions = 6..)]
    pub topics: Vec<DeleteTopicState>,
    /// The topics.
    #[wire(versions = ..=5, ignorable)]
    pub topic_names: Vec<TopicName>,
    /// How long the broker may take, in milliseconds.
    pub timeout_ms: i32,
}

/// A topic, by name or id.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteTopicState {
    /// The topic, or null if it is named by its id.
    pub name: Option<TopicName>,
    /// The id of the topic; zero if it is named.
    pub topic_id: Uuid,
}

/// Says which topics were deleted.
#[message(versions = 0..=6, flexible = 4..)]
pub struct DeleteTopicsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 1.., ignorable)]
    pub throttle_time_ms: i32,
    /// The answers, by topic.
    pub responses: Vec<DeletableTopicResult>,
}

/// The answer for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DeletableTopicResult {
    /// The topic; null from version 6 on if it was named by an unknown id.
    #[wire(nullable = 6..)]
    pub name: Option<TopicName>,
    /// The id of the topic (KIP-516).
    #[wire(versions = 6.., ignorable)]
    pub topic_id: Uuid,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    #[wire(versions = 5.., ignorable)]
    pub error_message: Option<Str>,
}
