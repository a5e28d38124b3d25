//! DescribeGroups, key 15.

use super::*;

/// Asks for the details of classic groups.
///
/// Version 3 asks what the client may do (KIP-430), 4 tells static members (KIP-345), 6 answers
/// with an error for groups that do not exist (KIP-1043).
#[message(versions = 0..=6, flexible = 5..)]
pub struct DescribeGroupsRequest {
    /// The groups.
    pub groups: Vec<GroupId>,
    /// Whether to say what the client may do with each group (KIP-430).
    #[wire(versions = 3..)]
    pub include_authorized_operations: bool,
}

/// Describes classic groups.
#[message(versions = 0..=6, flexible = 5..)]
pub struct DescribeGroupsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 1.., ignorable)]
    pub throttle_time_ms: i32,
    /// The groups.
    pub groups: Vec<DescribedGroup>,
}

/// One group.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribedGroup {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    #[wire(versions = 6..)]
    pub error_message: Option<Str>,
    /// The group.
    pub group_id: GroupId,
    /// The state of the group, such as `Stable`.
    pub group_state: Str,
    /// The kind of group, such as `consumer` or `connect`.
    pub protocol_type: Str,
    /// The protocol that the group has chosen.
    pub protocol_data: Str,
    /// The members.
    pub members: Vec<DescribedGroupMember>,
    /// What the client may do with the group, a bit each; the smallest number if not asked for.
    #[wire(versions = 3.., default = i32::MIN)]
    pub authorized_operations: i32,
}

/// One member.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribedGroupMember {
    /// The member.
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null (KIP-345).
    #[wire(versions = 4.., ignorable)]
    pub group_instance_id: Option<Str>,
    /// The client id of the member.
    pub client_id: Str,
    /// The address of the member.
    pub client_host: Str,
    /// The member's subscription, in a format of the protocol.
    pub member_metadata: Bytes,
    /// The member's assignment, in a format of the protocol.
    pub member_assignment: Bytes,
}
