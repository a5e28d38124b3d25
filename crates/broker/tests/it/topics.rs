//! Topics and configurations: created, changed, deleted, created again.

use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use tidelog_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use tidelog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use tidelog_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use tidelog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use tidelog_types::{ErrorCode, NodeId, TopicName};

use crate::client::{Client, soon};
use crate::ops::{ALL, batch, fetch_request, produce_request};
use crate::server::Server;

const TOPIC: i8 = 2;

pub(crate) async fn delete(client: &mut Client, name: &TopicName) -> ErrorCode {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(name.clone()),
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    client.ask(&request).await.responses[0].error_code
}

#[tokio::test]
async fn corner_26_a_topic_that_is_created_again_is_another_topic() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let old = client.create_topic("again", 1, &[]).await;
    client.put(&old, 0, &["a", "b", "c"]).await;
    assert_eq!(delete(&mut client, &old.name).await, ErrorCode::NONE);
    assert_eq!(
        client.describe("again").await.error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    let new = client.create_topic("again", 1, &[]).await;
    assert_ne!(old.id, new.id);
    for _ in 0..2 {
        let data = client.fetch(&fetch_request(&old, &[(0, 3)])).await;
        assert_eq!(data[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
        let answer = client.produce(&old, 0, batch(&["late"])).await;
        assert_eq!(answer.error_code, ErrorCode::UNKNOWN_TOPIC_ID);
        // Its records are gone; an old position is out of range and not served by what has come since.
        let data = client.fetch(&fetch_request(&new, &[(0, 3)])).await;
        assert_eq!(data[0].error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(client.read(&new, 0, 0).await, []);
        if server.broker.is_some() {
            server.restart().await;
            client = server.client().await;
        }
    }
    assert_eq!(client.put(&new, 0, &["new"]).await, 0);
}

#[tokio::test]
async fn corner_26_waiting_requests_hear_of_the_end_of_their_topic() {
    let server = Server::start().await;
    let (mut client, mut waiting) = (server.client().await, server.client().await);
    let topic = client.create_topic("ends", 1, &[]).await;
    let mut request = fetch_request(&topic, &[(0, 0)]);
    request.max_wait_ms = 600_000;
    waiting.send(18, &request).await;
    // Whether the fetch waits already or comes too late, it is told.
    assert_eq!(delete(&mut client, &topic.name).await, ErrorCode::NONE);
    let response: tidelog_protocol::messages::fetch::FetchResponse = waiting.receive(18).await;
    let code = response.responses[0].partitions[0].error_code;
    let expected = [
        ErrorCode::UNKNOWN_TOPIC_ID,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ];
    assert!(expected.contains(&code), "{code:?}");
}

fn creatable(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    }
}

fn with_config(name: &str, key: &str, value: &str) -> CreatableTopic {
    CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: key.into(),
            value: Some(value.into()),
        }],
        ..creatable(name)
    }
}

#[tokio::test]
async fn corner_44_create_topics_says_what_is_wrong_and_validates_without_creating() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create_topic("exists", 1, &[]).await;
    let assigned = |replicas: &[&[i32]], partitions| CreatableTopic {
        num_partitions: partitions,
        replication_factor: -1,
        assignments: (0..)
            .zip(replicas)
            .map(|(partition_index, ids)| CreatableReplicaAssignment {
                partition_index,
                broker_ids: ids.iter().map(|id| NodeId::new(*id)).collect(),
            })
            .collect(),
        ..creatable(if partitions < 0 && replicas.len() > 1 {
            "assigned"
        } else {
            "misassigned"
        })
    };
    use ErrorCode as E;
    let cases = [
        (creatable("exists"), E::TOPIC_ALREADY_EXISTS),
        (creatable("fine"), E::NONE),
        (
            CreatableTopic {
                num_partitions: -1,
                replication_factor: -1,
                ..creatable("defaults")
            },
            E::NONE,
        ),
        (
            CreatableTopic {
                replication_factor: 2,
                ..creatable("replicas")
            },
            E::INVALID_REPLICATION_FACTOR,
        ),
        (
            CreatableTopic {
                replication_factor: 0,
                ..creatable("replicas")
            },
            E::INVALID_REPLICATION_FACTOR,
        ),
        (
            CreatableTopic {
                num_partitions: 0,
                ..creatable("partitions")
            },
            E::INVALID_PARTITIONS,
        ),
        (creatable(""), E::INVALID_TOPIC_EXCEPTION),
        (creatable(".."), E::INVALID_TOPIC_EXCEPTION),
        (creatable("with space"), E::INVALID_TOPIC_EXCEPTION),
        (creatable(&"x".repeat(250)), E::INVALID_TOPIC_EXCEPTION),
        (with_config("c", "no.such.config", "1"), E::INVALID_CONFIG),
        (with_config("c", "retention.ms", "soon"), E::INVALID_CONFIG),
        (
            with_config("c", "cleanup.policy", "forget"),
            E::INVALID_CONFIG,
        ),
        (assigned(&[&[1], &[1]], -1), E::NONE),
        (assigned(&[&[1, 1]], -1), E::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[&[9]], -1), E::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[&[1]], 1), E::INVALID_REQUEST),
    ];
    for validate_only in [true, false] {
        for (topic, expected) in &cases {
            let request = CreateTopicsRequest {
                topics: vec![topic.clone()],
                timeout_ms: 30_000,
                validate_only,
            };
            let answer = client.ask(&request).await.topics.remove(0);
            assert_eq!(answer.error_code, *expected, "{answer:?}");
            assert_eq!(
                answer.error_message.is_some(),
                expected.is_err(),
                "{answer:?}"
            );
            if validate_only && *topic.name != *"exists" {
                let described = client.describe(&topic.name).await;
                assert_ne!(described.error_code, E::NONE, "{topic:?} was created");
            }
        }
    }
    // The same name twice in a request: neither.
    let request = CreateTopicsRequest {
        topics: vec![creatable("twice"), creatable("twice")],
        timeout_ms: 30_000,
        validate_only: false,
    };
    let answers = client.ask(&request).await.topics;
    let codes: Vec<_> = answers.iter().map(|answer| answer.error_code).collect();
    assert!(
        codes.iter().all(|code| *code == E::INVALID_REQUEST),
        "{codes:?}"
    );
}

#[tokio::test]
async fn corner_44_what_was_created_shows_at_once_with_its_configs() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            num_partitions: 3,
            ..with_config("shown", "retention.ms", "1234567")
        }],
        timeout_ms: 30_000,
        validate_only: false,
    };
    let created = client.ask(&request).await.topics.remove(0);
    assert_eq!((created.num_partitions, created.replication_factor), (3, 1));
    let configs = created.configs.unwrap();
    let retention = configs.iter().find(|c| c.name == "retention.ms").unwrap();
    assert_eq!(
        (retention.value.as_deref(), retention.config_source),
        (Some("1234567"), 1)
    );
    let segment = configs.iter().find(|c| c.name == "segment.bytes").unwrap();
    assert_eq!(
        (segment.value.as_deref(), segment.config_source),
        (Some("1073741824"), 5)
    );
    soon(async { while client.describe("shown").await.error_code.is_err() {} }).await;
    let described = client.describe("shown").await;
    assert_eq!(described.topic_id, created.topic_id);
    assert_eq!(described.partitions.len(), 3);
    for partition in &described.partitions {
        assert_eq!(partition.error_code, ErrorCode::NONE);
        assert_eq!(partition.leader_id, NodeId::new(1));
        assert_eq!(partition.isr_nodes, [NodeId::new(1)]);
        assert_eq!(partition.offline_replicas, []);
    }
}

async fn config(client: &mut Client, topic: &str, name: &str) -> DescribeConfigsResourceResult {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.into(),
            configuration_keys: Some(vec![name.into()]),
        }],
        include_synonyms: true,
        ..Default::default()
    };
    client.ask(&request).await.results[0].configs[0].clone()
}

pub(crate) async fn alter(
    client: &mut Client,
    topic: &str,
    change: (&str, i8, Option<&str>),
) -> ErrorCode {
    alter_resource(client, (TOPIC, topic), change).await
}

pub(crate) async fn alter_resource(
    client: &mut Client,
    (resource_type, resource_name): (i8, &str),
    (name, operation, value): (&str, i8, Option<&str>),
) -> ErrorCode {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type,
            resource_name: resource_name.into(),
            configs: vec![AlterableConfig {
                name: name.into(),
                config_operation: operation,
                value: value.map(Into::into),
            }],
        }],
        ..Default::default()
    };
    client.ask(&request).await.responses[0].error_code
}

#[tokio::test]
async fn corner_44_configs_are_set_appended_subtracted_and_deleted() {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    const DYNAMIC: i8 = 1;
    const DEFAULT: i8 = 5;
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create_topic("altered", 1, &[]).await;
    use ErrorCode as E;
    for (change, expected, key, value, source) in [
        (
            ("cleanup.policy", APPEND, Some("compact")),
            E::NONE,
            "cleanup.policy",
            "delete,compact",
            DYNAMIC,
        ),
        (
            ("cleanup.policy", APPEND, Some("compact")),
            E::NONE,
            "cleanup.policy",
            "delete,compact",
            DYNAMIC,
        ),
        (
            ("cleanup.policy", SUBTRACT, Some("delete")),
            E::NONE,
            "cleanup.policy",
            "compact",
            DYNAMIC,
        ),
        (
            ("cleanup.policy", DELETE, None),
            E::NONE,
            "cleanup.policy",
            "delete",
            DEFAULT,
        ),
        (
            ("retention.ms", SET, Some("5")),
            E::NONE,
            "retention.ms",
            "5",
            DYNAMIC,
        ),
        (
            ("retention.ms", APPEND, Some("6")),
            E::INVALID_CONFIG,
            "retention.ms",
            "5",
            DYNAMIC,
        ),
        (
            ("retention.ms", SET, Some("never")),
            E::INVALID_CONFIG,
            "retention.ms",
            "5",
            DYNAMIC,
        ),
        (
            ("retention.ms", SET, None),
            E::INVALID_REQUEST,
            "retention.ms",
            "5",
            DYNAMIC,
        ),
        (
            ("no.such", SET, Some("1")),
            E::INVALID_CONFIG,
            "retention.ms",
            "5",
            DYNAMIC,
        ),
    ] {
        assert_eq!(
            alter(&mut client, "altered", change).await,
            expected,
            "{change:?}"
        );
        soon(async {
            while config(&mut client, "altered", key).await.value.as_deref() != Some(value) {}
        })
        .await;
        let found = config(&mut client, "altered", key).await;
        assert_eq!(found.config_source, source, "after {change:?}");
    }
    let retention = config(&mut client, "altered", "retention.ms").await;
    let synonyms = retention
        .synonyms
        .iter()
        .map(|s| (s.name.as_str(), s.source));
    assert_eq!(synonyms.collect::<Vec<_>>(), [("retention.ms", DYNAMIC)]);
    let segment = config(&mut client, "altered", "segment.bytes").await;
    let synonyms = segment.synonyms.iter().map(|s| (s.name.as_str(), s.source));
    assert_eq!(
        synonyms.collect::<Vec<_>>(),
        [("log.segment.bytes", DEFAULT)]
    );
    let unknown = alter(&mut client, "nothing", ("retention.ms", SET, Some("5"))).await;
    assert_eq!(unknown, E::UNKNOWN_TOPIC_OR_PARTITION);
    // A change of the rules holds for the next batch.
    let topic = client.create_topic("rules", 1, &[]).await;
    client.put(&topic, 0, &["a"]).await;
    alter(&mut client, "rules", ("max.message.bytes", SET, Some("10"))).await;
    soon(async {
        while config(&mut client, "rules", "max.message.bytes")
            .await
            .config_source
            != DYNAMIC
        {}
    })
    .await;
    let answer = client.produce(&topic, 0, batch(&["a"])).await;
    assert_eq!(answer.error_code, E::MESSAGE_TOO_LARGE);
}

#[tokio::test]
async fn corner_44_partitions_are_added_and_never_taken_away() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("grows", 2, &[]).await;
    client.put(&topic, 1, &["kept"]).await;
    use ErrorCode as E;
    for (count, expected) in [
        (2, E::INVALID_PARTITIONS),
        (1, E::INVALID_PARTITIONS),
        (0, E::INVALID_PARTITIONS),
        (5, E::NONE),
    ] {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: topic.name.clone(),
                count,
                ..Default::default()
            }],
            timeout_ms: 30_000,
            ..Default::default()
        };
        let answer = client.ask(&request).await.results.remove(0);
        assert_eq!(answer.error_code, expected, "{count} partitions");
    }
    soon(async { while client.describe("grows").await.partitions.len() != 5 {} }).await;
    soon(async { while client.list_offset(&topic, 4, -1).await.error_code.is_err() {} }).await;
    assert_eq!(client.put(&topic, 4, &["new"]).await, 0);
    assert_eq!(client.read(&topic, 1, 0).await, [(0, "kept".to_owned())]);
}

#[tokio::test]
async fn metadata_creates_a_topic_only_if_all_agree() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ask = |name: &str, allow| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name.into()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: allow,
        ..Default::default()
    };
    let unknown = client.ask(&ask("auto", false)).await;
    assert_eq!(
        unknown.topics[0].error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    let bad = client.ask(&ask("not good", true)).await;
    assert_eq!(bad.topics[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    soon(async {
        while client.ask(&ask("auto", true)).await.topics[0]
            .error_code
            .is_err()
        {}
    })
    .await;
    assert_eq!(client.describe("auto").await.partitions.len(), 1);

    let mut none = ask("auto", false);
    none.topics.as_mut().unwrap()[0].name = None;
    let response = client.ask(&none).await;
    assert!(response.topics[0].error_code.is_err());
    if server.broker.is_some() {
        let closed = Server::with(&[("auto.create.topics.enable", "false")]).await;
        let mut client = closed.client().await;
        let response = client.ask(&ask("auto", true)).await;
        assert_eq!(
            response.topics[0].error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
    }
}

#[tokio::test]
async fn a_deleted_topic_answers_the_appends_that_wait_for_it() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("gone", 1, &[]).await;
    assert_eq!(delete(&mut client, &topic.name).await, ErrorCode::NONE);
    assert_eq!(
        delete(&mut client, &topic.name).await,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    let response = client
        .call(12, &produce_request(&topic, ALL, &[(0, batch(&["a"]))]))
        .await;
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}
