//! Groups and their offsets over the wire. The rules themselves are tested with the coordinator.

use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use tidelog_protocol::messages::delete_groups::DeleteGroupsRequest;
use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use tidelog_protocol::messages::describe_groups::DescribeGroupsRequest;
use tidelog_protocol::messages::find_coordinator::{Coordinator, FindCoordinatorRequest};
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use tidelog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
    OffsetFetchResponsePartitions,
};
use tidelog_protocol::messages::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, Str};

use crate::client::{Client, soon};
use crate::ops::Topic;
use crate::server::{Server, builder};

const JOIN: i16 = 9;
const SYNC: i16 = 5;

/// Asks for the coordinator of a group until there is one, and it has loaded: Kafka creates the topic behind the first
/// answer.
pub(crate) async fn find_coordinator(client: &mut Client, group: &str) -> Coordinator {
    let request = FindCoordinatorRequest {
        key_type: 0,
        coordinator_keys: vec![group.into()],
        ..Default::default()
    };
    let found = soon(async {
        loop {
            let found = client.ask(&request).await.coordinators.remove(0);
            match found.error_code {
                ErrorCode::NONE => return found,
                ErrorCode::COORDINATOR_NOT_AVAILABLE => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    is_loaded(client, group).await;
    found
}

/// Waits until the coordinator of a group has read what it must know.
pub(crate) async fn is_loaded(client: &mut Client, group: &str) {
    // While it loads, a coordinator lets heartbeats pass.
    let passing = [ErrorCode::NONE, ErrorCode::NOT_COORDINATOR];
    let nobody = "nobody".into();
    soon(async { while passing.contains(&heartbeat(client, group, 1, &nobody).await) {} }).await;
}

fn join_request(group: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.into(),
        group_instance_id: instance.map(Str::from),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            // A subscription of version 0 to no topics, without user data.
            metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 255, 255, 255, 255]),
        }],
        ..Default::default()
    }
}

/// Joins with the id that the coordinator gives.
pub(crate) async fn join(client: &mut Client, group: &str) -> JoinGroupResponse {
    let first = client.call(JOIN, &join_request(group, "", None)).await;
    assert_eq!(first.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    let joined = client
        .call(JOIN, &join_request(group, &first.member_id, None))
        .await;
    assert_eq!(joined.error_code, ErrorCode::NONE);
    joined
}

/// Sends a join request with the id that the coordinator gave, and does not wait for the answer.
pub(crate) async fn begin_to_join(client: &mut Client, group: &str) {
    let first = client.call(JOIN, &join_request(group, "", None)).await;
    let request = join_request(group, &first.member_id, None);
    client.send(JOIN, &request).await;
}

fn sync_request(
    group: &str,
    joined: &JoinGroupResponse,
    assignments: &[(&Str, &'static str)],
) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: joined.protocol_type.clone(),
        protocol_name: joined.protocol_name.clone(),
        assignments: assignments
            .iter()
            .map(|(member, assignment)| SyncGroupRequestAssignment {
                member_id: (*member).clone(),
                assignment: Bytes::from_static(assignment.as_bytes()),
            })
            .collect(),
        ..Default::default()
    }
}

async fn heartbeat(client: &mut Client, group: &str, generation: i32, member: &Str) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: group.into(),
        generation_id: generation,
        member_id: member.clone(),
        ..Default::default()
    };
    client.ask(&request).await.error_code
}

/// Commits offset and epoch of a partition, as a consumer without a group would.
pub(crate) async fn commit(
    client: &mut Client,
    group: &str,
    topic: &Topic,
    (partition, offset, epoch): (i32, i64, i32),
) -> ErrorCode {
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.name.clone(),
            topic_id: topic.id,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: Offset::new(offset),
                committed_leader_epoch: LeaderEpoch::new(epoch),
                committed_metadata: Some("said".into()),
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let response = client.ask(&request).await;
    response.topics[0].partitions[0].error_code
}

pub(crate) async fn committed(
    client: &mut Client,
    group: &str,
    topic: &Topic,
    partitions: &[i32],
) -> Vec<OffsetFetchResponsePartitions> {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            member_epoch: -1,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: topic.name.clone(),
                topic_id: topic.id,
                partition_indexes: partitions.to_vec(),
            }]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut group = client.ask(&request).await.groups.remove(0);
    assert_eq!(group.error_code, ErrorCode::NONE);
    group.topics.remove(0).partitions
}

#[tokio::test]
async fn corner_27_offsets_keep_their_epoch_and_absent_ones_are_no_error() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("offsets", 3, &[]).await;
    find_coordinator(&mut client, "reader").await;
    for one in [(0, 5, 3), (1, 7, -1), (0, 6, 4)] {
        assert_eq!(
            commit(&mut client, "reader", &topic, one).await,
            ErrorCode::NONE
        );
    }
    for round in 0..2 {
        let found = committed(&mut client, "reader", &topic, &[0, 1, 2]).await;
        let found: Vec<_> = found
            .iter()
            .map(|p| {
                assert_eq!(p.error_code, ErrorCode::NONE);
                (
                    p.committed_offset.value(),
                    p.committed_leader_epoch.value(),
                    p.metadata.as_deref().unwrap_or("null").to_owned(),
                )
            })
            .collect();
        let said = |offset, epoch, said: &str| (offset, epoch, said.to_owned());
        let expected = [said(6, 4, "said"), said(7, -1, "said"), said(-1, -1, "")];
        assert_eq!(found, expected, "round {round}");
        is_loaded(&mut client, "nobody").await;
        let nobody = committed(&mut client, "nobody", &topic, &[0]).await;
        assert_eq!(nobody[0].committed_offset, Offset::NONE);
        assert_eq!(nobody[0].committed_leader_epoch, LeaderEpoch::NONE);
        if server.broker.is_none() {
            return;
        }
        server.restart().await;
        client = server.client().await;
        is_loaded(&mut client, "reader").await;
    }
}

#[tokio::test]
async fn corner_31_a_new_member_is_told_its_id_first() {
    let server = Server::start().await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    find_coordinator(&mut one, "ids").await;
    // A member that was given an id and never came with it holds up nobody.
    let pending = two.call(JOIN, &join_request("ids", "", None)).await;
    assert_eq!(pending.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    assert!(
        pending.member_id.starts_with("it-"),
        "{}",
        pending.member_id
    );
    let joined = join(&mut one, "ids").await;
    assert_eq!((joined.generation_id, joined.members.len()), (1, 1));
    assert_eq!(joined.leader, joined.member_id);
    // Before version 4 a member joins at once.
    is_loaded(&mut two, "old-ids").await;
    let joined = two.call(3, &join_request("old-ids", "", None)).await;
    assert_eq!(
        (joined.error_code, joined.generation_id),
        (ErrorCode::NONE, 1)
    );
    // An id that nobody was given.
    let unknown = two
        .call(JOIN, &join_request("ids", "it-made-up", None))
        .await;
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn corner_32_a_static_member_comes_back_without_a_rebalance() {
    let server = Server::start().await;
    let mut client = server.client().await;
    find_coordinator(&mut client, "static").await;
    let joined = client
        .call(JOIN, &join_request("static", "", Some("i")))
        .await;
    assert_eq!(
        (joined.error_code, joined.generation_id),
        (ErrorCode::NONE, 1)
    );
    let old = joined.member_id.clone();
    let sync = SyncGroupRequest {
        group_instance_id: Some("i".into()),
        ..sync_request("static", &joined, &[(&old, "mine")])
    };
    let synced = client.call(SYNC, &sync).await;
    assert_eq!(&synced.assignment[..], b"mine");

    let mut restarted = server.client().await;
    let back = restarted
        .call(JOIN, &join_request("static", "", Some("i")))
        .await;
    assert_eq!((back.error_code, back.generation_id), (ErrorCode::NONE, 1));
    assert_ne!(back.member_id, old);
    let sync = SyncGroupRequest {
        group_instance_id: Some("i".into()),
        ..sync_request("static", &back, &[])
    };
    let synced = restarted.call(SYNC, &sync).await;
    assert_eq!(synced.error_code, ErrorCode::NONE);
    assert_eq!(&synced.assignment[..], b"mine");
    // The one it replaces is fenced.
    let request = HeartbeatRequest {
        group_id: "static".into(),
        generation_id: 1,
        member_id: old,
        group_instance_id: Some("i".into()),
    };
    let fenced = client.ask(&request).await;
    assert_eq!(fenced.error_code, ErrorCode::FENCED_INSTANCE_ID);
}

#[tokio::test]
async fn corner_33_a_rejoin_rebalances_for_the_leader_and_not_for_a_follower() {
    let server = Server::start().await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    find_coordinator(&mut one, "rejoin").await;
    let first = join(&mut one, "rejoin").await;
    let leader = first.member_id.clone();
    one.call(SYNC, &sync_request("rejoin", &first, &[(&leader, "all")]))
        .await;
    // A second member: both must join again.
    begin_to_join(&mut two, "rejoin").await;
    soon(async {
        while heartbeat(&mut one, "rejoin", 1, &leader).await != ErrorCode::REBALANCE_IN_PROGRESS {}
    })
    .await;
    let joined_one = one.call(JOIN, &join_request("rejoin", &leader, None)).await;
    let joined_two: JoinGroupResponse = two.receive(JOIN).await;
    assert_eq!((joined_one.generation_id, joined_two.generation_id), (2, 2));
    assert_eq!((joined_one.members.len(), joined_two.members.len()), (2, 0));
    assert_eq!(joined_two.leader, leader);
    // The follower's answer comes with the leader's assignment.
    two.send(SYNC, &sync_request("rejoin", &joined_two, &[]))
        .await;
    let follower = joined_two.member_id.clone();
    let assignments = [(&leader, "half"), (&follower, "other half")];
    let synced = one
        .call(SYNC, &sync_request("rejoin", &joined_one, &assignments))
        .await;
    assert_eq!(&synced.assignment[..], b"half");
    let synced: SyncGroupResponse = two.receive(SYNC).await;
    assert_eq!(&synced.assignment[..], b"other half");
    // Stable: a follower that joins again with the same metadata is told what it knows.
    let again = two
        .call(JOIN, &join_request("rejoin", &follower, None))
        .await;
    assert_eq!(
        (again.error_code, again.generation_id),
        (ErrorCode::NONE, 2)
    );
    assert_eq!(
        heartbeat(&mut one, "rejoin", 2, &leader).await,
        ErrorCode::NONE
    );
    // The leader wants a new assignment.
    one.send(JOIN, &join_request("rejoin", &leader, None)).await;
    soon(async {
        while heartbeat(&mut two, "rejoin", 2, &follower).await != ErrorCode::REBALANCE_IN_PROGRESS
        {
        }
    })
    .await;
    let again = two
        .call(JOIN, &join_request("rejoin", &follower, None))
        .await;
    assert_eq!(again.generation_id, 3);
    let again: JoinGroupResponse = one.receive(JOIN).await;
    assert_eq!(again.generation_id, 3);
    // A member that leaves is gone at once.
    let leave = LeaveGroupRequest {
        group_id: "rejoin".into(),
        members: vec![MemberIdentity {
            member_id: follower.clone(),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(two.ask(&leave).await.members[0].error_code, ErrorCode::NONE);
    assert_eq!(
        heartbeat(&mut two, "rejoin", 3, &follower).await,
        ErrorCode::UNKNOWN_MEMBER_ID
    );
}

#[tokio::test]
async fn corner_34_generation_and_assignment_are_the_same_after_a_restart() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    find_coordinator(&mut client, "stable").await;
    let joined = join(&mut client, "stable").await;
    let member = joined.member_id.clone();
    let synced = client
        .call(SYNC, &sync_request("stable", &joined, &[(&member, "mine")]))
        .await;
    assert_eq!(synced.error_code, ErrorCode::NONE);
    server.restart().await;
    let mut client = server.client().await;
    is_loaded(&mut client, "stable").await;
    assert_eq!(
        heartbeat(&mut client, "stable", 1, &member).await,
        ErrorCode::NONE
    );
    let synced = client
        .call(SYNC, &sync_request("stable", &joined, &[]))
        .await;
    assert_eq!(&synced.assignment[..], b"mine");
    let request = DescribeGroupsRequest {
        groups: vec!["stable".into()],
        ..Default::default()
    };
    let described = client.ask(&request).await.groups.remove(0);
    assert_eq!(described.group_state, "Stable");
    assert_eq!(described.members[0].member_id, member);
    assert_eq!(&described.members[0].member_assignment[..], b"mine");
    assert_eq!(described.members[0].client_host, "/127.0.0.1");
    // While it has a member the group cannot be deleted.
    let delete = DeleteGroupsRequest {
        groups_names: vec!["stable".into()],
    };
    let deleted = client.ask(&delete).await;
    assert_eq!(deleted.results[0].error_code, ErrorCode::NON_EMPTY_GROUP);
}

#[tokio::test]
async fn corner_33_a_member_that_is_not_heard_of_is_removed() {
    let server = Server::with(&[("group.min.session.timeout.ms", "50")]).await;
    let mut client = server.client().await;
    find_coordinator(&mut client, "silent").await;
    let mut request = join_request("silent", "", None);
    request.session_timeout_ms = 50;
    let pending = client.call(JOIN, &request).await;
    request.member_id = pending.member_id;
    let joined = client.call(JOIN, &request).await;
    let member = joined.member_id.clone();
    client
        .call(SYNC, &sync_request("silent", &joined, &[(&member, "mine")]))
        .await;
    let describe = DescribeGroupsRequest {
        groups: vec!["silent".into()],
        ..Default::default()
    };
    soon(async {
        while client.ask(&describe).await.groups[0].group_state != "Empty" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(
        heartbeat(&mut client, "silent", 1, &member).await,
        ErrorCode::UNKNOWN_MEMBER_ID
    );
}

#[tokio::test]
async fn corner_37_groups_live_where_java_would_look_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = builder()
        .property("offsets.topic.num.partitions", "50")
        .data_dir(dir.path())
        .start()
        .await
        .unwrap();
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let topic = client.create_topic("hashed", 1, &[]).await;
    find_coordinator(&mut client, "any").await;
    let described = client.describe("__consumer_offsets").await;
    assert_eq!(described.partitions.len(), 50);
    let offsets = Topic {
        name: described.name.unwrap(),
        id: described.topic_id,
    };
    // "polygenelubricants".hashCode() is the smallest int, the second is one character of two code units.
    for (group, partition) in [
        ("polygenelubricants", 0),
        ("\u{1f600}", 49),
        ("a", 47),
        ("ab", 5),
    ] {
        is_loaded(&mut client, group).await;
        let before = client.list_offset(&offsets, partition, -1).await.offset;
        assert_eq!(
            commit(&mut client, group, &topic, (0, 1, -1)).await,
            ErrorCode::NONE
        );
        let after = client.list_offset(&offsets, partition, -1).await.offset;
        assert!(after > before, "{group} is not in partition {partition}");
    }
    let more = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: offsets.name,
            count: 60,
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let answer = client.ask(&more).await.results.remove(0);
    assert_eq!(answer.error_code, ErrorCode::INVALID_REQUEST);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn corner_47_many_clients_at_once_create_the_offsets_topic_once() {
    let server = Server::start().await;
    let mut tasks = Vec::new();
    for i in 0..16 {
        let mut client = server.client().await;
        tasks.push(tokio::spawn(async move {
            let group = format!("first-use-{i}");
            find_coordinator(&mut client, &group).await;
            join(&mut client, &group).await.generation_id
        }));
    }
    for task in tasks {
        assert_eq!(soon(task).await.unwrap(), 1);
    }
    let mut client = server.client().await;
    let topic = client.describe("__consumer_offsets").await;
    assert!(topic.is_internal);
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: "__consumer_offsets".into(),
            configuration_keys: Some(vec![
                "cleanup.policy".into(),
                "compression.type".into(),
                "segment.bytes".into(),
            ]),
        }],
        ..Default::default()
    };
    let mut configs = client.ask(&request).await.results.remove(0).configs;
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    let values: Vec<_> = configs
        .iter()
        .map(|c| c.value.as_deref().unwrap())
        .collect();
    assert_eq!(values, ["compact", "producer", "104857600"]);
}
