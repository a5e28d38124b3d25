//! The slots of the cache, and who must leave when they are all taken.

use std::collections::HashMap;
use std::time::Instant;

use tidelog_types::ErrorCode;

use super::partitions::Partitions;
use super::{Config, NO_SESSION};

/// What is behind the lock.
pub(super) struct Cache {
    pub(super) sessions: HashMap<i32, Session>,
    /// The sum of the sizes of the sessions.
    pub(super) partitions_count: usize,
    seed: u64,
}

pub(super) struct Session {
    /// Whether the fetcher is a follower: consumers cannot push it out.
    pub(super) privileged: bool,
    pub(super) uses_topic_ids: bool,
    /// The epoch that the next request has to have.
    pub(super) epoch: i32,
    pub(super) created: Instant,
    pub(super) last_used: Instant,
    /// How many partitions it follows.
    pub(super) size: usize,
    /// The partitions, unless a request of this session has them.
    pub(super) partitions: Option<Partitions>,
}

impl Cache {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sessions: HashMap::new(),
            partitions_count: 0,
            seed,
        }
    }

    pub(super) fn take(
        &mut self,
        now: Instant,
        id: i32,
        epoch: i32,
        uses_topic_ids: bool,
    ) -> Result<(i32, Partitions), ErrorCode> {
        let session = self
            .sessions
            .get_mut(&id)
            .ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        let partitions = session
            .partitions
            .take()
            .ok_or(ErrorCode::INVALID_FETCH_SESSION_EPOCH)?;
        session.epoch = next_epoch(epoch);
        session.last_used = now;
        Ok((session.epoch, partitions))
    }

    /// Brings the partitions back, unless the session was closed or pushed out meanwhile.
    pub(super) fn put_back(
        &mut self,
        config: &Config,
        id: i32,
        epoch: i32,
        partitions: Partitions,
    ) {
        let Some(session) = self
            .sessions
            .get_mut(&id)
            .filter(|session| session.epoch == epoch)
        else {
            return;
        };
        self.partitions_count = self.partitions_count - session.size + partitions.len();
        session.size = partitions.len();
        session.partitions = Some(partitions);
        if self.partitions_count > config.partitions_max {
            self.remove(id);
        }
    }

    /// The id of the new session, or that of none if there is no room.
    pub(super) fn open(&mut self, now: Instant, config: &Config, session: Session) -> i32 {
        if session.size == 0
            || self.partitions_count + session.size > config.partitions_max
            || !self.make_room(now, config, session.privileged, session.size)
        {
            return NO_SESSION;
        }
        let mut id = NO_SESSION;
        while id == NO_SESSION || self.sessions.contains_key(&id) {
            id = self.random_id();
        }
        self.partitions_count += session.size;
        self.sessions.insert(id, session);
        id
    }

    /// Whether there is a slot for a session of this kind, after pushing out another if need be: the one that was unused
    /// for longest if it is stale, else the smallest of those that have had their time. Followers need not wait for a
    /// consumer's session to have had its time, and never give way to a consumer.
    fn make_room(&mut self, now: Instant, config: &Config, privileged: bool, size: usize) -> bool {
        if self.sessions.len() < config.slots_max {
            return true;
        }
        let Some((id, unused)) = self
            .sessions
            .iter()
            .min_by_key(|(_, session)| session.last_used)
        else {
            return false;
        };
        if now.duration_since(unused.last_used) > config.evictable_after {
            let id = *id;
            self.remove(id);
            return true;
        }
        let had_its_time = |session: &Session| {
            session.last_used.duration_since(session.created) > config.evictable_after
                || (privileged && !session.privileged)
        };
        let weakest = self
            .sessions
            .iter()
            .filter(|(_, session)| had_its_time(session))
            .map(|(id, session)| (session.privileged, session.size, *id))
            .min();
        match weakest {
            Some((other_privileged, other_size, id))
                if (other_privileged, other_size) < (privileged, size) =>
            {
                self.remove(id);
                true
            }
            _ => false,
        }
    }

    pub(super) fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions_count -= session.size;
        }
    }

    /// SplitMix64. A session id is no secret: each request is authorized by itself.
    fn random_id(&mut self) -> i32 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 33) as i32
    }
}

/// The epoch of the request after this one: 0 and -1 have other meanings.
pub(super) const fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}
