//! DescribeClientQuotas, key 48.

use super::*;

/// Asks for the quotas of clients (KIP-546).
#[message(versions = 0..=1, flexible = 1..)]
pub struct DescribeClientQuotasRequest {
    /// What the entities must be like, by type.
    pub components: Vec<ComponentData>,
    /// Whether entities that have other types besides are left out.
    pub strict: bool,
}

/// What entities must be like in one type.
#[derive(Clone, PartialEq, Wire)]
pub struct ComponentData {
    /// The type: `user`, `client-id` or `ip`.
    pub entity_type: Str,
    /// What matches: 0 one name, 1 the default, 2 any name.
    pub match_type: i8,
    /// The name, or null if none is needed.
    pub r#match: Option<Str>,
}

/// Lists quotas of clients.
#[message(versions = 0..=1, flexible = 1..)]
pub struct DescribeClientQuotasResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The entities, or null in case of an error.
    pub entries: Option<Vec<EntryData>>,
}

/// The quotas of one entity.
#[derive(Clone, PartialEq, Wire)]
pub struct EntryData {
    /// The entity, a part for each type.
    pub entity: Vec<EntityData>,
    /// The quotas.
    pub values: Vec<ValueData>,
}

/// A part of an entity.
#[derive(Clone, PartialEq, Wire)]
pub struct EntityData {
    /// The type: `user`, `client-id` or `ip`.
    pub entity_type: Str,
    /// The name, or null for the default of the type.
    pub entity_name: Option<Str>,
}

/// A quota.
#[derive(Clone, PartialEq, Wire)]
pub struct ValueData {
    /// The name of the quota, such as `producer_byte_rate`.
    pub key: Str,
    /// The value.
    pub value: f64,
}
