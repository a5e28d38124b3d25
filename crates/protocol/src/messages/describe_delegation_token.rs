//! DescribeDelegationToken, key 41.

use super::*;

/// Asks for the delegation tokens of owners (KIP-48).
#[message(versions = 0..=3, flexible = 2..)]
pub struct DescribeDelegationTokenRequest {
    /// The owners, or null for all.
    pub owners: Option<Vec<DescribeDelegationTokenOwner>>,
}

/// An owner of tokens.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeDelegationTokenOwner {
    /// The type of the principal, such as `User`.
    pub principal_type: Str,
    /// The name of the principal.
    pub principal_name: Str,
}

/// Lists delegation tokens.
///
/// Version 3 tells who has asked for them (KIP-373).
#[message(versions = 0..=3, flexible = 2..)]
pub struct DescribeDelegationTokenResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The tokens.
    pub tokens: Vec<DescribedDelegationToken>,
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
}

/// A token.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribedDelegationToken {
    /// The type of the owner.
    pub principal_type: Str,
    /// The name of the owner.
    pub principal_name: Str,
    /// The type of the principal that asked for the token.
    #[wire(versions = 3..)]
    pub token_requester_principal_type: Str,
    /// The name of the principal that asked for the token.
    #[wire(versions = 3..)]
    pub token_requester_principal_name: Str,
    /// When the token was made.
    pub issue_timestamp: Timestamp,
    /// When the token expires unless it is renewed.
    pub expiry_timestamp: Timestamp,
    /// When the token can no longer be renewed.
    pub max_timestamp: Timestamp,
    /// The id of the token.
    pub token_id: Str,
    /// The HMAC of the token, which is its secret.
    #[wire(secret)]
    pub hmac: Bytes,
    /// Who may renew the token, besides its owner.
    pub renewers: Vec<DescribedDelegationTokenRenewer>,
}

/// A principal that may renew the token.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribedDelegationTokenRenewer {
    /// The type of the principal, such as `User`.
    pub principal_type: Str,
    /// The name of the principal.
    pub principal_name: Str,
}
