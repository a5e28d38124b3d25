//! DescribeAcls, key 29.

use super::*;

/// Asks for the ACLs that match a filter (KIP-140).
///
/// Version 1 knows patterns of names (KIP-290), 3 users as resources (KIP-373).
#[message(versions = 0..=3, flexible = 2..)]
pub struct DescribeAclsRequest {
    /// The type of the resource, 1 any or as in [`DescribeAclsResource`].
    pub resource_type_filter: i8,
    /// The name of the resource, or null for any.
    pub resource_name_filter: Option<Str>,
    /// How the name is meant: 1 any way, 2 any that covers this name, 3 as it is, 4 as a prefix
    /// (KIP-290).
    #[wire(versions = 1.., default = 3)]
    pub pattern_type_filter: i8,
    /// The principal, or null for any.
    pub principal_filter: Option<Str>,
    /// The host, or null for any.
    pub host_filter: Option<Str>,
    /// What is done, 1 any or as in [`AclDescription`].
    pub operation: i8,
    /// What the ACL says: 1 any, 2 deny, 3 allow.
    pub permission_type: i8,
}

/// Lists ACLs.
///
/// Version 1 knows patterns of names (KIP-290), 3 users as resources (KIP-373).
#[message(versions = 0..=3, flexible = 2..)]
pub struct DescribeAclsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The resources.
    pub resources: Vec<DescribeAclsResource>,
}

/// The ACLs of one resource.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeAclsResource {
    /// The type of the resource: 2 topic, 3 group, 4 cluster, 5 transactional id, 6 delegation
    /// token, 7 user (KIP-373).
    pub resource_type: i8,
    /// The name of the resource, or `*` for all.
    pub resource_name: Str,
    /// How the name is meant: 3 as it is, 4 as a prefix (KIP-290).
    #[wire(versions = 1.., default = 3)]
    pub pattern_type: i8,
    /// The ACLs of the resource.
    pub acls: Vec<AclDescription>,
}

/// One ACL.
#[derive(Clone, PartialEq, Wire)]
pub struct AclDescription {
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
