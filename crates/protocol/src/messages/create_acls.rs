//! CreateAcls, key 30.

use super::*;

/// Creates ACLs (KIP-140).
///
/// Version 1 knows patterns of names (KIP-290), 3 users as resources (KIP-373).
#[message(versions = 0..=3, flexible = 2..)]
pub struct CreateAclsRequest {
    /// The ACLs.
    pub creations: Vec<AclCreation>,
}

/// An ACL.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct AclCreation {
    /// The type of the resource: 2 topic, 3 group, 4 cluster, 5 transactional id, 6 delegation
    /// token, 7 user (KIP-373).
    pub resource_type: i8,
    /// The name of the resource, or `*` for all.
    pub resource_name: Str,
    /// How the name is meant: 3 as it is, 4 as a prefix (KIP-290).
    #[wire(versions = 1.., default = 3)]
    pub resource_pattern_type: i8,
    /// The principal, such as `User:alice`.
    pub principal: Str,
    /// The address of the client, or `*` for all.
    pub host: Str,
    /// What is done: 2 all, 3 read, 4 write, 5 create, 6 delete, 7 alter, 8 describe, 9 cluster
    /// action, 10 describe configs, 11 alter configs, 12 idempotent write, 13 create tokens, 14
    /// describe tokens, 15 two-phase commit (KIP-939).
    pub operation: i8,
    /// What the ACL says: 2 deny, 3 allow.
    pub permission_type: i8,
}

/// Says which ACLs were created.
#[message(versions = 0..=3, flexible = 2..)]
pub struct CreateAclsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The answers, in the order of the request.
    pub results: Vec<AclCreationResult>,
}

/// The answer for one ACL.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct AclCreationResult {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
