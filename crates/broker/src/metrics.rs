//! What a broker counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_protocol::ApiKey;

use crate::store::Store;

/// The highest number of an API, with room for some more.
const APIS_MAX: usize = 128;

/// What a broker has done since it was started, and what it has, at one moment. Made by
/// [`Broker::metrics`](crate::Broker::metrics).
///
/// Counters only grow, so that rates follow from two snapshots; those that say so are of the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Connections that are open at the moment.
    pub connections: u64,
    /// Connections that were ever accepted.
    pub connections_accepted: u64,
    /// Connections that were closed at once, since there were too many from their address (`max.connections.per.ip`).
    pub connections_refused: u64,
    /// For how many milliseconds listeners have held a connection until there was room for it (`max.connections`).
    pub accepting_waited_ms: u64,
    /// Requests that came over connections, by the name of their API.
    pub requests: BTreeMap<String, u64>,
    /// Bytes read from connections.
    pub bytes_in: u64,
    /// Bytes written to connections.
    pub bytes_out: u64,
    /// Records that producers have appended here, over connections or directly.
    pub records_appended: u64,
    /// Topics of which this broker has partitions at the moment.
    pub topics: u64,
    /// Partitions of which this broker has a replica at the moment.
    pub partitions: u64,
    /// How many bytes the logs of those have at the moment.
    pub log_bytes: u64,
    /// Flushes to the disk that were made for partitions.
    pub flushes: u64,
}

/// What connections and handlers count.
#[derive(Debug)]
pub(crate) struct Traffic {
    connections_accepted: AtomicU64,
    connections_closed: AtomicU64,
    connections_refused: AtomicU64,
    accepting_waited_ms: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    records_appended: AtomicU64,
    /// By the number of the API.
    requests: [AtomicU64; APIS_MAX],
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            connections_accepted: AtomicU64::new(0),
            connections_closed: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            accepting_waited_ms: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            records_appended: AtomicU64::new(0),
            requests: [const { AtomicU64::new(0) }; APIS_MAX],
        }
    }
}

impl Traffic {
    pub(crate) fn connection_accepted(&self) {
        self.connections_accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections_closed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accepting_waited(&self, waited: Duration) {
        let ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        self.accepting_waited_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn written(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn appended(&self, records: u64) {
        self.records_appended.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn requested(&self, api: ApiKey) {
        let index = usize::try_from(api.code()).ok();
        if let Some(count) = index.and_then(|index| self.requests.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted, along with what the store has.
    pub(crate) fn snapshot(&self, store: &Store) -> Metrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let requests = self.requests.iter().zip(0..).filter_map(|(count, key)| {
            let count = read(count);
            (count > 0).then(|| (ApiKey::new(key).to_string(), count))
        });
        let topics = store.topics.all();
        let partitions: Vec<_> = topics.iter().flat_map(|topic| topic.partitions()).collect();
        let log_bytes = partitions
            .iter()
            .map(|partition| partition.with_log(|log, _| log.size()));
        // A connection that closes between the two is counted as one that is open rather than as one less than none.
        let closed = read(&self.connections_closed);
        let accepted = read(&self.connections_accepted);
        Metrics {
            connections: accepted - closed,
            connections_accepted: accepted,
            connections_refused: read(&self.connections_refused),
            accepting_waited_ms: read(&self.accepting_waited_ms),
            requests: requests.collect(),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            records_appended: read(&self.records_appended),
            topics: topics.len() as u64,
            partitions: partitions.len() as u64,
            log_bytes: log_bytes.sum(),
            flushes: store.flushes(),
        }
    }
}
