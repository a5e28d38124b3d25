//! DescribeUserScramCredentials, key 50.

use super::*;

/// Asks which SCRAM credentials users have (KIP-554).
#[message(versions = 0..=0, flexible = 0..)]
pub struct DescribeUserScramCredentialsRequest {
    /// The users, or null for all.
    pub users: Option<Vec<UserName>>,
}

/// A user.
#[derive(Clone, PartialEq, Wire)]
pub struct UserName {
    /// The user.
    pub name: Str,
}

/// Lists SCRAM credentials, without their secrets.
#[message(versions = 0..=0, flexible = 0..)]
pub struct DescribeUserScramCredentialsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The answers, by user.
    pub results: Vec<DescribeUserScramCredentialsResult>,
}

/// The credentials of one user.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeUserScramCredentialsResult {
    /// The user.
    pub user: Str,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The credentials.
    pub credential_infos: Vec<CredentialInfo>,
}

/// A credential.
#[derive(Clone, PartialEq, Wire)]
pub struct CredentialInfo {
    /// The mechanism: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
    pub mechanism: i8,
    /// The number of iterations.
    pub iterations: i32,
}
