//! What must hold of a group: the log of its coordinator is the truth, and consumers may only believe what it says.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_coordinator::group::GroupRecord;
use tidelog_protocol::records::consumer_protocol::ConsumerProtocolAssignment;
use tidelog_protocol::records::group::classic::{GroupMetadataValue, OffsetCommitValue};
use tidelog_protocol::records::group::consumer::{
    ConsumerGroupCurrentMemberAssignmentValue, TopicPartitions,
};
use tidelog_record::Batch;
use tidelog_types::{Offset, Str};

/// A member of a consumer group (KIP-848), as the log has it.
#[derive(Debug, Default)]
struct Member {
    epoch: i32,
    previous_epoch: i32,
    /// With what it still has to give up.
    owned: BTreeSet<i32>,
}

/// What a consumer believes.
#[derive(Debug, Default)]
struct Belief {
    identity: Option<(Str, i32)>,
    owned: BTreeSet<i32>,
}

/// The one group of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// The generation of a classic group.
    generation: i32,
    assigned: BTreeMap<Str, BTreeSet<i32>>,
    members: BTreeMap<Str, Member>,
    /// All offsets that were committed of a partition, in their order.
    offsets: BTreeMap<i32, Vec<Offset>>,
    /// The commits that the log has.
    commits: BTreeSet<u64>,
    commits_count: u64,
    /// Up to where all records of a partition were consumed.
    consumed: BTreeMap<i32, Offset>,
    beliefs: BTreeMap<usize, Belief>,
}

/// Who commits what, in words that go with the offset.
pub(crate) fn commit_tag(member_id: &str, epoch: i32, number: u64) -> String {
    format!("{member_id} {epoch} {number}")
}

fn read_tag(tag: &str) -> Option<(&str, i32, u64)> {
    let mut words = tag.split(' ');
    let member_id = words.next()?;
    Some((
        member_id,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
    ))
}

fn all(topics: &[TopicPartitions]) -> impl Iterator<Item = i32> {
    topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().copied())
}

impl Groups {
    /// A batch of the coordinator's log is committed.
    pub(super) fn committed(&mut self, batch: &Batch) -> Result<(), String> {
        let records = batch.records().map_err(|error| error.to_string())?;
        for record in records {
            let record = record.map_err(|error| error.to_string())?;
            let key = record.key.ok_or("a record of a group without a key")?;
            let decoded = GroupRecord::decode(&key, record.value.as_ref());
            match decoded.map_err(|error| error.to_string())? {
                Some(GroupRecord::OffsetCommit {
                    partition,
                    value: Some(value),
                    ..
                }) => self.offset(partition, &value)?,
                Some(GroupRecord::GroupMetadata { value, .. }) => self.classic(value)?,
                Some(GroupRecord::ConsumerGroupCurrentMember {
                    member_id, value, ..
                }) => self.member(member_id, value),
                _ => {}
            }
        }
        self.one_owner()
    }

    /// Who commits is who owns, in the newest generation.
    fn offset(&mut self, partition: i32, value: &OffsetCommitValue) -> Result<(), String> {
        let offset = value.offset;
        let (member_id, epoch, number) = read_tag(&value.metadata).ok_or("nobody's commit")?;
        let consumed = self.consumed.get(&partition).copied();
        if consumed.unwrap_or_default() < offset {
            return Err(format!(
                "{offset} of partition {partition} is committed, and only what comes before {consumed:?} was consumed"
            ));
        }
        if self.members.is_empty() {
            if epoch < self.generation {
                return Err(format!(
                    "member {member_id} commits partition {partition} in generation {epoch}, and the group is in {}",
                    self.generation
                ));
            }
        } else {
            if !self.members.contains_key(member_id) {
                return Err(format!(
                    "{member_id} commits partition {partition} and is no member"
                ));
            }
            let mut others = self.members.iter();
            let owner =
                others.find(|(id, member)| **id != *member_id && member.owned.contains(&partition));
            if let Some((owner, _)) = owner {
                return Err(format!(
                    "member {member_id} commits partition {partition}, which is {owner}'s"
                ));
            }
        }
        self.commits.insert(number);
        self.offsets.entry(partition).or_default().push(offset);
        Ok(())
    }

    fn classic(&mut self, value: Option<GroupMetadataValue>) -> Result<(), String> {
        let Some(value) = value else {
            self.assigned.clear();
            return Ok(());
        };
        if value.generation < self.generation {
            return Err(format!(
                "generation {} follows generation {}",
                value.generation, self.generation
            ));
        }
        self.generation = value.generation;
        self.assigned.clear();
        for member in value.members {
            let assignment = ConsumerProtocolAssignment::decode_versioned(&member.assignment);
            let topics = assignment.map_or_else(|_| Vec::new(), |it| it.assigned_partitions);
            let partitions = topics.into_iter().flat_map(|topic| topic.partitions);
            self.assigned.insert(member.member_id, partitions.collect());
        }
        Ok(())
    }

    fn member(&mut self, id: Str, value: Option<ConsumerGroupCurrentMemberAssignmentValue>) {
        let Some(value) = value else {
            self.members.remove(&id);
            return;
        };
        let owned = all(&value.assigned_partitions);
        let owned = owned.chain(all(&value.partitions_pending_revocation));
        let member = Member {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            owned: owned.collect(),
        };
        self.members.insert(id, member);
    }

    /// No partition is two members' at a time.
    fn one_owner(&self) -> Result<(), String> {
        let consumer = self.members.iter().map(|(id, member)| (id, &member.owned));
        let mut owners = BTreeMap::new();
        for (id, owned) in consumer.chain(&self.assigned) {
            for partition in owned {
                if let Some(other) = owners.insert(*partition, id) {
                    return Err(format!(
                        "partition {partition} is both {other}'s and {id}'s, as the coordinator has it"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether the coordinator takes that consumer for a member, as it takes itself for one.
    fn is_member(&self, identity: Option<&(Str, i32)>) -> bool {
        let Some((id, epoch)) = identity else {
            return false;
        };
        let is_new = |member: &Member| *epoch == member.epoch || *epoch == member.previous_epoch;
        self.members.get(id).is_some_and(is_new)
            || (*epoch == self.generation && self.assigned.contains_key(id))
    }

    fn belief(&mut self, consumer: usize) -> &mut Belief {
        self.beliefs.entry(consumer).or_default()
    }

    /// A consumer takes itself for that member from now on.
    pub(crate) fn believes(&mut self, consumer: usize, identity: Option<(Str, i32)>) {
        self.belief(consumer).identity = identity;
    }

    pub(crate) fn gives_up(&mut self, consumer: usize, partition: i32) {
        self.belief(consumer).owned.remove(&partition);
    }

    /// A consumer is no more.
    pub(crate) fn gone(&mut self, consumer: usize) {
        self.beliefs.remove(&consumer);
    }

    /// A consumer begins to read a partition; nobody else may, unless the group has gone on without one of the two.
    pub(crate) fn takes(&mut self, consumer: usize, partition: i32) -> Result<(), String> {
        self.belief(consumer).owned.insert(partition);
        if !self.is_member(self.beliefs[&consumer].identity.as_ref()) {
            return Ok(());
        }
        for (other, belief) in &self.beliefs {
            let has_it = *other != consumer && belief.owned.contains(&partition);
            if has_it && self.is_member(belief.identity.as_ref()) {
                return Err(format!(
                    "consumer {consumer} takes partition {partition} as {:?}, while consumer {other} has it as {:?}",
                    self.beliefs[&consumer].identity, belief.identity
                ));
            }
        }
        Ok(())
    }

    /// A consumer has seen the records from `from` to `to`.
    pub(crate) fn consumes(
        &mut self,
        partition: i32,
        from: Offset,
        to: Offset,
    ) -> Result<(), String> {
        let consumed = self.consumed.entry(partition).or_default();
        if from > *consumed {
            return Err(format!(
                "a consumer goes on with {from} in partition {partition}, and nobody has consumed what follows {consumed}"
            ));
        }
        *consumed = to.max(*consumed);
        Ok(())
    }

    /// A number for a commit.
    pub(crate) const fn number(&mut self) -> u64 {
        self.commits_count += 1;
        self.commits_count
    }

    /// A consumer was told that its commit is done.
    pub(crate) fn commit_done(&self, number: u64) -> Result<(), String> {
        match self.commits.contains(&number) {
            true => Ok(()),
            false => Err(format!(
                "commit {number} of a consumer is acknowledged, and the coordinator's log does not have it"
            )),
        }
    }

    /// How many offsets were committed of each partition.
    pub(crate) fn offsets_count(&self) -> BTreeMap<i32, usize> {
        let offsets = self.offsets.iter();
        offsets.map(|(index, all)| (*index, all.len())).collect()
    }

    /// The coordinator answers that `offset` is committed of a partition, of which so many offsets were committed when it was
    /// asked.
    pub(crate) fn answers(
        &self,
        partition: i32,
        offset: Offset,
        count: usize,
    ) -> Result<(), String> {
        let all = self.offsets.get(&partition).map_or(&[][..], |all| all);
        let may_be = all.get(count.saturating_sub(1)..).unwrap_or_default();
        if (count == 0 && offset == Offset::NONE) || may_be.contains(&offset) {
            return Ok(());
        }
        Err(format!(
            "the coordinator says that {offset} is committed of partition {partition}, and it is {:?}",
            all.last()
        ))
    }

    /// The offset that was committed last.
    pub(crate) fn last_committed(&self, partition: i32) -> Option<Offset> {
        self.offsets.get(&partition)?.last().copied()
    }

    /// Up to where all records of a partition were consumed.
    pub(crate) fn consumed_to(&self, partition: i32) -> Offset {
        self.consumed.get(&partition).copied().unwrap_or_default()
    }
}
