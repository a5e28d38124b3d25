//! What must hold, whatever happens: the oracle sees what no node sees, and says what is wrong.

mod groups;

use std::collections::BTreeMap;

use tidelog_log::LogReader;
use tidelog_record::Batch;
use tidelog_replication::quorum::Anomaly;
use tidelog_types::{LeaderEpoch, NodeId, Offset, TopicId, TopicName};

use self::groups::Groups;
pub(crate) use self::groups::commit_tag;
use crate::message::Partition;
use crate::writer::{PASSING, UNCLEAN, wrote};

/// How many of the last batches of a new leader are looked at.
const LOOKED_AT: usize = 20;

/// A batch, as far as one differs from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BatchId {
    base: Offset,
    next: Offset,
    epoch: LeaderEpoch,
    crc: u32,
}

impl BatchId {
    fn of(batch: &Batch) -> Self {
        let header = batch.header();
        Self {
            base: header.base_offset,
            next: header.next_offset(),
            epoch: header.partition_leader_epoch,
            crc: header.crc,
        }
    }
}

/// What must hold of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Each partition is written to by one idempotent producer that never gives up.
    Produced,
    /// Writers write to it who do not try again; it may be deleted, and so may its records.
    Written,
    /// The same, and leaders may be elected without what is committed: no more is known than that replicas become the same.
    Unclean,
    /// The log of coordinators of groups.
    Groups,
}

impl Kind {
    pub(crate) fn of(name: &TopicName) -> Self {
        match &**name {
            UNCLEAN => Self::Unclean,
            name if name.starts_with(PASSING) => Self::Written,
            name if *name == *TopicName::CONSUMER_OFFSETS => Self::Groups,
            _ => Self::Produced,
        }
    }

    /// Whether what is committed stays.
    pub(crate) fn is_kept(self) -> bool {
        self != Self::Unclean
    }
}

/// What was committed of one log, by whoever said so first.
#[derive(Debug, Default)]
struct History {
    batches: Vec<BatchId>,
    /// What the producer of the partition wrote, by the number of its batch.
    written: Vec<Offset>,
    /// The same of a writer, of whose batches not all come so far.
    by_number: BTreeMap<u64, Offset>,
    /// Up to where the leader of each epoch said so.
    by_epoch: BTreeMap<LeaderEpoch, Offset>,
}

impl History {
    fn end(&self) -> Offset {
        self.batches.last().map_or(Offset::ZERO, |last| last.next)
    }

    fn at(&self, offset: Offset) -> usize {
        self.batches.partition_point(|batch| batch.base < offset)
    }
}

/// Sees everything.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    wrong: Option<String>,
    quorum_leaders: BTreeMap<LeaderEpoch, NodeId>,
    leaders: BTreeMap<(Partition, LeaderEpoch), NodeId>,
    partitions: BTreeMap<Partition, History>,
    metadata: History,
    pub(crate) acknowledged: u64,
    pub(crate) kinds: BTreeMap<TopicId, Kind>,
    pub(crate) groups: Groups,
}

impl Oracle {
    pub(crate) fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    pub(crate) fn check(&mut self, checked: Result<(), String>) {
        if let Err(wrong) = checked {
            self.wrong(wrong);
        }
    }

    pub(crate) const fn verdict(&self) -> Option<&String> {
        self.wrong.as_ref()
    }

    /// One leader an epoch.
    pub(crate) fn leads_quorum(&mut self, epoch: LeaderEpoch, node: NodeId) {
        let known = *self.quorum_leaders.entry(epoch).or_insert(node);
        if known != node {
            self.wrong(format!(
                "nodes {known} and {node} both lead the quorum in epoch {epoch}"
            ));
        }
    }

    /// One leader an epoch, which has all that was committed.
    pub(crate) fn leads(
        &mut self,
        partition: Partition,
        epoch: LeaderEpoch,
        node: NodeId,
        reader: &LogReader,
    ) {
        let known = *self.leaders.entry((partition, epoch)).or_insert(node);
        if known != node {
            self.wrong(format!(
                "nodes {known} and {node} both lead {} in epoch {epoch}",
                partition.1
            ));
        }
        let Some(history) = self.partitions.get(&partition) else {
            return;
        };
        let end = reader.log_end_offset();
        // Who learns late that it leads may have been succeeded already.
        let before = history.by_epoch.range(..epoch);
        let committed = before.map(|(_, end)| *end).max();
        let committed = committed.unwrap_or(Offset::ZERO);
        if end < committed {
            return self.wrong(format!(
                "node {node} leads partition {} in epoch {epoch} with a log that ends at {end}, and {committed} is committed",
                partition.1
            ));
        }
        let from = history.at(committed).saturating_sub(LOOKED_AT);
        if let Some(first) = history.batches.get(from) {
            let from = reader.log_start_offset().max(first.base);
            self.committed(partition, node, None, reader, from, committed);
        }
    }

    /// What lies in `from..to` is committed, says a node, perhaps as the leader of an epoch: it is what others have said, and
    /// offsets mean one thing only.
    pub(crate) fn committed(
        &mut self,
        partition: Partition,
        node: NodeId,
        epoch: Option<LeaderEpoch>,
        reader: &LogReader,
        from: Offset,
        to: Offset,
    ) {
        let history = self.partitions.entry(partition).or_default();
        if let Some(epoch) = epoch {
            let end = history.by_epoch.entry(epoch).or_default();
            *end = to.max(*end);
        }
        let name = format_args!("partition {}", partition.1).to_string();
        let groups = &mut self.groups;
        let kind = self.kinds.get(&partition.0).copied();
        let compared = compare(history, reader, from, to, |history, batch| {
            match kind {
                Some(Kind::Groups) => return groups.committed(batch),
                Some(Kind::Written | Kind::Unclean) => return written(history, partition.0, batch),
                Some(Kind::Produced) | None => {}
            }
            let written = number_of(batch).ok_or("a record that nobody wrote")?;
            let expected = history.written.len() as u64;
            if written != expected {
                return Err(format!(
                    "batch {written} of the producer is committed at {}, where {expected} should follow",
                    batch.header().base_offset
                ));
            }
            history.written.push(batch.header().base_offset);
            Ok(())
        });
        if let Err(error) = compared {
            self.wrong(format!("{name} on node {node}: {error}"));
        }
    }

    /// The same of the metadata.
    pub(crate) fn metadata_committed(
        &mut self,
        node: NodeId,
        reader: &LogReader,
        from: Offset,
        to: Offset,
    ) {
        let compared = compare(&mut self.metadata, reader, from, to, |_, _| Ok(()));
        if let Err(error) = compared {
            self.wrong(format!("the metadata on node {node}: {error}"));
        }
    }

    /// A producer was told that its batch of that number is written, at that offset.
    pub(crate) fn acknowledged(&mut self, partition: Partition, number: u64, offset: Offset) {
        self.acknowledged += 1;
        let history = self.partitions.entry(partition).or_default();
        let written = history.written.get(number as usize).copied();
        if written != Some(offset) {
            self.wrong(format!(
                "batch {number} of partition {} is acknowledged at {offset}, and committed at {written:?}",
                partition.1
            ));
        }
    }

    /// A writer was told that all in-sync replicas have its batch of that number.
    pub(crate) fn replicated(&mut self, partition: Partition, number: u64, offset: Offset) {
        let is_kept = self
            .kinds
            .get(&partition.0)
            .is_none_or(|kind| kind.is_kept());
        let history = self.partitions.get(&partition);
        let known = history.and_then(|history| history.by_number.get(&number).copied());
        if is_kept && known != Some(offset) {
            self.wrong(format!(
                "batch {number} of a writer is acknowledged at {offset} of partition {}, and committed at {known:?}",
                partition.1
            ));
        }
    }

    /// A consumer was given a batch: it is one that is committed.
    pub(crate) fn delivered(&mut self, partition: Partition, batch: &Batch) {
        let id = BatchId::of(batch);
        let history = self.partitions.get(&partition);
        let known = history.and_then(|history| history.batches.get(history.at(id.base)));
        if known != Some(&id) {
            self.wrong(format!(
                "a consumer is given {id:?} of partition {}, and committed is {known:?}",
                partition.1
            ));
        }
    }

    /// Whether nobody leads a partition, or has led it, in a later epoch.
    pub(crate) fn is_newest(&self, partition: Partition, epoch: LeaderEpoch) -> bool {
        let mut leaders = self
            .leaders
            .range((partition, epoch)..=(partition, LeaderEpoch::new(i32::MAX)));
        leaders.all(|((_, other), _)| *other == epoch)
    }

    /// How much of a partition is committed.
    pub(crate) fn committed_end(&self, partition: Partition) -> Offset {
        let history = self.partitions.get(&partition);
        history.map_or(Offset::ZERO, History::end)
    }

    /// How many batches of the producer are.
    pub(crate) fn written(&self, partition: Partition) -> u64 {
        let history = self.partitions.get(&partition);
        history.map_or(0, |history| history.written.len() as u64)
    }

    /// A machine reports what never should be.
    pub(crate) fn anomaly(&mut self, node: NodeId, anomaly: &Anomaly) {
        self.wrong(format!("node {node} reports {anomaly:?}"));
    }
}

/// Compares a part of a log with what was committed, which it may continue.
fn compare(
    history: &mut History,
    reader: &LogReader,
    from: Offset,
    to: Offset,
    mut look: impl FnMut(&mut History, &Batch) -> Result<(), String>,
) -> Result<(), String> {
    for (at, batch) in (history.at(from)..).zip(reader.batches(from, to)) {
        let batch = batch.map_err(|error| format!("what is committed cannot be read: {error}"))?;
        let id = BatchId::of(&batch);
        if id.next > to {
            break;
        }
        match history.batches.get(at) {
            Some(known) if *known != id => {
                return Err(format!("{id:?} is committed, and so is {known:?}"));
            }
            Some(_) => {}
            None if id.base < history.end() => {
                return Err(format!("{id:?} is committed within what was before"));
            }
            None => {
                history.batches.push(id);
                look(history, &batch)?;
            }
        }
    }
    if to > history.end() {
        return Err(format!(
            "{to} is committed, but nothing is there from {} on",
            history.end()
        ));
    }
    Ok(())
}

/// A batch of a writer is in the topic for which it was meant, once.
fn written(history: &mut History, topic: TopicId, batch: &Batch) -> Result<(), String> {
    let (meant_for, number) = wrote(batch).ok_or("a record that nobody wrote")?;
    let base = batch.header().base_offset;
    if meant_for != topic {
        return Err(format!(
            "batch {number} of a writer is at {base}, and was meant for another topic of that name"
        ));
    }
    match history.by_number.insert(number, base) {
        Some(other) => Err(format!(
            "batch {number} of a writer is at {base} and at {other}"
        )),
        None => Ok(()),
    }
}

/// The number that the producer gave to its batch.
fn number_of(batch: &Batch) -> Option<u64> {
    let record = batch.records().ok()?.next()?.ok()?;
    let value = record.value?;
    Some(u64::from_le_bytes(*value.first_chunk()?))
}
