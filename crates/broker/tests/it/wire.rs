//! Every API in every version that is advertised, and what frames and headers look like.

#![expect(
    clippy::print_stdout,
    reason = "the output of a test that failed says how far it came"
)]

use bytes::Bytes;
use tidelog_protocol::messages::add_raft_voter::AddRaftVoterRequest;
use tidelog_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig,
};
use tidelog_protocol::messages::alter_replica_log_dirs::AlterReplicaLogDirsRequest;
use tidelog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use tidelog_protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use tidelog_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use tidelog_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use tidelog_protocol::messages::delete_groups::DeleteGroupsRequest;
use tidelog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use tidelog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidelog_protocol::messages::describe_cluster::DescribeClusterRequest;
use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use tidelog_protocol::messages::describe_groups::DescribeGroupsRequest;
use tidelog_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use tidelog_protocol::messages::describe_quorum::{self, DescribeQuorumRequest};
use tidelog_protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, TopicRequest,
};
use tidelog_protocol::messages::find_coordinator::FindCoordinatorRequest;
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::incremental_alter_configs as incremental;
use tidelog_protocol::messages::init_producer_id::InitProducerIdRequest;
use tidelog_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use tidelog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use tidelog_protocol::messages::list_groups::ListGroupsRequest;
use tidelog_protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use tidelog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use tidelog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidelog_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use tidelog_protocol::messages::remove_raft_voter::RemoveRaftVoterRequest;
use tidelog_protocol::messages::sync_group::SyncGroupRequest;
use tidelog_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use tidelog_protocol::messages::update_features::UpdateFeaturesRequest;
use tidelog_protocol::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};
use tidelog_protocol::messages::{alter_partition_reassignments as reassignments, elect_leaders};
use tidelog_protocol::{APIS, Api, ApiKey, Request};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, Uuid};

use crate::client::Client;
use crate::ops::{ALL, Topic, batch, fetch_request, list_offsets_request, produce_request};
use crate::server::Server;

/// What no schema knows: a tagged field of the number 99, with a text that can be looked for.
const UNKNOWN_TAG: &[u8] = b"\x63\x0dnot to be read";

/// A plausible request of an API, which a broker with this topic can answer.
pub(crate) fn request(api: &Api, version: i16, topic: &Topic) -> Request {
    let group = match api.key {
        // A group of their own for each, and for the others one that has offsets and a member.
        ApiKey::JoinGroup => format!("join-{}-{version}", topic.name),
        ApiKey::DeleteGroups => format!("delete-{version}"),
        _ => "wire".to_owned(),
    };
    let new_topic = format!("new-{}-{version}", api.name);
    match api.key {
        ApiKey::Produce => produce_request(topic, ALL, &[(0, batch(&["a"]))]).into(),
        ApiKey::Fetch => fetch_request(topic, &[(0, 0)]).into(),
        ApiKey::ListOffsets => list_offsets_request(topic, 0, -1).into(),
        ApiKey::Metadata => MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(topic.name.clone()),
                ..Default::default()
            }]),
            ..Default::default()
        }
        .into(),
        ApiKey::OffsetCommit => OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: topic.name.clone(),
                topic_id: topic.id,
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: Offset::new(1),
                    committed_metadata: Some("".into()),
                    ..Default::default()
                }],
            }],
            ..Default::default()
        }
        .into(),
        ApiKey::OffsetFetch if version < 8 => OffsetFetchRequest {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: topic.name.clone(),
                partition_indexes: vec![0],
            }]),
            ..Default::default()
        }
        .into(),
        ApiKey::OffsetFetch => OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.into(),
                member_epoch: -1,
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: topic.name.clone(),
                    topic_id: topic.id,
                    partition_indexes: vec![0],
                }]),
                ..Default::default()
            }],
            ..Default::default()
        }
        .into(),
        ApiKey::FindCoordinator if version < 4 => FindCoordinatorRequest {
            key: group.into(),
            ..Default::default()
        }
        .into(),
        ApiKey::FindCoordinator => FindCoordinatorRequest {
            coordinator_keys: vec![group.into()],
            ..Default::default()
        }
        .into(),
        ApiKey::JoinGroup => JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: Bytes::new(),
            }],
            ..Default::default()
        }
        .into(),
        ApiKey::Heartbeat => HeartbeatRequest {
            group_id: group.into(),
            member_id: "m".into(),
            ..Default::default()
        }
        .into(),
        ApiKey::LeaveGroup if version < 3 => LeaveGroupRequest {
            group_id: group.into(),
            member_id: "m".into(),
            ..Default::default()
        }
        .into(),
        ApiKey::LeaveGroup => LeaveGroupRequest {
            group_id: group.into(),
            members: vec![MemberIdentity {
                member_id: "m".into(),
                ..Default::default()
            }],
            ..Default::default()
        }
        .into(),
        ApiKey::SyncGroup => SyncGroupRequest {
            group_id: group.into(),
            member_id: "m".into(),
            ..Default::default()
        }
        .into(),
        ApiKey::DescribeGroups => DescribeGroupsRequest {
            groups: vec![group.into(), "nobody".into()],
            ..Default::default()
        }
        .into(),
        ApiKey::ListGroups => ListGroupsRequest::default().into(),
        ApiKey::ApiVersions => ApiVersionsRequest {
            client_software_name: "it".into(),
            client_software_version: "1.0".into(),
        }
        .into(),
        ApiKey::CreateTopics => CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: new_topic.into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            }],
            ..Default::default()
        }
        .into(),
        ApiKey::DeleteTopics if version < 6 => DeleteTopicsRequest {
            topic_names: vec![new_topic.into()],
            ..Default::default()
        }
        .into(),
        ApiKey::DeleteTopics => DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(new_topic.into()),
                ..Default::default()
            }],
            ..Default::default()
        }
        .into(),
        ApiKey::DeleteRecords => DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic.name.clone(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: 0,
                    offset: Offset::ZERO,
                }],
            }],
            ..Default::default()
        }
        .into(),
        ApiKey::InitProducerId => InitProducerIdRequest {
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            ..Default::default()
        }
        .into(),
        ApiKey::OffsetForLeaderEpoch => OffsetForLeaderEpochRequest {
            topics: vec![OffsetForLeaderTopic {
                topic: topic.name.clone(),
                partitions: vec![OffsetForLeaderPartition {
                    partition: 0,
                    leader_epoch: LeaderEpoch::new(0),
                    ..Default::default()
                }],
            }],
            replica_id: NodeId::NONE,
        }
        .into(),
        ApiKey::DescribeConfigs => DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: 2,
                resource_name: topic.name.as_str().into(),
                configuration_keys: None,
            }],
            include_synonyms: true,
            include_documentation: version >= 3,
        }
        .into(),
        ApiKey::AlterConfigs => AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 2,
                resource_name: topic.name.as_str().into(),
                configs: vec![AlterableConfig {
                    name: "retention.ms".into(),
                    value: Some("100000".into()),
                }],
            }],
            validate_only: false,
        }
        .into(),
        ApiKey::IncrementalAlterConfigs => incremental::IncrementalAlterConfigsRequest {
            resources: vec![incremental::AlterConfigsResource {
                resource_type: 2,
                resource_name: topic.name.as_str().into(),
                configs: vec![incremental::AlterableConfig {
                    name: "retention.ms".into(),
                    config_operation: 0,
                    value: Some("100000".into()),
                }],
            }],
            validate_only: false,
        }
        .into(),
        ApiKey::CreatePartitions => CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: topic.name.clone(),
                count: 2,
                assignments: None,
            }],
            validate_only: true,
            ..Default::default()
        }
        .into(),
        ApiKey::DeleteGroups => DeleteGroupsRequest {
            groups_names: vec![group.into()],
        }
        .into(),
        ApiKey::ElectLeaders => elect_leaders::ElectLeadersRequest {
            topic_partitions: Some(vec![elect_leaders::TopicPartitions {
                topic: topic.name.clone(),
                partitions: vec![0],
            }]),
            ..Default::default()
        }
        .into(),
        ApiKey::AlterPartitionReassignments => reassignments::AlterPartitionReassignmentsRequest {
            topics: vec![reassignments::ReassignableTopic {
                name: topic.name.clone(),
                partitions: vec![reassignments::ReassignablePartition {
                    partition_index: 0,
                    replicas: None,
                }],
            }],
            ..Default::default()
        }
        .into(),
        ApiKey::ListPartitionReassignments => ListPartitionReassignmentsRequest::default().into(),
        ApiKey::OffsetDelete => OffsetDeleteRequest {
            group_id: group.into(),
            topics: vec![OffsetDeleteRequestTopic {
                name: topic.name.clone(),
                partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
            }],
        }
        .into(),
        ApiKey::WriteTxnMarkers => WriteTxnMarkersRequest {
            markers: vec![WritableTxnMarker {
                producer_id: ProducerId::new(77),
                topics: vec![WritableTxnMarkerTopic {
                    name: topic.name.clone(),
                    partition_indexes: vec![0],
                }],
                ..Default::default()
            }],
        }
        .into(),
        ApiKey::DescribeCluster => DescribeClusterRequest::default().into(),
        ApiKey::DescribeTopicPartitions => DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest {
                name: topic.name.clone(),
            }],
            response_partition_limit: 100,
            cursor: None,
        }
        .into(),
        ApiKey::ConsumerGroupHeartbeat => ConsumerGroupHeartbeatRequest {
            group_id: "consumers".into(),
            member_id: "member".into(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![topic.name.clone()]),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        }
        .into(),
        ApiKey::ConsumerGroupDescribe => ConsumerGroupDescribeRequest {
            group_ids: vec![group.into()],
            include_authorized_operations: true,
        }
        .into(),
        ApiKey::AlterReplicaLogDirs => AlterReplicaLogDirsRequest::default().into(),
        ApiKey::DescribeLogDirs => DescribeLogDirsRequest::default().into(),
        ApiKey::DescribeQuorum => DescribeQuorumRequest {
            topics: vec![describe_quorum::TopicData {
                topic_name: "__cluster_metadata".into(),
                partitions: vec![describe_quorum::PartitionData { partition_index: 0 }],
            }],
        }
        .into(),
        ApiKey::UpdateFeatures => UpdateFeaturesRequest {
            timeout_ms: 1000,
            ..Default::default()
        }
        .into(),
        ApiKey::UnregisterBroker => UnregisterBrokerRequest {
            broker_id: NodeId::new(77),
        }
        .into(),
        ApiKey::AddRaftVoter => AddRaftVoterRequest {
            timeout_ms: 1000,
            voter_id: NodeId::new(77),
            ..Default::default()
        }
        .into(),
        ApiKey::RemoveRaftVoter => RemoveRaftVoterRequest {
            voter_id: NodeId::new(77),
            ..Default::default()
        }
        .into(),
        other => panic!("{other} is advertised and has no request here"),
    }
}

/// Puts an unknown tagged field behind a request, which ends with the number of its own: none.
fn with_unknown_tag(mut frame: Vec<u8>) -> Vec<u8> {
    assert_eq!(frame.pop(), Some(0));
    frame.push(1);
    frame.extend_from_slice(UNKNOWN_TAG);
    frame
}

#[tokio::test]
async fn corner_4_every_version_that_is_advertised_is_understood_and_answered() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("wire", 1, &[]).await;
    client.put(&topic, 0, &["a"]).await;
    let unknown = Topic {
        name: "unknown".into(),
        id: Uuid::from_bytes([1; 16]),
    };
    crate::groups::find_coordinator(&mut client, "wire").await;
    let committed = crate::groups::commit(&mut client, "wire", &topic, (0, 1, 0)).await;
    assert_eq!(committed, ErrorCode::NONE);
    crate::groups::join(&mut client, "wire").await;
    let advertised: ApiVersionsResponse = client.call(0, &ApiVersionsRequest::default()).await;
    for advertised in advertised.api_keys {
        let api = match advertised.api_key.api() {
            Some(api) => api,
            None if server.broker.is_none() => continue,
            None => panic!("{} is advertised", advertised.api_key),
        };
        assert_eq!(advertised.max_version, api.supported.max, "{}", api.name);
        // Produce is advertised from a version on that nobody has to understand.
        for version in api.supported.min..=advertised.max_version {
            println!("{} version {version}", api.name);
            for topic in [&topic, &unknown] {
                let frame = client.encode_any(version, &request(api, version, topic));
                client.send_frame(&frame).await;
                client.receive_any(api.key, version).await;
            }
            if api.flexible.contains(version) {
                let frame = client.encode_any(version, &request(api, version, &topic));
                client.send_frame(&with_unknown_tag(frame)).await;
                let (_, answer) = client.receive_any(api.key, version).await;
                let text = &UNKNOWN_TAG[2..];
                let echoed = answer.windows(text.len()).any(|bytes| bytes == text);
                assert!(!echoed, "{} version {version}", api.name);
            }
        }
    }
}

#[tokio::test]
async fn corner_1_a_version_of_the_future_is_told_what_there_is() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // Version 127 of a request that says no more than its header, in the shape that all headers will have.
    let header = b"\x00\x12\x00\x7f\x00\x00\x00\x2a\x00\x02it\x00";
    client.send_frame(header).await;
    let answer: (i32, ApiVersionsResponse) = client.receive_with_id(0).await;
    assert_eq!(answer.0, 42);
    assert_eq!(answer.1.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let [own] = &answer.1.api_keys[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(own.api_key, ApiKey::ApiVersions);
    assert_eq!((own.min_version, own.max_version), (0, 4));
    // The connection lives.
    let request = ApiVersionsRequest {
        client_software_name: "it".into(),
        client_software_version: "1".into(),
    };
    let response = client.call(3, &request).await;
    assert_eq!(response.error_code, ErrorCode::NONE);
}

#[tokio::test]
async fn corner_2_the_header_of_an_api_versions_response_is_never_flexible() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for version in 0..=4 {
        let request = ApiVersionsRequest {
            client_software_name: "it".into(),
            client_software_version: "1".into(),
        };
        client.send(version, &request).await;
        let bytes = client.frame().await;
        // Behind the number of the request comes the error at once, and then the list.
        assert_eq!(bytes[4..6], [0, 0], "version {version}");
    }
}

#[tokio::test]
async fn corner_3_the_lowest_versions_are_what_librdkafka_looks_for() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let response = client.call(0, &ApiVersionsRequest::default()).await;
    for key in [
        ApiKey::Produce,
        ApiKey::FindCoordinator,
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::Heartbeat,
        ApiKey::LeaveGroup,
    ] {
        let api = response
            .api_keys
            .iter()
            .find(|api| api.api_key == key)
            .unwrap();
        assert_eq!(api.min_version, 0, "{key}");
    }
    let keys: Vec<_> = response.api_keys.iter().map(|api| api.api_key).collect();
    assert!(keys.is_sorted());
}

#[tokio::test]
async fn a_client_that_does_not_say_what_it_is_is_refused_in_a_version_where_it_must() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (name, version, expected) in [
        ("", 3, ErrorCode::INVALID_REQUEST),
        ("-x", 3, ErrorCode::INVALID_REQUEST),
        ("a b", 4, ErrorCode::INVALID_REQUEST),
        ("a-b.c", 4, ErrorCode::NONE),
    ] {
        let request = ApiVersionsRequest {
            client_software_name: name.into(),
            client_software_version: "1".into(),
        };
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, expected, "{name:?}");
    }
}

/// What is sent, and the client that sends it.
async fn closes(server: &Server, what: &str, bytes: &[u8]) {
    let mut client: Client = server.client().await;
    client.send_bytes(bytes).await;
    println!("{what}");
    client.closed().await;
}

#[tokio::test]
async fn what_is_no_request_closes_its_connection_and_no_other() {
    let server = Server::with(&[("socket.request.max.bytes", "100000")]).await;
    let mut other = server.client().await;
    let topic = other.create_topic("goes-on", 1, &[]).await;
    let framed =
        |bytes: &[u8]| [&i32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let cases: &[(&str, Vec<u8>)] = &[
        ("a negative length", vec![255, 255, 255, 255, 0]),
        ("the smallest length", vec![128, 0, 0, 0]),
        ("a huge length", vec![127, 255, 255, 255]),
        (
            "a length above the limit",
            100_001_i32.to_be_bytes().to_vec(),
        ),
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("an empty frame", framed(b"")),
        ("half a header", framed(&[0, 3, 0, 9])),
        (
            "an unknown key",
            framed(&[3, 231, 0, 0, 0, 0, 0, 1, 255, 255]),
        ),
        (
            "a negative key",
            framed(&[255, 255, 0, 0, 0, 0, 0, 1, 255, 255]),
        ),
        (
            "a key that is not built",
            framed(&[0, 4, 0, 7, 0, 0, 0, 1, 255, 255, 0]),
        ),
        (
            "a version too high",
            framed(&[0, 3, 0, 99, 0, 0, 0, 1, 255, 255, 0]),
        ),
        (
            "a version too low",
            framed(&[0, 0, 0, 2, 0, 0, 0, 1, 255, 255]),
        ),
        (
            "a negative version",
            framed(&[0, 3, 255, 255, 0, 0, 0, 1, 255, 255]),
        ),
        (
            "a client id longer than the frame",
            framed(&[0, 3, 0, 1, 0, 0, 0, 1, 127, 255, b'x']),
        ),
        (
            "a client id that is no text",
            framed(&[0, 18, 0, 0, 0, 0, 0, 1, 0, 2, 0xff, 0xfe]),
        ),
        (
            "a body that is cut off",
            framed(&[0, 3, 0, 1, 0, 0, 0, 1, 255, 255, 0, 0]),
        ),
        (
            "an array longer than the frame",
            framed(&[0, 3, 0, 1, 0, 0, 0, 1, 255, 255, 127, 255, 255, 255]),
        ),
        (
            "tagged fields without end",
            framed(&[0, 3, 0, 9, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255]),
        ),
    ];
    for (what, bytes) in cases {
        closes(&server, what, bytes).await;
    }
    assert_eq!(other.put(&topic, 0, &["still there"]).await, 0);
}

#[tokio::test]
async fn random_bytes_do_no_harm() {
    let server = Server::start().await;
    let mut state = 0x9e37_79b9_u32;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    for round in 0..200 {
        let mut client = server.client().await;
        let len = random() % 200;
        let mut bytes: Vec<u8> = (0..len).map(|_| random() as u8).collect();
        // Every other time the beginning is right, so that it is the body that makes no sense.
        if round % 2 == 0 && bytes.len() > 12 {
            let api = &APIS[random() as usize % APIS.len()];
            let span = api.supported.max - api.supported.min + 1;
            let version = api.supported.min + (random() % span as u32) as i16;
            bytes[..2].copy_from_slice(&api.key.code().to_be_bytes());
            bytes[2..4].copy_from_slice(&version.to_be_bytes());
            bytes[8..10].copy_from_slice(&(-1_i16).to_be_bytes());
        }
        client.send_frame(&bytes).await;
        client.end_output().await;
        client.ended().await;
    }
    let mut client = server.client().await;
    let topic = client.create_topic("unharmed", 1, &[]).await;
    assert_eq!(client.put(&topic, 0, &["fine"]).await, 0);
}
