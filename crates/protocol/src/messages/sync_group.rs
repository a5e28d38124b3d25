//! SyncGroup, key 14.

use super::*;

/// Distributes the assignment of a classic group: the leader brings it, all others fetch theirs.
///
/// Version 3 knows static members (KIP-345), 5 names the protocol (KIP-559).
#[message(versions = 0..=5, flexible = 4..)]
pub struct SyncGroupRequest {
    /// The group.
    pub group_id: GroupId,
    /// The generation of the group.
    pub generation_id: i32,
    /// The member.
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null (KIP-345).
    #[wire(versions = 3..)]
    pub group_instance_id: Option<Str>,
    /// The kind of group, such as `consumer` or `connect`.
    #[wire(versions = 5.., ignorable)]
    pub protocol_type: Option<Str>,
    /// The protocol that the group has chosen.
    #[wire(versions = 5.., ignorable)]
    pub protocol_name: Option<Str>,
    /// The assignment of each member, from the leader only.
    pub assignments: Vec<SyncGroupRequestAssignment>,
}

/// The assignment of one member.
#[derive(Clone, PartialEq, Wire)]
pub struct SyncGroupRequestAssignment {
    /// The member.
    pub member_id: Str,
    /// The assignment of the member, in a format of the protocol.
    pub assignment: Bytes,
}

/// Brings the member's assignment.
#[message(versions = 0..=5, flexible = 4..)]
pub struct SyncGroupResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 1.., ignorable)]
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The kind of group, such as `consumer` or `connect`.
    #[wire(versions = 5.., ignorable)]
    pub protocol_type: Option<Str>,
    /// The protocol that the group has chosen.
    #[wire(versions = 5.., ignorable)]
    pub protocol_name: Option<Str>,
    /// The assignment of the member, in a format of the protocol.
    pub assignment: Bytes,
}
