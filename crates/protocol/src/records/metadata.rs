//! Records of the metadata log (`__cluster_metadata`).
//!
//! ```text
//! frame version, 1 | type of the record | version of the record | fields
//! (the first three are uvarints)
//! ```

use bytes::Bytes;
use tidelog_types::{LeaderEpoch, NodeId, ProducerId, Str, Timestamp, TopicName, Uuid};

use crate::message;
pub use crate::messages::broker_registration::{
    Feature as BrokerFeature, Listener as BrokerEndpoint,
};
pub use crate::messages::describe_client_quotas::EntityData;

framed_records! {
    /// A record of the metadata log.
    ///
    /// Whether a record may be written, and in which version, is what `metadata.version` is for.
    MetadataRecord;
    RegisterBroker(RegisterBrokerRecord) = 0;
    UnregisterBroker(UnregisterBrokerRecord) = 1;
    Topic(TopicRecord) = 2;
    Partition(PartitionRecord) = 3;
    Config(ConfigRecord) = 4;
    PartitionChange(PartitionChangeRecord) = 5;
    FenceBroker(FenceBrokerRecord) = 7;
    UnfenceBroker(UnfenceBrokerRecord) = 8;
    RemoveTopic(RemoveTopicRecord) = 9;
    DelegationToken(DelegationTokenRecord) = 10;
    UserScramCredential(UserScramCredentialRecord) = 11;
    FeatureLevel(FeatureLevelRecord) = 12;
    ClientQuota(ClientQuotaRecord) = 14;
    ProducerIds(ProducerIdsRecord) = 15;
    BrokerRegistrationChange(BrokerRegistrationChangeRecord) = 17;
    AccessControlEntry(AccessControlEntryRecord) = 18;
    RemoveAccessControlEntry(RemoveAccessControlEntryRecord) = 19;
    NoOp(NoOpRecord) = 20;
    ZkMigrationState(ZkMigrationStateRecord) = 21;
    RemoveUserScramCredential(RemoveUserScramCredentialRecord) = 22;
    BeginTransaction(BeginTransactionRecord) = 23;
    EndTransaction(EndTransactionRecord) = 24;
    AbortTransaction(AbortTransactionRecord) = 25;
    RemoveDelegationToken(RemoveDelegationTokenRecord) = 26;
    RegisterController(RegisterControllerRecord) = 27;
    ClearElr(ClearElrRecord) = 28;
}

/// Registers a broker.
///
/// Version 1 adds the orderly shutdown, 2 migration from ZooKeeper, 3 log directories (KIP-858), 4
/// cordoned ones (KIP-1066).
#[message(versions = 0..=4, flexible = 0..)]
pub struct RegisterBrokerRecord {
    /// The broker.
    pub broker_id: NodeId,
    /// Whether the broker is migrating from ZooKeeper; always false now.
    #[wire(versions = 2..)]
    pub is_migrating_zk_broker: bool,
    /// The id of this start of the process.
    pub incarnation_id: Uuid,
    /// The epoch of the broker's registration.
    pub broker_epoch: i64,
    /// Where the node listens.
    pub end_points: Vec<BrokerEndpoint>,
    /// The features that the node supports.
    pub features: Vec<BrokerFeature>,
    /// The rack (`broker.rack`), or null.
    pub rack: Option<Str>,
    /// Whether the broker is fenced.
    #[wire(default = true)]
    pub fenced: bool,
    /// Whether the broker is shutting down in order.
    #[wire(versions = 1..)]
    pub in_controlled_shutdown: bool,
    /// The log directories.
    #[wire(versions = 3.., tag = 0)]
    pub log_dirs: Vec<Uuid>,
    /// The log directories that take no new partitions (KIP-1066), or null.
    #[wire(versions = 4.., tag = 1)]
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

/// Removes a broker.
#[message(versions = 0..=0, flexible = 0..)]
pub struct UnregisterBrokerRecord {
    /// The broker.
    pub broker_id: NodeId,
    /// The epoch of the broker's registration.
    pub broker_epoch: i64,
}

/// Creates a topic; its partitions follow.
#[message(versions = 0..=0, flexible = 0..)]
pub struct TopicRecord {
    /// The topic.
    pub name: TopicName,
    /// The id of the topic (KIP-516).
    pub topic_id: Uuid,
}

/// Creates a partition.
///
/// Version 1 adds log directories (KIP-858), 2 eligible leader replicas (KIP-966).
#[message(versions = 0..=2, flexible = 0..)]
pub struct PartitionRecord {
    /// The partition.
    #[wire(default = -1)]
    pub partition_id: i32,
    /// The id of the topic (KIP-516).
    pub topic_id: Uuid,
    /// The replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The replicas in sync.
    pub isr: Vec<NodeId>,
    /// The replicas that a reassignment removes.
    pub removing_replicas: Vec<NodeId>,
    /// The replicas that a reassignment adds.
    pub adding_replicas: Vec<NodeId>,
    /// The leader, or -1 for none.
    #[wire(default = NodeId::NONE)]
    pub leader: NodeId,
    /// 1 while an uncleanly elected leader recovers, else 0 (KIP-704).
    #[wire(tag = 0)]
    pub leader_recovery_state: i8,
    /// The epoch of the leader.
    #[wire(default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
    /// How often the partition's registration has changed.
    #[wire(default = -1)]
    pub partition_epoch: i32,
    /// The log directory of each replica, in the order of the replicas (KIP-858).
    #[wire(versions = 1..)]
    pub directories: Vec<Uuid>,
    /// Replicas out of sync that may lead nevertheless (KIP-966).
    #[wire(versions = 2.., tag = 1)]
    pub eligible_leader_replicas: Option<Vec<NodeId>>,
    /// The last leaders that could be elected uncleanly (KIP-966).
    #[wire(versions = 2.., tag = 2)]
    pub last_known_elr: Option<Vec<NodeId>>,
}

/// Sets or removes a dynamic config.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ConfigRecord {
    /// The type of the resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// The name of the resource; an empty one stands for all brokers.
    pub resource_name: Str,
    /// The name of the config.
    pub name: Str,
    /// The value, or null to go back to the default.
    #[wire(secret)]
    pub value: Option<Str>,
}

/// Changes what is not left at its default of a partition.
///
/// Version 1 adds log directories (KIP-858), 2 eligible leader replicas (KIP-966).
#[message(versions = 0..=2, flexible = 0..)]
pub struct PartitionChangeRecord {
    /// The partition.
    #[wire(default = -1)]
    pub partition_id: i32,
    /// The id of the topic (KIP-516).
    pub topic_id: Uuid,
    /// The replicas in sync, or null for no change.
    #[wire(tag = 0)]
    pub isr: Option<Vec<NodeId>>,
    /// The leader, -1 for none, -2 for no change.
    #[wire(tag = 1, default = NodeId::new(-2))]
    pub leader: NodeId,
    /// The replicas, or null for no change.
    #[wire(tag = 2)]
    pub replicas: Option<Vec<NodeId>>,
    /// The replicas that a reassignment removes, or null for no change.
    #[wire(tag = 3)]
    pub removing_replicas: Option<Vec<NodeId>>,
    /// The replicas that a reassignment adds, or null for no change.
    #[wire(tag = 4)]
    pub adding_replicas: Option<Vec<NodeId>>,
    /// 1 while an uncleanly elected leader recovers, 0 when it has, -1 for no change (KIP-704).
    #[wire(tag = 5, default = -1)]
    pub leader_recovery_state: i8,
    /// The log directory of each replica (KIP-858), or null for no change.
    #[wire(versions = 1.., tag = 8)]
    pub directories: Option<Vec<Uuid>>,
    /// Replicas out of sync that may lead nevertheless (KIP-966), or null for no change.
    #[wire(versions = 2.., tag = 6)]
    pub eligible_leader_replicas: Option<Vec<NodeId>>,
    /// The last leaders that could be elected uncleanly (KIP-966), or null for no change.
    #[wire(versions = 2.., tag = 7)]
    pub last_known_elr: Option<Vec<NodeId>>,
}

/// Fences a broker; replaced by `BrokerRegistrationChangeRecord`, but still in old logs.
#[message(versions = 0..=0, flexible = 0..)]
pub struct FenceBrokerRecord {
    /// The broker.
    pub id: NodeId,
    /// The epoch of the broker.
    pub epoch: i64,
}

/// Unfences a broker; replaced by `BrokerRegistrationChangeRecord`, but still in old logs.
#[message(versions = 0..=0, flexible = 0..)]
pub struct UnfenceBrokerRecord {
    /// The broker.
    pub id: NodeId,
    /// The epoch of the broker.
    pub epoch: i64,
}

/// Deletes a topic.
#[message(versions = 0..=0, flexible = 0..)]
pub struct RemoveTopicRecord {
    /// The id of the topic (KIP-516).
    pub topic_id: Uuid,
}

/// Adds or renews a delegation token.
#[message(versions = 0..=0, flexible = 0..)]
pub struct DelegationTokenRecord {
    /// Whom the token stands for.
    pub owner: Str,
    /// Who asked for the token.
    pub requester: Str,
    /// Who may renew the token.
    pub renewers: Vec<Str>,
    /// When the token was issued.
    pub issue_timestamp: Timestamp,
    /// When the token can no longer be renewed.
    pub max_timestamp: Timestamp,
    /// When the token expires.
    pub expiration_timestamp: Timestamp,
    /// The id of the token.
    pub token_id: Str,
}

/// Sets a SCRAM credential (KIP-554).
#[message(versions = 0..=0, flexible = 0..)]
pub struct UserScramCredentialRecord {
    /// The user.
    pub name: Str,
    /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
    pub mechanism: i8,
    /// The salt.
    #[wire(secret)]
    pub salt: Bytes,
    /// The hash of the client's key.
    #[wire(secret)]
    pub stored_key: Bytes,
    /// The server's key.
    #[wire(secret)]
    pub server_key: Bytes,
    /// The number of rounds.
    pub iterations: i32,
}

/// Finalizes a feature at a level (KIP-584).
#[message(versions = 0..=0, flexible = 0..)]
pub struct FeatureLevelRecord {
    /// The feature, such as `metadata.version`.
    pub name: Str,
    /// The level in use; 0 removes the feature.
    pub feature_level: i16,
}

/// Sets or removes a quota.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ClientQuotaRecord {
    /// Whom the quota is for.
    pub entity: Vec<EntityData>,
    /// The quota, such as `producer_byte_rate`.
    pub key: Str,
    /// The limit.
    pub value: f64,
    /// Whether the quota is removed.
    pub remove: bool,
}

/// Hands out a block of producer ids (KIP-730).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ProducerIdsRecord {
    /// The broker that got the block.
    pub broker_id: NodeId,
    /// The epoch of the broker's registration.
    #[wire(default = -1)]
    pub broker_epoch: i64,
    /// The first producer id after the block.
    pub next_producer_id: ProducerId,
}

/// Changes parts of a broker's registration.
///
/// Version 1 adds the orderly shutdown, 2 log directories (KIP-858), 3 cordoned ones (KIP-1066).
#[message(versions = 0..=3, flexible = 0..)]
pub struct BrokerRegistrationChangeRecord {
    /// The broker.
    pub broker_id: NodeId,
    /// The epoch of the broker's registration.
    pub broker_epoch: i64,
    /// -1 unfenced now, 0 no change, 1 fenced now.
    #[wire(tag = 0)]
    pub fenced: i8,
    /// 0 no change, 1 shutting down in order.
    #[wire(versions = 1.., tag = 1)]
    pub in_controlled_shutdown: i8,
    /// The log directories; empty for no change.
    #[wire(versions = 2.., tag = 2)]
    pub log_dirs: Vec<Uuid>,
    /// The log directories that take no new partitions (KIP-1066), or null.
    #[wire(versions = 3.., tag = 3)]
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

/// Adds an entry to the access control list.
#[message(versions = 0..=0, flexible = 0..)]
pub struct AccessControlEntryRecord {
    /// The id of the entry.
    pub id: Uuid,
    /// The type of the resource.
    pub resource_type: i8,
    /// The name of the resource.
    pub resource_name: Str,
    /// How the name matches: 3 exactly, 4 as a prefix.
    pub pattern_type: i8,
    /// Who, as `User:name`.
    pub principal: Str,
    /// From where; `*` for everywhere.
    pub host: Str,
    /// What.
    pub operation: i8,
    /// 2 to deny, 3 to allow.
    pub permission_type: i8,
}

/// Removes an entry from the access control list.
#[message(versions = 0..=0, flexible = 0..)]
pub struct RemoveAccessControlEntryRecord {
    /// The id of the entry.
    pub id: Uuid,
}

/// Says nothing; it moves the high watermark of an idle quorum (KIP-835).
#[message(versions = 0..=0, flexible = 0..)]
pub struct NoOpRecord {}

/// The state of a migration from ZooKeeper; only in logs of former ZooKeeper clusters.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ZkMigrationStateRecord {
    /// The state of a migration from ZooKeeper; 0 for none.
    pub zk_migration_state: i8,
}

/// Removes a SCRAM credential.
#[message(versions = 0..=0, flexible = 0..)]
pub struct RemoveUserScramCredentialRecord {
    /// The user.
    pub name: Str,
    /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
    pub mechanism: i8,
}

/// Holds the following records back until the transaction ends (KIP-868).
#[message(versions = 0..=0, flexible = 0..)]
pub struct BeginTransactionRecord {
    /// What the transaction is for, for people.
    #[wire(tag = 0)]
    pub name: Option<Str>,
}

/// Lets the records since the last `BeginTransactionRecord` take effect (KIP-868).
#[message(versions = 0..=0, flexible = 0..)]
pub struct EndTransactionRecord {}

/// Drops the records since the last `BeginTransactionRecord` (KIP-868).
#[message(versions = 0..=0, flexible = 0..)]
pub struct AbortTransactionRecord {
    /// Why, for people.
    #[wire(tag = 0)]
    pub reason: Option<Str>,
}

/// Removes a delegation token.
#[message(versions = 0..=0, flexible = 0..)]
pub struct RemoveDelegationTokenRecord {
    /// The id of the token.
    pub token_id: Str,
}

/// Registers a controller (KIP-919).
#[message(versions = 0..=0, flexible = 0..)]
pub struct RegisterControllerRecord {
    /// The controller.
    pub controller_id: NodeId,
    /// The id of this start of the process.
    pub incarnation_id: Uuid,
    /// Whether a migration from ZooKeeper may be made; always false.
    pub zk_migration_ready: bool,
    /// Where the node listens.
    pub end_points: Vec<BrokerEndpoint>,
    /// The features that the node supports.
    pub features: Vec<BrokerFeature>,
}

/// Forgets the eligible leader replicas of a topic, or of all (KIP-966).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ClearElrRecord {
    /// The topic, or empty for all.
    pub topic_name: TopicName,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DecodeErrorKind;

    #[test]
    fn the_frame_is_kafkas() {
        let record = FeatureLevelRecord {
            name: "metadata.version".into(),
            feature_level: 30,
        };
        let bytes = MetadataRecord::from(record.clone()).encode(0).unwrap();
        assert_eq!(bytes, &b"\x01\x0c\x00\x11metadata.version\x00\x1e\x00"[..]);
        assert_eq!(MetadataRecord::decode(&bytes), Ok(record.into()));
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        let decode = |bytes: &'static [u8]| {
            let error = MetadataRecord::decode(&Bytes::from_static(bytes)).unwrap_err();
            (error.field(), error.kind())
        };
        let unsupported = |version| DecodeErrorKind::UnsupportedVersion { version };
        assert_eq!(
            decode(&[0, 20, 0, 0]),
            (("MetadataRecord", "frame version"), unsupported(0))
        );
        assert_eq!(
            decode(&[1, 20, 9, 0]),
            (("NoOpRecord", "version"), unsupported(9))
        );
        assert_eq!(
            decode(&[1, 99, 0, 0]),
            (
                ("MetadataRecord", "type"),
                DecodeErrorKind::UnknownKey { key: 99 }
            )
        );
        assert_eq!(
            decode(&[1, 20, 0, 0, 7]),
            (
                ("MetadataRecord", "end"),
                DecodeErrorKind::TrailingBytes { count: 1 }
            )
        );
    }

    #[test]
    fn a_record_cannot_be_written_in_a_version_that_would_lose_something() {
        let directories = vec![Default::default()];
        let record = MetadataRecord::from(PartitionRecord {
            directories,
            ..Default::default()
        });
        assert_eq!(
            record.encode(0).unwrap_err().field(),
            ("PartitionRecord", "directories")
        );
        record.encode(1).unwrap();
    }
}
