//! Heartbeat, key 12.

use super::*;

/// Keeps a classic group member alive.
///
/// Version 3 knows static members (KIP-345).
#[message(versions = 0..=4, flexible = 4..)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: GroupId,
    /// The generation of the group.
    pub generation_id: i32,
    /// The member.
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null (KIP-345).
    #[wire(versions = 3..)]
    pub group_instance_id: Option<Str>,
}

/// Says whether the generation still stands.
#[message(versions = 0..=4, flexible = 4..)]
pub struct HeartbeatResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 1.., ignorable)]
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
