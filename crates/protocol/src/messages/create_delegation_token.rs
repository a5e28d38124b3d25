//! CreateDelegationToken, key 38.

use super::*;

/// Makes a delegation token (KIP-48).
///
/// Version 3 may make the token for another principal (KIP-373).
#[message(versions = 0..=3, flexible = 2..)]
pub struct CreateDelegationTokenRequest {
    /// The type of the owner, or null for the one who asks (KIP-373).
    #[wire(versions = 3..)]
    pub owner_principal_type: Option<Str>,
    /// The name of the owner, or null for the one who asks (KIP-373).
    #[wire(versions = 3..)]
    pub owner_principal_name: Option<Str>,
    /// Who may renew the token, besides its owner.
    pub renewers: Vec<CreatableRenewers>,
    /// For how many milliseconds the token can be renewed; -1 for the broker's limit.
    pub max_lifetime_ms: i64,
}

/// A principal that may renew the token.
#[derive(Clone, PartialEq, Wire)]
pub struct CreatableRenewers {
    /// The type of the principal, such as `User`.
    pub principal_type: Str,
    /// The name of the principal.
    pub principal_name: Str,
}

/// Brings the token.
///
/// Version 3 tells who has asked for it (KIP-373).
#[message(versions = 0..=3, flexible = 2..)]
pub struct CreateDelegationTokenResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
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
    pub issue_timestamp_ms: Timestamp,
    /// When the token expires unless it is renewed.
    pub expiry_timestamp_ms: Timestamp,
    /// When the token can no longer be renewed.
    pub max_timestamp_ms: Timestamp,
    /// The id of the token.
    pub token_id: Str,
    /// The HMAC of the token, which is its secret.
    #[wire(secret)]
    pub hmac: Bytes,
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
}
