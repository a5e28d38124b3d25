//! AlterUserScramCredentials, key 51.

use super::*;

/// Sets and deletes SCRAM credentials of users (KIP-554).
#[message(versions = 0..=0, flexible = 0..)]
pub struct AlterUserScramCredentialsRequest {
    /// The credentials to delete.
    pub deletions: Vec<ScramCredentialDeletion>,
    /// The credentials to set.
    pub upsertions: Vec<ScramCredentialUpsertion>,
}

/// A credential to delete.
#[derive(Clone, PartialEq, Wire)]
pub struct ScramCredentialDeletion {
    /// The user.
    pub name: Str,
    /// The mechanism: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
    pub mechanism: i8,
}

/// A credential to set.
#[derive(Clone, PartialEq, Wire)]
pub struct ScramCredentialUpsertion {
    /// The user.
    pub name: Str,
    /// The mechanism: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
    pub mechanism: i8,
    /// The number of iterations.
    pub iterations: i32,
    /// A random salt, made by the client.
    #[wire(secret)]
    pub salt: Bytes,
    /// The password, salted and hashed as often as `iterations` says.
    #[wire(secret)]
    pub salted_password: Bytes,
}

/// Says whose credentials were changed.
#[message(versions = 0..=0, flexible = 0..)]
pub struct AlterUserScramCredentialsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The answers, by user.
    pub results: Vec<AlterUserScramCredentialsResult>,
}

/// The answer for one user.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterUserScramCredentialsResult {
    /// The user.
    pub user: Str,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
