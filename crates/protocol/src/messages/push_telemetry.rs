//! PushTelemetry, key 72.

use super::*;

/// Brings metrics of a client (KIP-714).
#[message(versions = 0..=0, flexible = 0..)]
pub struct PushTelemetryRequest {
    /// The id of this client instance.
    pub client_instance_id: Uuid,
    /// The subscription to which the metrics belong.
    pub subscription_id: i32,
    /// Whether the client is about to end.
    pub terminating: bool,
    /// The codec of the metrics, by the numbers of record batches.
    pub compression_type: i8,
    /// The metrics, in the protobuf format of OpenTelemetry (`MetricsData` v1).
    pub metrics: Bytes,
}

/// Says whether the metrics were taken.
#[message(versions = 0..=0, flexible = 0..)]
pub struct PushTelemetryResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
