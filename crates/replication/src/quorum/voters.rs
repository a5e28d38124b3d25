//! Who votes: keys, endpoints, the set of voters, and how it changed along the log (KIP-853).

use tidelog_types::{NodeId, Offset, Str, Uuid};

use super::event::ControlRecord;

/// A replica of the metadata log: a node and its log directory. A node that lost its disk is another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    /// Its node id.
    pub id: NodeId,
    /// Its log directory; zero when unknown, as for the voters of a static configuration.
    pub directory_id: Uuid,
}

impl ReplicaKey {
    /// Whether `other` is this replica as far as this key says: where it names no directory, any will do.
    pub fn matches(&self, other: &Self) -> bool {
        self.id == other.id
            && (self.directory_id.is_zero() || self.directory_id == other.directory_id)
    }
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name of the listener.
    pub listener: Str,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: u16,
}

/// A range of versions of a feature, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest.
    pub min: i16,
    /// The highest.
    pub max: i16,
}

impl VersionRange {
    /// Whether `version` is in the range.
    pub const fn contains(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// A node that votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Who it is.
    pub key: ReplicaKey,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// What it knows of `kraft.version`.
    pub kraft_versions: VersionRange,
}

/// All nodes that vote, by id. A set with less than one voter is that of a node that does not know the voters yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VoterSet(Vec<Voter>);

impl VoterSet {
    /// Sorts `voters`; of several with the same id the first is taken.
    pub fn new(mut voters: Vec<Voter>) -> Self {
        voters.sort_by_key(|voter| voter.key.id);
        voters.dedup_by_key(|voter| voter.key.id);
        Self(voters)
    }

    /// The voters, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Voter> {
        self.0.iter()
    }

    /// The keys of the voters, by id.
    pub fn keys(&self) -> impl Iterator<Item = ReplicaKey> + '_ {
        self.0.iter().map(|voter| voter.key)
    }

    /// How many voters there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the voters are not known.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The voter with this node id.
    pub fn find(&self, id: NodeId) -> Option<&Voter> {
        self.0.iter().find(|voter| voter.key.id == id)
    }

    /// Whether `replica` is a voter.
    pub fn contains(&self, replica: &ReplicaKey) -> bool {
        self.find(replica.id)
            .is_some_and(|voter| voter.key.matches(replica))
    }

    /// Whether `replica` is the only voter.
    pub fn is_only(&self, replica: &ReplicaKey) -> bool {
        self.len() == 1 && self.contains(replica)
    }

    /// Where the node is reached, if it is a voter.
    pub fn endpoints(&self, id: NodeId) -> Vec<Endpoint> {
        self.find(id)
            .map_or_else(Vec::new, |voter| voter.endpoints.clone())
    }

    /// This set and one more voter; nothing if the node votes already.
    pub fn with(&self, voter: Voter) -> Option<Self> {
        if self.find(voter.key.id).is_some() {
            return None;
        }
        let mut voters = self.0.clone();
        voters.push(voter);
        Some(Self::new(voters))
    }

    /// This set without a voter; nothing if the replica does not vote.
    pub fn without(&self, replica: &ReplicaKey) -> Option<Self> {
        if !self.contains(replica) {
            return None;
        }
        let others = self.0.iter().filter(|voter| voter.key.id != replica.id);
        Some(Self(others.cloned().collect()))
    }

    /// This set with `voter` in the place of what was known of it; nothing if the replica does not vote.
    pub fn updated(&self, voter: Voter) -> Option<Self> {
        if !self.contains(&voter.key) {
            return None;
        }
        let mut voters = self.0.clone();
        let old = voters.iter_mut().find(|old| old.key.id == voter.key.id)?;
        *old = voter;
        Some(Self(voters))
    }
}

/// How voters and `kraft.version` changed along the log. The last change counts, committed or not; truncating the log takes
/// it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VoterHistory {
    configured: VoterSet,
    voters: Vec<(Offset, VoterSet)>,
    kraft_versions: Vec<(Offset, i16)>,
}

impl VoterHistory {
    pub(super) const fn new(configured: VoterSet) -> Self {
        Self {
            configured,
            voters: Vec::new(),
            kraft_versions: Vec::new(),
        }
    }

    pub(super) fn replay(&mut self, record: ControlRecord) {
        match record {
            ControlRecord::KRaftVersion {
                offset,
                kraft_version,
            } => self.kraft_versions.push((offset, kraft_version)),
            // Without a voter nobody could ever decide anything: such a record is none of ours.
            ControlRecord::Voters { voters, .. } if voters.is_empty() => {}
            ControlRecord::Voters { offset, voters } => self.voters.push((offset, voters)),
        }
    }

    /// The log was cut at `end`.
    pub(super) fn truncate(&mut self, end: Offset) {
        self.voters.retain(|(offset, _)| *offset < end);
        self.kraft_versions.retain(|(offset, _)| *offset < end);
    }

    /// The log begins anew behind a snapshot.
    pub(super) fn install(&mut self, records: Vec<ControlRecord>) {
        self.voters.clear();
        self.kraft_versions.clear();
        for record in records {
            self.replay(record);
        }
    }

    /// Nothing below `start` is asked for any more, except what is valid there.
    pub(super) fn forget_before(&mut self, start: Offset) {
        fn forget<T>(entries: &mut Vec<(Offset, T)>, start: Offset) {
            let valid = entries.partition_point(|(offset, _)| *offset < start);
            entries.drain(..valid.saturating_sub(1));
        }
        forget(&mut self.voters, start);
        forget(&mut self.kraft_versions, start);
    }

    /// Who votes.
    pub(super) fn voters(&self) -> &VoterSet {
        self.voters
            .last()
            .map_or(&self.configured, |(_, voters)| voters)
    }

    /// The offset of the record that set the voters, [`Offset::NONE`] if it is in what `format` wrote; nothing for a static
    /// configuration.
    pub(super) fn voters_offset(&self) -> Option<Offset> {
        self.voters.last().map(|(offset, _)| *offset)
    }

    /// Whether `replica` is in the last set that is known to be committed, or in a later one.
    pub(super) fn may_vote(&self, replica: &ReplicaKey, high_watermark: Offset) -> bool {
        for (offset, voters) in self.voters.iter().rev() {
            if voters.contains(replica) {
                return true;
            }
            if *offset < high_watermark {
                return false;
            }
        }
        self.configured.contains(replica)
    }

    pub(super) fn kraft_version(&self) -> i16 {
        self.kraft_versions
            .last()
            .map_or(0, |(_, version)| *version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i32]) -> VoterSet {
        let voter = |id: &i32| Voter {
            key: ReplicaKey {
                id: NodeId::new(*id),
                directory_id: Uuid::ZERO,
            },
            endpoints: Vec::new(),
            kraft_versions: VersionRange { min: 0, max: 1 },
        };
        VoterSet::new(ids.iter().map(voter).collect())
    }

    fn history(changes: &[(i64, &[i32])]) -> VoterHistory {
        let mut history = VoterHistory::new(set(&[1]));
        for (offset, ids) in changes {
            history.replay(ControlRecord::Voters {
                offset: Offset::new(*offset),
                voters: set(ids),
            });
        }
        history
    }

    #[test]
    fn truncation_takes_a_change_back() {
        let mut history = history(&[(3, &[1, 2]), (7, &[1, 2, 3])]);
        assert_eq!(history.voters(), &set(&[1, 2, 3]));
        history.truncate(Offset::new(7));
        assert_eq!(history.voters(), &set(&[1, 2]));
        history.truncate(Offset::new(3));
        assert_eq!(history.voters(), &set(&[1]), "the configured voters");
        assert_eq!(history.voters_offset(), None);
    }

    #[test]
    fn what_is_valid_at_the_log_start_stays() {
        let mut history = history(&[(3, &[1, 2]), (7, &[1, 2, 3]), (9, &[1])]);
        history.forget_before(Offset::new(8));
        history.truncate(Offset::new(9));
        assert_eq!(history.voters(), &set(&[1, 2, 3]));
        assert_eq!(history.voters.len(), 1);
    }

    #[test]
    fn a_record_without_voters_changes_nothing() {
        assert_eq!(history(&[(3, &[])]).voters(), &set(&[1]));
    }

    #[test]
    fn two_sets_a_step_apart_share_a_majority() {
        for size in 1..7 {
            let ids: Vec<i32> = (0..size).collect();
            let smaller = set(&ids);
            let added = Voter {
                key: ReplicaKey {
                    id: NodeId::new(size),
                    directory_id: Uuid::ZERO,
                },
                ..smaller.0[0].clone()
            };
            let larger = smaller.with(added).expect("not a voter yet");
            let majority = crate::majority::majority;
            assert!(majority(smaller.len()) + majority(larger.len()) > larger.len());
        }
    }
}
