//! AlterClientQuotas, key 49.

pub use super::describe_client_quotas::EntityData;
use super::*;

/// Changes quotas of clients (KIP-546).
#[message(versions = 0..=1, flexible = 1..)]
pub struct AlterClientQuotasRequest {
    /// The entities.
    pub entries: Vec<EntryData>,
    /// Whether to check the request and change nothing.
    pub validate_only: bool,
}

/// The changes for one entity.
#[derive(Clone, PartialEq, Wire)]
pub struct EntryData {
    /// The entity, a part for each type.
    pub entity: Vec<EntityData>,
    /// The changes.
    pub ops: Vec<OpData>,
}

/// A change.
#[derive(Clone, PartialEq, Wire)]
pub struct OpData {
    /// The name of the quota, such as `producer_byte_rate`.
    pub key: Str,
    /// The new value; means nothing if the quota is removed.
    pub value: f64,
    /// Whether to remove the quota.
    pub remove: bool,
}

/// Says whose quotas were changed.
#[message(versions = 0..=1, flexible = 1..)]
pub struct AlterClientQuotasResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The answers, by entity.
    pub entries: Vec<EntryResult>,
}

/// The answer for one entity.
#[derive(Clone, PartialEq, Wire)]
pub struct EntryResult {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The entity, a part for each type.
    pub entity: Vec<EntityData>,
}
