//! JoinGroup, key 11.

use super::*;

/// Joins a classic group, or joins it again for a rebalance.
///
/// Version 1 has a timeout for rebalances (KIP-62), 4 needs two rounds to get an id (KIP-394), 5
/// knows static members (KIP-345), 8 gives a reason (KIP-800).
#[message(versions = 0..=9, flexible = 6..)]
pub struct JoinGroupRequest {
    /// The group.
    pub group_id: GroupId,
    /// After how many milliseconds without heartbeat the member is taken for dead.
    pub session_timeout_ms: i32,
    /// How many milliseconds the member may take to rejoin a rebalancing group.
    #[wire(versions = 1.., default = -1, ignorable)]
    pub rebalance_timeout_ms: i32,
    /// The member, or empty to be given an id.
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null (KIP-345).
    #[wire(versions = 5..)]
    pub group_instance_id: Option<Str>,
    /// The kind of group, such as `consumer` or `connect`.
    pub protocol_type: Str,
    /// The protocols that the member supports, the preferred one first.
    pub protocols: Vec<JoinGroupRequestProtocol>,
    /// Why, for people (KIP-800).
    #[wire(versions = 8.., ignorable)]
    pub reason: Option<Str>,
}

/// A protocol that the member supports.
#[derive(Clone, PartialEq, Wire)]
pub struct JoinGroupRequestProtocol {
    /// The name of the protocol, such as `range`.
    pub name: Str,
    /// The member's subscription, in a format of the protocol.
    pub metadata: Bytes,
}

/// Names the generation, its leader and, to the leader, its members.
///
/// Version 7 names the type of the protocol (KIP-559), 9 may spare the leader the assignment
/// (KIP-814).
#[message(versions = 0..=9, flexible = 6..)]
pub struct JoinGroupResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 2.., ignorable)]
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The generation of the group.
    #[wire(default = -1)]
    pub generation_id: i32,
    /// The kind of group, such as `consumer` or `connect`.
    #[wire(versions = 7.., ignorable)]
    pub protocol_type: Option<Str>,
    /// The protocol that the group has chosen.
    #[wire(nullable = 7..)]
    pub protocol_name: Option<Str>,
    /// The member that leads the group.
    pub leader: Str,
    /// Whether the leader need not compute an assignment (KIP-814).
    #[wire(versions = 9..)]
    pub skip_assignment: bool,
    /// The member.
    pub member_id: Str,
    /// The members and their subscriptions, for the leader only.
    pub members: Vec<JoinGroupResponseMember>,
}

/// A member of the generation.
#[derive(Clone, PartialEq, Wire)]
pub struct JoinGroupResponseMember {
    /// The member.
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null (KIP-345).
    #[wire(versions = 5.., ignorable)]
    pub group_instance_id: Option<Str>,
    /// The member's subscription, in a format of the protocol.
    pub metadata: Bytes,
}
