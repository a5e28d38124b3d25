//! ExpireDelegationToken, key 40.

use super::*;

/// Changes when a delegation token expires (KIP-48).
#[message(versions = 0..=2, flexible = 2..)]
pub struct ExpireDelegationTokenRequest {
    /// The HMAC of the token, which is its secret.
    #[wire(secret)]
    pub hmac: Bytes,
    /// For how many milliseconds from now; a negative number ends the token at once.
    pub expiry_time_period_ms: i64,
}

/// Says until when the token is valid.
#[message(versions = 0..=2, flexible = 2..)]
pub struct ExpireDelegationTokenResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// When the token expires.
    pub expiry_timestamp_ms: Timestamp,
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
}
