//! Groups whose partitions the broker divides (KIP-848), over the wire. The rules themselves are tested with the coordinator.

use tidelog_protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use tidelog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use tidelog_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use tidelog_types::{ErrorCode, TopicId};

use crate::client::{Client, soon};
use crate::groups::find_coordinator;
use crate::server::Server;

const GROUP: i8 = 32;

fn joining(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        rebalance_timeout_ms: 60_000,
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

async fn beat(client: &mut Client, member: &str, epoch: i32) -> ConsumerGroupHeartbeatResponse {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        member_epoch: epoch,
        ..Default::default()
    };
    client.ask(&request).await
}

/// What an answer says that the member has of the topic.
fn assigned(response: &ConsumerGroupHeartbeatResponse, topic: TopicId) -> Option<Vec<i32>> {
    let assignment = response.assignment.as_ref()?;
    let mut topics = assignment.topic_partitions.iter();
    let found = topics.find(|assigned| assigned.topic_id == topic);
    Some(
        found
            .map(|found| found.partitions.clone())
            .unwrap_or_default(),
    )
}

async fn group_config(client: &mut Client, key: Option<&str>) -> Vec<(String, Option<String>)> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: GROUP,
            resource_name: "g".into(),
            configuration_keys: key.map(|key| vec![key.into()]),
        }],
        ..Default::default()
    };
    let mut results = client.ask(&request).await.results;
    let result = results.remove(0);
    assert_eq!(result.error_code, ErrorCode::NONE);
    let configs = result.configs.into_iter();
    configs
        .map(|config| {
            (
                config.name.to_string(),
                config.value.map(|value| value.to_string()),
            )
        })
        .collect()
}

/// New partitions and a restart: the member goes on with what it has, and gets what is new.
#[tokio::test]
async fn a_member_keeps_its_partitions_over_a_restart_and_gets_new_ones() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("orders", 2, &[]).await;
    find_coordinator(&mut client, "g").await;
    let request = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(vec![topic.name.clone()]),
        ..joining("a")
    };
    let joined = client.ask(&request).await;
    assert_eq!(joined.error_code, ErrorCode::NONE);
    assert_eq!(
        (joined.member_epoch, assigned(&joined, topic.id)),
        (2, Some(vec![0, 1]))
    );

    server.restart().await;
    let mut client = server.client().await;
    find_coordinator(&mut client, "g").await;
    let answer = beat(&mut client, "a", 2).await;
    assert_eq!(
        (answer.error_code, answer.member_epoch),
        (ErrorCode::NONE, 2)
    );
    assert_eq!(assigned(&answer, topic.id), None, "nothing has changed");

    let more = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: topic.name.clone(),
            count: 3,
            assignments: None,
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(
        client.ask(&more).await.results[0].error_code,
        ErrorCode::NONE
    );
    let all = soon(async {
        loop {
            let answer = beat(&mut client, "a", 2).await;
            match assigned(&answer, topic.id) {
                Some(partitions) => return partitions,
                None => assert_eq!(answer.error_code, ErrorCode::NONE),
            }
        }
    });
    assert_eq!(all.await, [0, 1, 2]);

    let describe = ConsumerGroupDescribeRequest {
        group_ids: vec!["g".into()],
        include_authorized_operations: false,
    };
    let group = client.ask(&describe).await.groups.remove(0);
    assert_eq!((&*group.group_state, group.group_epoch), ("Stable", 3));
    assert_eq!(
        group.members[0].assignment.topic_partitions[0].topic_name,
        topic.name
    );

    // Why it did so is told to who asks for it by name, and to nobody else.
    let told = group_config(&mut client, Some("tidelog.group.rebalances")).await;
    let told: serde_json::Value = serde_json::from_str(told[0].1.as_deref().unwrap()).unwrap();
    assert_eq!(told[0]["epoch"], 3);
    assert_eq!(told[0]["causes"][0]["cause"], "topic-changed");
    assert_eq!(told[0]["moves"][0]["to"], "a");
    let all = group_config(&mut client, None).await;
    assert!(all.iter().all(|(name, _)| !name.starts_with("tidelog")));
    server.stop().await;
}

/// Expressions are resolved by the broker, and settings of a group count from the next heartbeat on.
#[tokio::test]
async fn a_member_subscribes_by_an_expression_and_its_group_has_settings() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("orders-1", 1, &[]).await;
    client.create_topic("users", 1, &[]).await;
    find_coordinator(&mut client, "g").await;
    let request = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some("orders-.*".into()),
        ..joining("a")
    };
    let bad = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some("orders-[".into()),
        ..joining("a")
    };
    let refused = client.ask(&bad).await.error_code;
    assert_eq!(refused, ErrorCode::INVALID_REGULAR_EXPRESSION);
    let partitions = soon(async {
        loop {
            // Until it is known what the expression matches, the member has nothing.
            let answer = client.ask(&request).await;
            assert_eq!(answer.error_code, ErrorCode::NONE);
            match assigned(&answer, topic.id).unwrap_or_default() {
                partitions if partitions.is_empty() => {}
                partitions => return partitions,
            }
        }
    });
    assert_eq!(partitions.await, [0]);

    let set = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: GROUP,
            resource_name: "g".into(),
            configs: vec![AlterableConfig {
                name: "consumer.heartbeat.interval.ms".into(),
                config_operation: 0,
                value: Some("7000".into()),
            }],
        }],
        validate_only: false,
    };
    assert_eq!(
        client.ask(&set).await.responses[0].error_code,
        ErrorCode::NONE
    );
    let interval = soon(async {
        loop {
            let interval = beat(&mut client, "a", 2).await.heartbeat_interval_ms;
            if interval != 5_000 {
                return interval;
            }
        }
    });
    assert_eq!(interval.await, 7_000);

    let zombie = ConsumerGroupHeartbeatRequest {
        member_epoch: 9,
        topic_partitions: Some(vec![TopicPartitions {
            topic_id: topic.id,
            partitions: vec![0],
        }]),
        ..joining("a")
    };
    assert_eq!(
        client.ask(&zombie).await.error_code,
        ErrorCode::FENCED_MEMBER_EPOCH
    );
    assert_eq!(beat(&mut client, "a", -1).await.member_epoch, -1);
    server.stop().await;
}

/// Switched off for this broker: the API is there, and says so.
#[tokio::test]
async fn a_broker_without_consumer_groups_refuses_them() {
    let mut server = Server::with(&[("group.coordinator.rebalance.protocols", "classic")]).await;
    let mut client = server.client().await;
    let topic = client.create_topic("orders", 1, &[]).await;
    let request = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(vec![topic.name.clone()]),
        ..joining("a")
    };
    let refused = client.ask(&request).await.error_code;
    assert_eq!(refused, ErrorCode::UNSUPPORTED_VERSION);
    server.stop().await;
}
