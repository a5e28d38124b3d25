//! SaslHandshake, key 17.

use super::*;

/// Names the SASL mechanism with which the connection will authenticate (KIP-43).
///
/// After version 0 the tokens of the mechanism follow on the bare connection, after version 1 in
/// SaslAuthenticate (KIP-152). There is no flexible version.
#[message(versions = 0..=1)]
pub struct SaslHandshakeRequest {
    /// The mechanism, such as `SCRAM-SHA-512`.
    pub mechanism: Str,
}

/// Accepts the mechanism, or lists those that may be used instead.
#[message(versions = 0..=1)]
pub struct SaslHandshakeResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The mechanisms that the listener has.
    pub mechanisms: Vec<Str>,
}
