//! Fetch sessions: a broker remembers what is fetched, and is told only what changes (KIP-227).

use std::collections::BTreeMap;

use super::{Slot, Wanted};

/// The session number of a request that has, or wants, no session.
const NONE: i32 = 0;
/// The epoch by which a session is opened; with the id of another, that one is closed.
const OPEN: i32 = 0;

/// The session with one broker, as of the last request.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    epoch: i32,
    /// The request that is under way was the last one.
    is_over: bool,
    /// What the broker remembers.
    sent: BTreeMap<Slot, Wanted>,
}

/// What stands in a request.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) session_id: i32,
    pub(super) session_epoch: i32,
    pub(super) partitions: Vec<Wanted>,
    pub(super) forgotten: Vec<Slot>,
}

impl Session {
    /// What to say so that exactly `wanted` is fetched.
    pub(super) fn plan(&mut self, wanted: Vec<Wanted>) -> Plan {
        if std::mem::take(&mut self.is_over) {
            self.epoch = OPEN;
        }
        let (session_id, session_epoch) = (self.id, self.epoch);
        if session_epoch == OPEN {
            self.sent = wanted.iter().map(|it| (it.slot, *it)).collect();
            return Plan {
                session_id,
                session_epoch,
                partitions: wanted,
                forgotten: Vec::new(),
            };
        }
        let now: BTreeMap<Slot, Wanted> = wanted.iter().map(|it| (it.slot, *it)).collect();
        let forgotten = self.sent.keys().filter(|slot| !now.contains_key(slot));
        let forgotten = forgotten.copied().collect();
        let changed = wanted
            .into_iter()
            .filter(|it| self.sent.get(&it.slot) != Some(it));
        let partitions = changed.collect();
        self.sent = now;
        Plan {
            session_id,
            session_epoch,
            partitions,
            forgotten,
        }
    }

    /// An answer without an error has come.
    pub(super) fn answered(&mut self, session_id: i32) {
        let was_open = self.epoch == OPEN;
        self.epoch = match session_id {
            NONE => OPEN,
            _ if was_open => 1,
            _ if self.epoch == i32::MAX => 1,
            _ => self.epoch + 1,
        };
        self.id = session_id;
    }

    /// Nobody knows what the broker remembers: the next request closes the session and opens another.
    pub(super) const fn restart(&mut self) {
        self.is_over = true;
    }

    /// The broker has no such session.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether the broker remembers the partition.
    #[cfg(test)]
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.sent.contains_key(&slot)
    }
}
