//! SaslAuthenticate, key 36.

use super::*;

/// Brings a token of the SASL mechanism that SaslHandshake has named (KIP-152).
#[message(versions = 0..=2, flexible = 2..)]
pub struct SaslAuthenticateRequest {
    /// The token, in a format of the mechanism.
    #[wire(secret)]
    pub auth_bytes: Bytes,
}

/// Brings the server's token.
///
/// Version 1 tells when to authenticate again (KIP-368).
#[message(versions = 0..=2, flexible = 2..)]
pub struct SaslAuthenticateResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The token, in a format of the mechanism.
    #[wire(secret)]
    pub auth_bytes: Bytes,
    /// After how many milliseconds the connection must authenticate again, or 0 (KIP-368).
    #[wire(versions = 1.., ignorable)]
    pub session_lifetime_ms: i64,
}
