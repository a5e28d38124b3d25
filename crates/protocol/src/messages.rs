//! The messages, one module for each API with its request and response.
//!
//! Structs and fields have the names of Kafka's schemas; every struct has Kafka's defaults, except
//! that what may be null is null by default. The documentation of a message says what its versions
//! have brought, and by which Kafka improvement proposal (KIP). Versions that it passes over bring
//! flexible encoding (KIP-482), an error code, or the promise that a client which is over its quota
//! is answered first and held back then (KIP-219).
//!
//! One struct serves all versions. What a version has no place for is left out if Kafka calls the
//! field ignorable, and is an error otherwise; what it did not bring has the default.
//!
//! ```
//! use tidelog_protocol::Message;
//! use tidelog_protocol::messages::end_txn::{EndTxnRequest, EndTxnResponse};
//! use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
//! use tidelog_types::{ProducerEpoch, ProducerId};
//!
//! assert_eq!(EndTxnRequest::VERSIONS.to_string(), "0-5");
//! let request = EndTxnRequest {
//!     transactional_id: "transfers".into(),
//!     producer_id: ProducerId::new(4000),
//!     producer_epoch: ProducerEpoch::new(1),
//!     committed: true,
//! };
//! let bytes = request.to_bytes(5)?;
//! assert_eq!(EndTxnRequest::from_bytes(bytes, 5)?, request);
//!
//! // Version 5 brought the producer id of the next transaction, which may be left out before.
//! let response = EndTxnResponse {
//!     producer_id: ProducerId::new(4000),
//!     ..Default::default()
//! };
//! let read = EndTxnResponse::from_bytes(response.to_bytes(4)?, 4)?;
//! assert_eq!(read.producer_id, ProducerId::NONE);
//!
//! // A static member must not turn into an ordinary one on the way.
//! let heartbeat = HeartbeatRequest {
//!     group_instance_id: Some("till-3".into()),
//!     ..Default::default()
//! };
//! heartbeat.to_bytes(2).unwrap_err();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// What messages are made of; the modules take it from here.
use bytes::Bytes;
use tidelog_types::{
    ErrorCode, GroupId, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, Str, Timestamp,
    TopicName, TransactionalId, Uuid,
};

use crate::{ApiKey, Payload, Wire, message};

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod add_raft_voter;
pub mod allocate_producer_ids;
pub mod alter_client_quotas;
pub mod alter_configs;
pub mod alter_partition;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod alter_share_group_offsets;
pub mod alter_user_scram_credentials;
pub mod api_versions;
pub mod assign_replicas_to_dirs;
pub mod begin_quorum_epoch;
pub mod broker_heartbeat;
pub mod broker_registration;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod controller_registration;
pub mod create_acls;
pub mod create_delegation_token;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_share_group_offsets;
pub mod delete_share_group_state;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_delegation_token;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_share_group_offsets;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod describe_user_scram_credentials;
pub mod elect_leaders;
pub mod end_quorum_epoch;
pub mod end_txn;
pub mod envelope;
pub mod expire_delegation_token;
pub mod fetch;
pub mod fetch_snapshot;
pub mod find_coordinator;
pub mod get_telemetry_subscriptions;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod initialize_share_group_state;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod push_telemetry;
pub mod read_share_group_state;
pub mod read_share_group_state_summary;
pub mod remove_raft_voter;
pub mod renew_delegation_token;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod share_acknowledge;
pub mod share_fetch;
pub mod share_group_describe;
pub mod share_group_heartbeat;
pub mod streams_group_describe;
pub mod streams_group_heartbeat;
pub mod sync_group;
pub mod txn_offset_commit;
pub mod unregister_broker;
pub mod update_features;
pub mod update_raft_voter;
pub mod vote;
pub mod write_share_group_state;
pub mod write_txn_markers;
