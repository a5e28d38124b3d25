//! DeleteGroups, key 42.

use super::*;

/// Deletes groups and their offsets (KIP-229).
#[message(versions = 0..=2, flexible = 2..)]
pub struct DeleteGroupsRequest {
    /// The groups.
    pub groups_names: Vec<GroupId>,
}

/// Says which groups were deleted.
#[message(versions = 0..=2, flexible = 2..)]
pub struct DeleteGroupsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The answers.
    pub results: Vec<DeletableGroupResult>,
}

/// The answer for one group.
#[derive(Clone, PartialEq, Wire)]
pub struct DeletableGroupResult {
    /// The group.
    pub group_id: GroupId,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
