//! What a client counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that grows, or is set.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the connections of a client count together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: Counter,
    pub(crate) connect_failures: Counter,
    pub(crate) requests: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) metadata_refreshes: Counter,
}

/// What a client has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStatistics {
    /// Connections that came about.
    pub connections: u64,
    /// Connections that did not.
    pub connect_failures: u64,
    /// Requests sent.
    pub requests: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// How often brokers were asked who leads what.
    pub metadata_refreshes: u64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> ClientStatistics {
        ClientStatistics {
            connections: self.connections.value(),
            connect_failures: self.connect_failures.value(),
            requests: self.requests.value(),
            bytes_sent: self.bytes_sent.value(),
            bytes_received: self.bytes_received.value(),
            metadata_refreshes: self.metadata_refreshes.value(),
        }
    }
}
