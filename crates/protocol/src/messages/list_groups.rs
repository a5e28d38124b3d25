//! ListGroups, key 16.

use super::*;

/// Asks which groups this broker coordinates.
///
/// Version 4 filters by state (KIP-518), 5 by type (KIP-848).
#[message(versions = 0..=5, flexible = 3..)]
pub struct ListGroupsRequest {
    /// The wanted states; empty for all (KIP-518).
    #[wire(versions = 4..)]
    pub states_filter: Vec<Str>,
    /// The wanted types, such as `classic`; empty for all (KIP-848).
    #[wire(versions = 5..)]
    pub types_filter: Vec<Str>,
}

/// Lists groups.
#[message(versions = 0..=5, flexible = 3..)]
pub struct ListGroupsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 1.., ignorable)]
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The groups.
    pub groups: Vec<ListedGroup>,
}

/// One group.
#[derive(Clone, PartialEq, Wire)]
pub struct ListedGroup {
    /// The group.
    pub group_id: GroupId,
    /// The kind of group, such as `consumer` or `connect`.
    pub protocol_type: Str,
    /// The state of the group, such as `Stable`.
    #[wire(versions = 4.., ignorable)]
    pub group_state: Str,
    /// The type of the group, such as `classic` or `consumer`.
    #[wire(versions = 5.., ignorable)]
    pub group_type: Str,
}
