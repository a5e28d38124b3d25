//! DeleteAcls, key 31.

use super::*;

/// Deletes the ACLs that match filters (KIP-140).
///
/// Version 1 knows patterns of names (KIP-290), 3 users as resources (KIP-373).
#[message(versions = 0..=3, flexible = 2..)]
pub struct DeleteAclsRequest {
    /// The filters.
    pub filters: Vec<DeleteAclsFilter>,
}

/// What the ACLs must be like.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteAclsFilter {
    /// The type of the resource, 1 any or as in
    /// [`DescribeAclsResource`](super::describe_acls::DescribeAclsResource).
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
    /// What is done, 1 any or as in [`AclDescription`](super::describe_acls::AclDescription).
    pub operation: i8,
    /// What the ACL says: 1 any, 2 deny, 3 allow.
    pub permission_type: i8,
}

/// Says which ACLs were deleted.
///
/// Version 1 knows patterns of names (KIP-290), 3 users as resources (KIP-373).
#[message(versions = 0..=3, flexible = 2..)]
pub struct DeleteAclsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The answers, in the order of the filters.
    pub filter_results: Vec<DeleteAclsFilterResult>,
}

/// What one filter has matched.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteAclsFilterResult {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The ACLs that match the filter.
    pub matching_acls: Vec<DeleteAclsMatchingAcl>,
}

/// An ACL, and whether it was deleted.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteAclsMatchingAcl {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The type of the resource, as in
    /// [`DescribeAclsResource`](super::describe_acls::DescribeAclsResource).
    pub resource_type: i8,
    /// The name of the resource, or `*` for all.
    pub resource_name: Str,
    /// How the name is meant: 3 as it is, 4 as a prefix (KIP-290).
    #[wire(versions = 1.., default = 3)]
    pub pattern_type: i8,
    /// The principal, such as `User:alice`.
    pub principal: Str,
    /// The address of the client, or `*` for all.
    pub host: Str,
    /// What is done, as in [`AclDescription`](super::describe_acls::AclDescription).
    pub operation: i8,
    /// What the ACL says: 2 deny, 3 allow.
    pub permission_type: i8,
}
