//! Fetch sessions (KIP-227): what a fetcher follows is remembered, so that neither its requests nor the answers name
//! the partitions of which there is nothing new to say.
//!
//! The key decision: a request takes the state of its session out of the cache and brings it back with the answer. The
//! cache is locked for two look-ups, and nothing is locked while a fetch waits for data. A client has one fetch of a
//! session under way at a time; one that sends a second is told that its epoch is wrong, as if the first were lost, and
//! begins anew. A fetch that is dropped halfway (its connection is gone) leaves its session to the same fate.

mod cache;
mod partitions;

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidelog_protocol::messages::fetch::{FetchRequest, FetchResponse, PartitionData};
use tidelog_types::{ErrorCode, NodeId};

use self::cache::{Cache, Session, next_epoch};
use self::partitions::Partitions;
pub(crate) use self::partitions::{Topic, Wanted};

/// The id of "no session".
const NO_SESSION: i32 = 0;
/// The epoch of a request that opens a session.
const OPENING_EPOCH: i32 = 0;
/// The epoch of a request that closes its session, or wants none.
const CLOSING_EPOCH: i32 = -1;
/// From this version on a fetch names topics by id (KIP-516).
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

/// Bounds of the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// How many sessions are kept (`max.incremental.fetch.session.cache.slots`).
    pub(crate) slots_max: usize,
    /// How many partitions all sessions together may follow. Beyond it fetchers are served without session.
    pub(crate) partitions_max: usize,
    /// A session that was not used for so long gives way to any other; one that has lived so long can be pushed out by a
    /// larger one.
    pub(crate) evictable_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            slots_max: 1000,
            partitions_max: 1_000_000,
            evictable_after: Duration::from_secs(120),
        }
    }
}

/// All fetch sessions of a broker.
pub(crate) struct FetchSessions {
    config: Config,
    cache: Mutex<Cache>,
}

/// One fetch request, with everything that its session remembers.
pub(crate) struct FetchContext {
    kind: Kind,
    partitions: Partitions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Every partition is named in the request and in the answer.
    Sessionless,
    /// The same, and the answer opens a session if there is room.
    Opening {
        privileged: bool,
        uses_topic_ids: bool,
    },
    /// A request of a session. `epoch` is that of the next one.
    Incremental { id: i32, epoch: i32 },
}

impl FetchSessions {
    /// An empty cache. The ids of its sessions follow from the seed.
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            cache: Mutex::new(Cache::new(seed)),
        }
    }

    /// What a request asks for, in the order in which it is to be served. An error is the answer's top-level error; such
    /// an answer has session id 0 and no topics.
    pub(crate) fn begin(
        &self,
        now: Instant,
        version: i16,
        request: &FetchRequest,
    ) -> Result<FetchContext, ErrorCode> {
        let uses_topic_ids = version >= FIRST_VERSION_WITH_TOPIC_IDS;
        let id = request.session_id;
        if !matches!(request.session_epoch, OPENING_EPOCH | CLOSING_EPOCH) {
            let (epoch, mut partitions) =
                self.cache
                    .lock()
                    .take(now, id, request.session_epoch, uses_topic_ids)?;
            partitions.update(request);
            if !partitions.is_empty() {
                return Ok(FetchContext {
                    kind: Kind::Incremental { id, epoch },
                    partitions,
                });
            }
            self.cache.lock().remove(id);
            return Ok(FetchContext {
                kind: Kind::Sessionless,
                partitions,
            });
        }
        if id != NO_SESSION {
            self.cache.lock().remove(id);
        }
        let mut partitions = Partitions::default();
        if request.session_epoch == CLOSING_EPOCH {
            partitions.list(request);
            return Ok(FetchContext {
                kind: Kind::Sessionless,
                partitions,
            });
        }
        partitions.update(request);
        let privileged = request.replica_id.max(request.replica_state.replica_id) != NodeId::NONE;
        Ok(FetchContext {
            kind: Kind::Opening {
                privileged,
                uses_topic_ids,
            },
            partitions,
        })
    }

    /// The answer, out of what was read of each partition: one result for each of [`FetchContext::partitions`], in their
    /// order.
    pub(crate) fn finish(
        &self,
        now: Instant,
        context: FetchContext,
        results: impl IntoIterator<Item = PartitionData>,
    ) -> FetchResponse {
        let FetchContext {
            kind,
            mut partitions,
        } = context;
        let results = results.into_iter();
        let (session_id, responses) = match kind {
            Kind::Sessionless => (NO_SESSION, partitions.answer_all(results)),
            Kind::Opening {
                privileged,
                uses_topic_ids,
            } => {
                let responses = partitions.answer_all(results);
                let session = Session {
                    privileged,
                    uses_topic_ids,
                    epoch: next_epoch(OPENING_EPOCH),
                    created: now,
                    last_used: now,
                    size: partitions.len(),
                    partitions: Some(partitions),
                };
                (
                    self.cache.lock().open(now, &self.config, session),
                    responses,
                )
            }
            Kind::Incremental { id, epoch } => {
                let responses = partitions.answer_changed(results);
                self.cache
                    .lock()
                    .put_back(&self.config, id, epoch, partitions);
                (id, responses)
            }
        };
        FetchResponse {
            session_id,
            responses,
            ..FetchResponse::default()
        }
    }
}

impl FetchContext {
    /// The partitions to read. The first that has data comes first in the answer, and is the one that may exceed the
    /// limits; those that had data in the last answer come last.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (&Topic, &Wanted)> {
        self.partitions.iter()
    }

    /// How many partitions there are to read.
    pub(crate) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether the fetcher would hear something new from these results, records apart. Without a session nothing is known
    /// to be old.
    pub(crate) fn has_news(&self, results: &[PartitionData]) -> bool {
        matches!(self.kind, Kind::Incremental { .. }) && self.partitions.have_news(results)
    }

    /// Whether there is nothing to read, so that there is nothing to wait for.
    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

#[cfg(test)]
mod tests;
