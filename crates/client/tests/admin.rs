//! Calls of an operator against clusters that are played by a script: which node is asked, in which version, and how often.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tidelog_client::{Client, Config, ConfigChange, ConfigResource, EndpointType, NewTopic};
use tidelog_protocol::messages::alter_configs::{
    AlterConfigsResourceResponse, AlterConfigsResponse,
};
use tidelog_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use tidelog_protocol::messages::create_topics::{CreatableTopicResult, CreateTopicsResponse};
use tidelog_protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicsResponse};
use tidelog_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterResponse,
};
use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult,
};
use tidelog_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use tidelog_protocol::messages::metadata::{MetadataResponse, MetadataResponseBroker};
use tidelog_protocol::{
    ApiKey, ApiResponse, Request, RequestHeader, Writer, encode_response, frame,
};
use tidelog_types::{ErrorCode, NodeId, Str, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers a request that came to the node with this index.
type Script = dyn Fn(usize, &RequestHeader, Request) -> Bytes + Send + Sync;

/// Nodes 0, 1, ... on ports that the system chose, and what they were asked: node, API and version.
struct Cluster {
    ports: Vec<u16>,
    asked: Mutex<Vec<(usize, ApiKey, i16)>>,
}

impl Cluster {
    /// Plays `nodes` nodes with these APIs, which answer by the script. Metadata and ApiVersions are answered here.
    async fn play(
        nodes: usize,
        apis: &'static [(ApiKey, i16, i16)],
        script: impl Fn(usize, &RequestHeader, Request) -> Bytes + Send + Sync + 'static,
    ) -> Arc<Self> {
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let ports = listeners.iter();
        let cluster = Arc::new(Self {
            ports: ports.map(|l| l.local_addr().unwrap().port()).collect(),
            asked: Mutex::default(),
        });
        let script: Arc<Script> = Arc::new(script);
        for (node, listener) in listeners.into_iter().enumerate() {
            let (cluster, script) = (cluster.clone(), script.clone());
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (cluster, script) = (cluster.clone(), script.clone());
                    tokio::spawn(async move { cluster.serve(node, stream, apis, &*script).await });
                }
            });
        }
        cluster
    }

    async fn serve(
        &self,
        node: usize,
        mut stream: TcpStream,
        apis: &[(ApiKey, i16, i16)],
        script: &Script,
    ) {
        let mut input = BytesMut::new();
        loop {
            let Some(request) = frame::next_frame(&mut input, 1 << 20).unwrap() else {
                if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
                    return;
                }
                continue;
            };
            let (header, request) = Request::read_frame(request).unwrap();
            let answer = match header.api_key {
                ApiKey::ApiVersions => reply(&header, &versions(apis)),
                api => {
                    self.asked.lock().push((node, api, header.api_version));
                    script(node, &header, request)
                }
            };
            stream.write_all(&answer).await.unwrap();
        }
    }

    async fn client(&self) -> Client {
        let mut config = Config::default();
        config.retry_backoff = std::time::Duration::ZERO;
        let address = format!("127.0.0.1:{}", self.ports[0]);
        Client::connect(&address, config).await.unwrap()
    }

    /// The requests but those for metadata.
    fn asked(&self) -> Vec<(usize, ApiKey, i16)> {
        let asked = self.asked.lock();
        let asked = asked.iter().filter(|(_, api, _)| *api != ApiKey::Metadata);
        asked.copied().collect()
    }
}

fn versions(apis: &[(ApiKey, i16, i16)]) -> ApiVersionsResponse {
    let apis = apis.iter().map(|(api_key, min, max)| ApiVersion {
        api_key: *api_key,
        min_version: *min,
        max_version: *max,
    });
    ApiVersionsResponse {
        api_keys: apis.collect(),
        ..Default::default()
    }
}

fn reply<M: ApiResponse>(header: &RequestHeader, message: &M) -> Bytes {
    let mut writer = Writer::contiguous();
    encode_response(
        &mut writer,
        header.api_version,
        header.correlation_id,
        message,
    )
    .unwrap();
    writer.finish_contiguous().unwrap()
}

fn metadata(ports: &[u16], controller: usize) -> MetadataResponse {
    let brokers = (0..).zip(ports).map(|(id, port)| MetadataResponseBroker {
        node_id: NodeId::new(id),
        host: "127.0.0.1".into(),
        port: i32::from(*port),
        ..Default::default()
    });
    MetadataResponse {
        brokers: brokers.collect(),
        controller_id: NodeId::new(i32::try_from(controller).unwrap()),
        ..Default::default()
    }
}

fn name(topic: &str) -> TopicName {
    TopicName::from(topic)
}

const MODERN: &[(ApiKey, i16, i16)] = &[
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DescribeTopicPartitions, 0, 0),
];

/// What Kafka 2.1 knew of what is needed here.
const KAFKA_2_1: &[(ApiKey, i16, i16)] = &[
    (ApiKey::ApiVersions, 0, 2),
    (ApiKey::Metadata, 0, 7),
    (ApiKey::CreateTopics, 0, 3),
    (ApiKey::DeleteTopics, 0, 3),
    (ApiKey::DescribeConfigs, 0, 2),
    (ApiKey::AlterConfigs, 0, 1),
];

const CONTROLLERS: &[(ApiKey, i16, i16)] = &[
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DescribeCluster, 0, 2),
];

/// The answer to a CreateTopics request: these topics get a code.
fn created(request: Request, code: impl Fn(&str) -> ErrorCode) -> CreateTopicsResponse {
    let Request::CreateTopics(request) = request else {
        panic!("not expected: {request:?}")
    };
    let topics = request
        .topics
        .into_iter()
        .map(|topic| CreatableTopicResult {
            error_code: code(&topic.name),
            name: topic.name,
            ..Default::default()
        });
    CreateTopicsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_another_controller_must_do_is_asked_of_it_and_nothing_else() {
    let controller = Arc::new(Mutex::new(1));
    let ports = Arc::new(Mutex::new(Vec::new()));
    let (moving, known) = (controller.clone(), ports.clone());
    let cluster = Cluster::play(3, MODERN, move |node, header, request| {
        if header.api_key == ApiKey::Metadata {
            return reply(header, &metadata(&known.lock(), *moving.lock()));
        }
        // The first controller loses its office over the second topic.
        let answer = created(request, |topic| match (node, topic) {
            (1, "second") => ErrorCode::NOT_CONTROLLER,
            (_, "third") => ErrorCode::TOPIC_ALREADY_EXISTS,
            _ => ErrorCode::NONE,
        });
        *moving.lock() = 2;
        reply(header, &answer)
    })
    .await;
    *ports.lock() = cluster.ports.clone();
    let client = cluster.client().await;
    let topics = ["first", "second", "third"].map(NewTopic::new);
    let results = client.create_topics(&topics, false).await.unwrap();
    assert!(results[&name("first")].is_ok());
    assert!(results[&name("second")].is_ok(), "{results:?}");
    let refused = results[&name("third")].as_ref().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    let expected = [(1, ApiKey::CreateTopics, 7), (2, ApiKey::CreateTopics, 7)];
    assert_eq!(cluster.asked(), expected);
}

#[tokio::test]
async fn where_the_controller_is_gone_another_passes_the_request_on() {
    let ports = Arc::new(Mutex::new(Vec::new()));
    let known = ports.clone();
    let cluster = Cluster::play(1, MODERN, move |_, header, request| match header.api_key {
        ApiKey::Metadata => reply(header, &metadata(&known.lock(), 1)),
        _ => reply(header, &created(request, |_| ErrorCode::NONE)),
    })
    .await;
    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap().port();
    drop(listener);
    *ports.lock() = vec![cluster.ports[0], gone];
    let client = cluster.client().await;
    let results = client.create_topics(&[NewTopic::new("new")], false).await;
    assert!(results.unwrap()[&name("new")].is_ok());
    assert_eq!(cluster.asked(), [(0, ApiKey::CreateTopics, 7)]);
}

#[tokio::test]
async fn a_topic_that_does_not_fit_into_a_page_is_put_together() {
    let cluster = Cluster::play(1, MODERN, |_, header, request| {
        let Request::DescribeTopicPartitions(request) = request else {
            panic!("not expected: {request:?}")
        };
        // Three partitions, one a page.
        let index = request.cursor.map_or(0, |cursor| cursor.partition_index);
        let answer = DescribeTopicPartitionsResponse {
            topics: vec![DescribeTopicPartitionsResponseTopic {
                name: Some(name("long")),
                partitions: vec![DescribeTopicPartitionsResponsePartition {
                    partition_index: index,
                    leader_id: NodeId::new(index - 1),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            next_cursor: (index < 2).then(|| Cursor {
                topic_name: name("long"),
                partition_index: index + 1,
            }),
            ..Default::default()
        };
        reply(header, &answer)
    })
    .await;
    let client = cluster.client().await;
    let described = client.describe_topics(None).await.unwrap();
    let topic = described[&name("long")].as_ref().unwrap();
    let leaders: Vec<_> = topic.partitions.iter().map(|p| p.leader).collect();
    let expected = [None, Some(NodeId::new(0)), Some(NodeId::new(1))];
    assert_eq!(leaders, expected);
    assert_eq!(cluster.asked().len(), 3);
}

#[tokio::test]
async fn a_broker_that_repeats_a_page_is_not_asked_for_ever() {
    let cluster = Cluster::play(1, MODERN, |_, header, _| {
        let answer = DescribeTopicPartitionsResponse {
            next_cursor: Some(Cursor::default()),
            ..Default::default()
        };
        reply(header, &answer)
    })
    .await;
    let client = cluster.client().await;
    let error = client.describe_topics(None).await.unwrap_err();
    assert!(
        error.to_string().contains("lacks what was asked for"),
        "{error}"
    );
}

#[tokio::test]
async fn kafka_2_1_is_asked_in_its_own_words() {
    let ports = Arc::new(Mutex::new(Vec::new()));
    let known = ports.clone();
    let written = Arc::new(Mutex::new(None));
    let seen = written.clone();
    let cluster = Cluster::play(1, KAFKA_2_1, move |_, header, request| match request {
        Request::Metadata(_) => reply(header, &metadata(&known.lock(), 0)),
        Request::DeleteTopics(request) => {
            let names = request.topic_names.into_iter();
            let responses = names.map(|name| DeletableTopicResult {
                name: Some(name),
                error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ..Default::default()
            });
            let answer = DeleteTopicsResponse {
                responses: responses.collect(),
                ..Default::default()
            };
            reply(header, &answer)
        }
        Request::DescribeConfigs(_) => reply(header, &configs()),
        Request::AlterConfigs(request) => {
            *seen.lock() = Some(request);
            let answer = AlterConfigsResponse {
                responses: vec![AlterConfigsResourceResponse {
                    resource_type: 2,
                    resource_name: "old".into(),
                    ..Default::default()
                }],
                ..Default::default()
            };
            reply(header, &answer)
        }
        request => reply(header, &created(request, |_| ErrorCode::NONE)),
    })
    .await;
    *ports.lock() = cluster.ports.clone();
    let client = cluster.client().await;

    let vague = client.create_topics(&[NewTopic::new("old")], false).await;
    let error = vague.unwrap_err().to_string();
    assert!(error.contains("it has no defaults (KIP-464)"), "{error}");
    let exact = NewTopic::new("old").partitions(1).replication_factor(1);
    let results = client.create_topics(&[exact], true).await.unwrap();
    assert!(results[&name("old")].is_ok());

    // That the topic is not known is the answer, though the code is a retriable one.
    let results = client.delete_topics(&[name("lost")]).await.unwrap();
    let refused = results[&name("lost")].as_ref().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));

    let topic = ConfigResource::Topic(name("old"));
    let change = [("flush.ms".into(), ConfigChange::Set("7".into()))];
    let changes = [(topic.clone(), change.into())].into();
    let results = client.alter_configs(&changes, false).await.unwrap();
    assert!(results[&topic].is_ok());
    let written = written.lock().take().unwrap();
    let kept: Vec<_> = written.resources[0]
        .configs
        .iter()
        .map(|config| (config.name.as_str(), config.value.as_deref()))
        .collect();
    let expected = [("flush.ms", Some("7")), ("retention.ms", Some("1000"))];
    assert_eq!(kept, expected);

    let cluster_of = client
        .describe_cluster(EndpointType::Brokers)
        .await
        .unwrap();
    assert_eq!(cluster_of.controller, Some(NodeId::new(0)));
    let unserved = client.describe_quorum().await.unwrap_err().to_string();
    assert!(
        unserved.contains("does not serve DescribeQuorum"),
        "{unserved}"
    );
    let expected = [
        (0, ApiKey::CreateTopics, 3),
        (0, ApiKey::DeleteTopics, 3),
        (0, ApiKey::DescribeConfigs, 2),
        (0, ApiKey::AlterConfigs, 1),
    ];
    assert_eq!(cluster.asked(), expected);
}

fn configs() -> DescribeConfigsResponse {
    let entry =
        |name: &'static str, value: &'static str, config_source| DescribeConfigsResourceResult {
            name: Str::from_static(name),
            value: Some(Str::from_static(value)),
            config_source,
            ..Default::default()
        };
    DescribeConfigsResponse {
        results: vec![DescribeConfigsResult {
            resource_type: 2,
            resource_name: "old".into(),
            configs: vec![
                entry("retention.ms", "1000", 1),
                entry("segment.bytes", "4096", 4),
            ],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn behind_a_controller_listener_the_active_controller_is_asked() {
    let ports = Arc::new(Mutex::new(Vec::new()));
    let known = ports.clone();
    let cluster = Cluster::play(2, CONTROLLERS, move |_, header, request| match request {
        Request::DescribeCluster(request) => {
            assert_eq!(request.endpoint_type, 2);
            let nodes = (0..).zip(known.lock().clone());
            let nodes = nodes.map(|(id, port)| DescribeClusterBroker {
                broker_id: NodeId::new(id),
                host: "127.0.0.1".into(),
                port: i32::from(port),
                ..Default::default()
            });
            let answer = DescribeClusterResponse {
                endpoint_type: 2,
                controller_id: NodeId::new(1),
                brokers: nodes.collect(),
                ..Default::default()
            };
            reply(header, &answer)
        }
        request => reply(header, &created(request, |_| ErrorCode::NONE)),
    })
    .await;
    *ports.lock() = cluster.ports.clone();
    let client = cluster.client().await;
    let results = client.create_topics(&[NewTopic::new("new")], false).await;
    assert!(results.unwrap()[&name("new")].is_ok());
    assert_eq!(cluster.asked()[1..], [(1, ApiKey::CreateTopics, 7)]);
}
