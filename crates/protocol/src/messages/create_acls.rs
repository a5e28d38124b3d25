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
#[derive(Clone, PartialEq, Wire)]
pub struct AclCreation {
    /// The type of the resource, as in
    /// [`DescribeAclsResource`](super::describe_acls::DescribeAclsResource).
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
    /// What is done, as in [`AclDescription`](super::describe_acls::AclDescription).
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
#[derive(Clone, PartialEq, Wire)]
pub struct AclCreationResult {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
