//! LeaveGroup, key 13.

use super::*;

/// Takes members out of a classic group.
///
/// Version 3 takes several at once (KIP-345), 5 gives reasons (KIP-800).
#[message(versions = 0..=5, flexible = 4..)]
pub struct LeaveGroupRequest {
    /// The group.
    pub group_id: GroupId,
    /// The member.
    #[wire(versions = ..=2)]
    pub member_id: Str,
    /// The members that leave (KIP-345).
    #[wire(versions = 3..)]
    pub members: Vec<MemberIdentity>,
}

/// A member that leaves.
#[derive(Clone, PartialEq, Wire)]
pub struct MemberIdentity {
    /// The member; empty if it is named by its instance id.
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null (KIP-345).
    pub group_instance_id: Option<Str>,
    /// Why, for people (KIP-800).
    #[wire(versions = 5.., ignorable)]
    pub reason: Option<Str>,
}

/// Says who has left.
#[message(versions = 0..=5, flexible = 4..)]
pub struct LeaveGroupResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 1.., ignorable)]
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The members.
    #[wire(versions = 3..)]
    pub members: Vec<MemberResponse>,
}

/// The answer for one member.
#[derive(Clone, PartialEq, Wire)]
pub struct MemberResponse {
    /// The member.
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null (KIP-345).
    pub group_instance_id: Option<Str>,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
