//! GetTelemetrySubscriptions, key 71.

use super::*;

/// Asks which metrics the cluster wants from this client (KIP-714).
#[message(versions = 0..=0, flexible = 0..)]
pub struct GetTelemetrySubscriptionsRequest {
    /// The id of this client instance; zero to be given one.
    pub client_instance_id: Uuid,
}

/// Tells which metrics are wanted.
#[message(versions = 0..=0, flexible = 0..)]
pub struct GetTelemetrySubscriptionsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The id that the client was given; zero if it had one.
    pub client_instance_id: Uuid,
    /// A checksum of what is wanted; changes with it.
    pub subscription_id: i32,
    /// The codecs that the broker accepts, the preferred one first, by the numbers of record
    /// batches.
    pub accepted_compression_types: Vec<i8>,
    /// After how many milliseconds metrics are to be pushed.
    pub push_interval_ms: i32,
    /// How many bytes of metrics the broker accepts at once.
    pub telemetry_max_bytes: i32,
    /// Whether counters are to be sent as changes, not as sums.
    pub delta_temporality: bool,
    /// Prefixes of the names of the wanted metrics; none to push nothing, an empty one for all.
    pub requested_metrics: Vec<Str>,
}
