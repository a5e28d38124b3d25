use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_protocol::records::metadata::{
    MetadataRecord, PartitionChangeRecord, PartitionRecord, TopicRecord,
};
use tidelog_types::{LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicName, Uuid};

use crate::image::ReplayError;

/// The leader of a [`PartitionChangeRecord`] that changes none.
pub const NO_LEADER_CHANGE: NodeId = NodeId::new(-2);

/// What directory ids stand for that name no directory (KIP-858).
pub mod directory {
    use tidelog_types::Uuid;

    /// The broker that holds the replica has not told its directories.
    pub const MIGRATING: Uuid = Uuid::ZERO;
    /// The broker has not yet chosen one of its directories.
    pub const UNASSIGNED: Uuid = Uuid::from_bytes(1_u128.to_be_bytes());
    /// The directory is gone.
    pub const LOST: Uuid = Uuid::from_bytes(2_u128.to_be_bytes());

    /// Whether the id is one of the first hundred, which never name a directory.
    pub const fn is_reserved(id: Uuid) -> bool {
        u128::from_be_bytes(*id.as_bytes()) < 100
    }
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// The name.
    pub name: TopicName,
    /// The id of this incarnation of the topic (KIP-516).
    pub id: TopicId,
    /// The partitions, by number. A partition is shared by the images in which it is the same.
    pub partitions: BTreeMap<PartitionIndex, Arc<PartitionImage>>,
}

/// How far the leader of a partition has come since its election (KIP-704).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaderRecoveryState {
    /// The leader was elected from replicas in sync, or has recovered since.
    #[default]
    Recovered = 0,
    /// The leader was elected uncleanly.
    Recovering = 1,
}

/// One partition: who holds it and who leads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionImage {
    /// The brokers that hold a replica, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The log directory of each replica, in the order of the replicas (KIP-858).
    pub directories: Vec<Uuid>,
    /// The replicas in sync.
    pub isr: Vec<NodeId>,
    /// Replicas out of sync that may lead nevertheless (KIP-966).
    pub eligible_leader_replicas: Vec<NodeId>,
    /// The last leaders, when neither the ISR nor the ELR has members (KIP-966).
    pub last_known_elr: Vec<NodeId>,
    /// The replicas that the reassignment in progress removes.
    pub removing_replicas: Vec<NodeId>,
    /// The replicas that the reassignment in progress adds.
    pub adding_replicas: Vec<NodeId>,
    /// The leader, or [`NodeId::NONE`].
    pub leader: NodeId,
    /// Whether the leader was elected uncleanly and has not recovered yet.
    pub leader_recovery_state: LeaderRecoveryState,
    /// How often a leader was elected, or taken away.
    pub leader_epoch: LeaderEpoch,
    /// How often anything of this changed.
    pub partition_epoch: i32,
}

impl TopicImage {
    /// The partition of that number.
    pub fn partition(&self, partition: PartitionIndex) -> Option<&PartitionImage> {
        self.partitions
            .get(&partition)
            .map(|partition| &**partition)
    }

    /// The records that create the topic as it is now.
    pub(crate) fn records(&self) -> impl Iterator<Item = MetadataRecord> {
        let topic = TopicRecord {
            name: self.name.clone(),
            topic_id: self.id,
        };
        let partitions = self.partitions.iter();
        std::iter::once(topic.into())
            .chain(partitions.map(|(index, partition)| partition.record(self.id, *index).into()))
    }
}

impl LeaderRecoveryState {
    pub(crate) fn from_value(value: i8) -> Result<Self, ReplayError> {
        match value {
            0 => Ok(Self::Recovered),
            1 => Ok(Self::Recovering),
            _ => Err(ReplayError::InvalidField {
                field: "leader_recovery_state",
            }),
        }
    }
}

impl PartitionImage {
    /// The log directory of the replica on `node`.
    pub fn directory(&self, node: NodeId) -> Option<Uuid> {
        let index = self.replicas.iter().position(|replica| *replica == node)?;
        self.directories.get(index).copied()
    }

    /// Whether somebody leads it.
    pub fn has_leader(&self) -> bool {
        self.leader != NodeId::NONE
    }

    /// Whether the first of its replicas leads it.
    pub fn has_preferred_leader(&self) -> bool {
        self.replicas.first() == Some(&self.leader)
    }

    /// Whether replicas are being added or removed.
    pub const fn is_reassigning(&self) -> bool {
        !self.adding_replicas.is_empty() || !self.removing_replicas.is_empty()
    }

    pub(crate) fn from_record(record: &PartitionRecord) -> Result<Self, ReplayError> {
        let directories = match &record.directories {
            none if none.is_empty() => vec![directory::MIGRATING; record.replicas.len()],
            directories => directories.clone(),
        };
        let partition = Self {
            replicas: record.replicas.clone(),
            directories,
            isr: record.isr.clone(),
            eligible_leader_replicas: record.eligible_leader_replicas.clone().unwrap_or_default(),
            last_known_elr: record.last_known_elr.clone().unwrap_or_default(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            leader: record.leader,
            leader_recovery_state: LeaderRecoveryState::from_value(record.leader_recovery_state)?,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
        };
        partition.with_matching_directories()
    }

    /// The partition after `record`: the partition epoch goes up always, the leader epoch whenever the record names a
    /// leader, be it the same one.
    pub(crate) fn changed(&self, record: &PartitionChangeRecord) -> Result<Self, ReplayError> {
        let mut next = self.clone();
        next.partition_epoch += 1;
        if record.leader != NO_LEADER_CHANGE {
            next.leader = record.leader;
            next.leader_epoch = self.leader_epoch.next();
        }
        if record.leader_recovery_state != -1 {
            next.leader_recovery_state =
                LeaderRecoveryState::from_value(record.leader_recovery_state)?;
        }
        if let Some(replicas) = &record.replicas {
            next.replicas.clone_from(replicas);
            let kept = |node: &NodeId| self.directory(*node).unwrap_or(directory::UNASSIGNED);
            next.directories = replicas.iter().map(kept).collect();
        }
        let lists = [
            (&mut next.isr, &record.isr),
            (&mut next.removing_replicas, &record.removing_replicas),
            (&mut next.adding_replicas, &record.adding_replicas),
            (
                &mut next.eligible_leader_replicas,
                &record.eligible_leader_replicas,
            ),
            (&mut next.last_known_elr, &record.last_known_elr),
        ];
        for (list, change) in lists {
            if let Some(change) = change {
                list.clone_from(change);
            }
        }
        if let Some(directories) = &record.directories {
            next.directories.clone_from(directories);
        }
        next.with_matching_directories()
    }

    /// The record that creates the partition as it is now. Fields that metadata.version cannot carry yet are empty, since
    /// nothing could fill them.
    pub(crate) fn record(&self, topic_id: TopicId, index: PartitionIndex) -> PartitionRecord {
        let some = |list: &Vec<NodeId>| (!list.is_empty()).then(|| list.clone());
        let unknown = self
            .directories
            .iter()
            .all(|id| *id == directory::MIGRATING);
        PartitionRecord {
            partition_id: index,
            topic_id,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            removing_replicas: self.removing_replicas.clone(),
            adding_replicas: self.adding_replicas.clone(),
            leader: self.leader,
            leader_recovery_state: self.leader_recovery_state as i8,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            directories: if unknown {
                Vec::new()
            } else {
                self.directories.clone()
            },
            eligible_leader_replicas: some(&self.eligible_leader_replicas),
            last_known_elr: some(&self.last_known_elr),
        }
    }

    fn with_matching_directories(self) -> Result<Self, ReplayError> {
        if self.directories.len() == self.replicas.len() {
            Ok(self)
        } else {
            Err(ReplayError::InvalidField {
                field: "directories",
            })
        }
    }
}
