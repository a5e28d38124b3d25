//! Classic groups and committed offsets, types 0 to 2.

use bytes::Bytes;
use tidelog_types::{GroupId, LeaderEpoch, Offset, Str, Timestamp, TopicName, Uuid};

use crate::{Wire, message};

/// Key of a committed offset.
#[message(versions = 0..=0)]
pub struct OffsetCommitKey {
    /// The group.
    pub group: GroupId,
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: i32,
}

/// A committed offset.
///
/// Version 1 says when it expires, 3 adds the leader epoch (KIP-320), 4 the topic id.
#[message(versions = 0..=4, flexible = 4..)]
pub struct OffsetCommitValue {
    /// The committed offset.
    pub offset: Offset,
    /// The epoch of the last consumed record, or -1.
    #[wire(versions = 3.., default = LeaderEpoch::NONE, ignorable)]
    pub leader_epoch: LeaderEpoch,
    /// What the client keeps with the offset.
    pub metadata: Str,
    /// When the offset was committed.
    pub commit_timestamp: Timestamp,
    /// When the offset expires, or -1 for the broker's rule.
    #[wire(versions = 1..=1, default = Timestamp::NONE, ignorable)]
    pub expire_timestamp: Timestamp,
    /// The id of the topic (KIP-516).
    #[wire(versions = 4.., tag = 0, ignorable)]
    pub topic_id: Uuid,
}

/// Key of a classic group.
#[message(versions = 0..=0)]
pub struct GroupMetadataKey {
    /// The group.
    pub group: GroupId,
}

/// A classic group after a rebalance.
///
/// Version 1 adds rebalance timeouts, 2 the time of the state, 3 static members (KIP-345), 4 is
/// flexible.
#[message(versions = 0..=4, flexible = 4..)]
pub struct GroupMetadataValue {
    /// The kind of group, such as `consumer` or `connect`.
    pub protocol_type: Str,
    /// The generation; grows with every rebalance.
    pub generation: i32,
    /// The protocol that the group has chosen, or null.
    pub protocol: Option<Str>,
    /// The member that leads the group, or null.
    pub leader: Option<Str>,
    /// When the group came into its state, or -1.
    #[wire(versions = 2.., default = Timestamp::NONE, ignorable)]
    pub current_state_timestamp: Timestamp,
    /// The members.
    pub members: Vec<MemberMetadata>,
}

/// A member of a classic group.
#[derive(Clone, PartialEq, Wire)]
pub struct MemberMetadata {
    /// The member.
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null (KIP-345).
    #[wire(versions = 3.., ignorable)]
    pub group_instance_id: Option<Str>,
    /// The client id of the member.
    pub client_id: Str,
    /// The address of the member.
    pub client_host: Str,
    /// How many milliseconds the member may take to rejoin.
    #[wire(versions = 1.., default = -1, ignorable)]
    pub rebalance_timeout: i32,
    /// After how many milliseconds without heartbeat the member is taken for dead.
    pub session_timeout: i32,
    /// The member's subscription, in a format of the protocol.
    pub subscription: Bytes,
    /// The assignment of the member, in a format of the protocol.
    pub assignment: Bytes,
}
