//! Calls of an operator against clusters that are played by a script: which node is asked, in which version, and how often.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tidelog_client::{
    Acl, AclFilter, AclOperation, AclPatternFilter, AclPatternType, AclResourceType, Client,
    ClientError, Config, ConfigChange, ConfigResource, Consumer, ConsumerConfig, EndpointType,
    GroupProtocol, NewTopic, QuotaEntity, QuotaFilter, QuotaMatch, ScramChange, ScramMechanism,
};
use tidelog_protocol::messages::alter_client_quotas::{AlterClientQuotasResponse, EntryResult};
use tidelog_protocol::messages::alter_configs::{
    AlterConfigsResourceResponse, AlterConfigsResponse,
};
use tidelog_protocol::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
};
use tidelog_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use tidelog_protocol::messages::create_acls::{AclCreationResult, CreateAclsResponse};
use tidelog_protocol::messages::create_topics::{CreatableTopicResult, CreateTopicsResponse};
use tidelog_protocol::messages::delete_acls::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsResponse,
};
use tidelog_protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicsResponse};
use tidelog_protocol::messages::describe_client_quotas::{
    DescribeClientQuotasResponse, EntityData, EntryData, ValueData,
};
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
use tidelog_protocol::messages::find_coordinator::{Coordinator, FindCoordinatorResponse};
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

const SECURED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::ConsumerGroupHeartbeat, 0, 1),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::CreateAcls, 0, 3),
    (ApiKey::DeleteAcls, 0, 3),
    (ApiKey::DescribeClientQuotas, 0, 1),
    (ApiKey::AlterClientQuotas, 0, 1),
    (ApiKey::AlterUserScramCredentials, 0, 0),
];

/// One node with all of it, which answers what it is asked beside metadata by this script.
async fn secured(
    script: impl Fn(&RequestHeader, Request) -> Bytes + Send + Sync + 'static,
) -> (Arc<Cluster>, Client) {
    let ports = Arc::new(Mutex::new(Vec::new()));
    let known = ports.clone();
    let cluster = Cluster::play(1, SECURED, move |_, header, request| match request {
        Request::Metadata(_) => reply(header, &metadata(&known.lock(), 0)),
        request => script(header, request),
    });
    let cluster = cluster.await;
    ports.lock().clone_from(&cluster.ports);
    let client = cluster.client().await;
    (cluster, client)
}

#[tokio::test]
async fn acls_have_a_result_each() {
    let (_cluster, client) = secured(|header, request| match request {
        Request::CreateAcls(request) => {
            let results = request.creations.iter().map(|acl| AclCreationResult {
                error_code: match acl.principal.as_str() {
                    "User:alice" => ErrorCode::NONE,
                    _ => ErrorCode::INVALID_REQUEST,
                },
                ..Default::default()
            });
            let results = results.collect();
            let answer = CreateAclsResponse {
                results,
                ..Default::default()
            };
            reply(header, &answer)
        }
        Request::DeleteAcls(request) => {
            let filter = &request.filters[0];
            assert_eq!(
                (filter.pattern_type_filter, filter.operation),
                (2, 1),
                "matching, any operation"
            );
            let matching = DeleteAclsMatchingAcl {
                resource_type: 2,
                resource_name: "ord".into(),
                pattern_type: 4,
                principal: "User:alice".into(),
                host: "*".into(),
                operation: 99,
                permission_type: 3,
                ..Default::default()
            };
            let answer = DeleteAclsResponse {
                filter_results: vec![
                    DeleteAclsFilterResult {
                        matching_acls: vec![matching],
                        ..Default::default()
                    },
                    DeleteAclsFilterResult {
                        error_code: ErrorCode::SECURITY_DISABLED,
                        ..Default::default()
                    },
                ],
                ..Default::default()
            };
            reply(header, &answer)
        }
        other => panic!("not expected: {other:?}"),
    })
    .await;
    let acl = |who: &str| Acl::allow(who, AclOperation::Read, AclResourceType::Topic, "orders");
    let acls = [acl("User:bob"), acl("User:alice")];
    let created = client.create_acls(&acls).await.unwrap();
    assert!(created[&acl("User:alice")].is_ok());
    let error = created[&acl("User:bob")].as_ref().unwrap_err().to_string();
    assert!(
        error.starts_with("ALLOW User:bob READ on TOPIC orders: "),
        "{error}"
    );
    let filter = AclFilter {
        resource_type: Some(AclResourceType::Topic),
        resource_name: Some("orders".into()),
        pattern: AclPatternFilter::Match,
        ..Default::default()
    };
    let deleted = client.delete_acls(&[filter, AclFilter::default()]).await;
    let deleted = deleted.unwrap();
    let [Ok(first), Err(second)] = &deleted[..] else {
        panic!("{deleted:?}")
    };
    let (gone, result) = first.first_key_value().unwrap();
    assert!(result.is_ok());
    // What this version does not know survives.
    assert_eq!(gone.operation, AclOperation::Other(99));
    assert_eq!(gone.pattern_type, AclPatternType::Prefixed);
    assert_eq!(second.code(), Some(ErrorCode::SECURITY_DISABLED));
    let error = client.describe_acls(&AclFilter::default()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ClientError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("does not serve DescribeAcls"));
}

#[tokio::test]
async fn quotas_are_of_entities_with_parts() {
    let (_cluster, client) = secured(|header, request| match request {
        Request::DescribeClientQuotas(request) => {
            let part = &request.components[0];
            assert_eq!((part.entity_type.as_str(), part.match_type), ("user", 2));
            let part = |entity_type: &str, name: Option<&str>| EntityData {
                entity_type: entity_type.into(),
                entity_name: name.map(Str::from),
            };
            let entry = EntryData {
                entity: vec![part("client-id", None), part("user", Some("alice"))],
                values: vec![ValueData {
                    key: "request_percentage".into(),
                    value: 12.5,
                }],
            };
            let answer = DescribeClientQuotasResponse {
                entries: Some(vec![entry]),
                ..Default::default()
            };
            reply(header, &answer)
        }
        Request::AlterClientQuotas(request) => {
            assert!(request.validate_only);
            let entries = request.entries.into_iter().map(|entry| EntryResult {
                error_code: match entry.ops[0].remove {
                    true => ErrorCode::NONE,
                    false => ErrorCode::INVALID_REQUEST,
                },
                entity: entry.entity,
                ..Default::default()
            });
            let answer = AlterClientQuotasResponse {
                entries: entries.collect(),
                ..Default::default()
            };
            reply(header, &answer)
        }
        other => panic!("not expected: {other:?}"),
    })
    .await;
    let filter = QuotaFilter {
        parts: [(Str::from("user"), QuotaMatch::Any)].into(),
        strict: false,
    };
    let quotas = client.describe_client_quotas(&filter).await.unwrap();
    let alice = QuotaEntity::default()
        .user(Some("alice".into()))
        .client_id(None);
    assert_eq!(quotas[&alice]["request_percentage"], 12.5);
    assert_eq!(alice.to_string(), "user alice, default client-id");
    let nobody = QuotaEntity::default().ip(None);
    let change = |value| [(Str::from("x"), value)].into();
    let changes = [
        (alice.clone(), change(None)),
        (nobody.clone(), change(Some(1.0))),
    ];
    let done = client.alter_client_quotas(&changes.into(), true).await;
    let done = done.unwrap();
    assert!(done[&alice].is_ok());
    let error = done[&nobody].as_ref().unwrap_err().to_string();
    assert!(error.starts_with("default ip: "), "{error}");
}

#[tokio::test]
async fn a_password_does_not_leave_the_client() {
    let (_cluster, client) = secured(|header, request| {
        let Request::AlterUserScramCredentials(request) = request else {
            panic!("not expected: {request:?}")
        };
        let mut results = Vec::new();
        for set in request.upsertions {
            assert_eq!((set.mechanism, set.iterations), (1, 4096));
            let salted = pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(b"hush", &set.salt, 4096);
            assert_eq!(&set.salted_password[..], salted);
            assert!(set.salt.len() >= 16);
            results.push((set.name, ErrorCode::NONE));
        }
        for deleted in request.deletions {
            assert_eq!(deleted.mechanism, 2);
            results.push((deleted.name, ErrorCode::RESOURCE_NOT_FOUND));
        }
        let results =
            results
                .into_iter()
                .map(|(user, error_code)| AlterUserScramCredentialsResult {
                    user,
                    error_code,
                    ..Default::default()
                });
        let answer = AlterUserScramCredentialsResponse {
            results: results.collect(),
            ..Default::default()
        };
        reply(header, &answer)
    })
    .await;
    let set = |password: &str, iterations| ScramChange::Set {
        password: password.into(),
        iterations,
    };
    let alice = (Str::from("alice"), ScramMechanism::Sha256);
    let bob = (Str::from("bob"), ScramMechanism::Sha512);
    let changes = [
        (alice.clone(), set("hush", 4096)),
        (bob, ScramChange::Delete),
    ]
    .into();
    assert!(!format!("{changes:?}").contains("hush"));
    let done = client.alter_scram_users(&changes).await.unwrap();
    assert!(done["alice"].is_ok());
    let code = done["bob"].as_ref().unwrap_err().code();
    assert_eq!(code, Some(ErrorCode::RESOURCE_NOT_FOUND));
    for wrong in [set("", 4096), set("hush", 100_000)] {
        let changes = [(alice.clone(), wrong)].into();
        let error = client.alter_scram_users(&changes).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UNACCEPTABLE_CREDENTIAL));
    }
}

#[tokio::test]
async fn a_group_that_is_denied_is_said_so() {
    for protocol in [GroupProtocol::Consumer, GroupProtocol::Classic] {
        let (_cluster, client) = secured(|header, request| match request {
            Request::FindCoordinator(_) => {
                let denied = Coordinator {
                    error_code: ErrorCode::GROUP_AUTHORIZATION_FAILED,
                    ..Default::default()
                };
                let answer = FindCoordinatorResponse {
                    coordinators: vec![denied],
                    ..Default::default()
                };
                reply(header, &answer)
            }
            other => panic!("not expected: {other:?}"),
        })
        .await;
        let mut config = ConsumerConfig::default();
        config.group_id = Some("readers".into());
        config.group_protocol = protocol;
        let mut consumer = Consumer::new(&client, config).unwrap();
        consumer.subscribe(&["orders"]).unwrap();
        let error = consumer.recv().await.unwrap_err().to_string();
        assert!(
            error.contains("needs the right to READ the group"),
            "{error}"
        );
    }
}
