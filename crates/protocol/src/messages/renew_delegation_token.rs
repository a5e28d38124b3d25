//! RenewDelegationToken, key 39.

use super::*;

/// Renews a delegation token (KIP-48).
#[message(versions = 0..=2, flexible = 2..)]
pub struct RenewDelegationTokenRequest {
    /// The HMAC of the token, which is its secret.
    #[wire(secret)]
    pub hmac: Bytes,
    /// For how many milliseconds from now; -1 for the broker's default.
    pub renew_period_ms: i64,
}

/// Says until when the token is valid.
#[message(versions = 0..=2, flexible = 2..)]
pub struct RenewDelegationTokenResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// When the token expires unless it is renewed.
    pub expiry_timestamp_ms: Timestamp,
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
}
