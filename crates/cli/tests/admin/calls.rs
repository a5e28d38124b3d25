//! The client's calls for operators against a broker: each once with what it takes, and once with what it refuses.

use std::collections::BTreeMap;

use tidelog_client::{
    Client, ClientError, Config, ConfigChange, ConfigEntry, ConfigResource, ConfigSource,
    ElectionType, EndpointType, FeatureUpgrade, LogDir, NewPartitions, NewTopic,
};
use tidelog_types::{ErrorCode, GroupId, NodeId, Offset, Str, TopicName, TopicPartition};

use crate::support::{Server, eventually, fresh, produce};

async fn start() -> (Server, Client) {
    let server = Server::start().await;
    let client = Client::connect(server.address(), Config::default());
    let client = client.await.unwrap();
    (server, client)
}

fn code<T>(result: &Result<T, ClientError>) -> Option<ErrorCode> {
    result.as_ref().err().and_then(ClientError::code)
}

fn is_sent<F: Future + Send>(future: F) -> F {
    future
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_extended_and_deleted() {
    let (server, client) = start().await;
    let name = TopicName::from(fresh("admin-topics"));
    let topic = NewTopic::new(name.clone()).config("retention.ms", "1000");
    let wrong = NewTopic::new(fresh("admin-wrong")).replication_factor(9);
    let wanted = [topic.clone(), wrong.clone()];

    let checked = is_sent(client.create_topics(&wanted, true)).await.unwrap();
    assert!(checked[&name].is_ok(), "{checked:?}");
    let listed = client.list_topics().await.unwrap();
    assert!(listed.iter().all(|topic| topic.name != name));

    let results = client.create_topics(&wanted, false).await.unwrap();
    let created = results[&name].as_ref().unwrap();
    assert!(created.topic_id.is_some());
    assert_eq!(created.partitions, Some(1));
    let refused = &results[&wrong.name];
    assert_eq!(code(refused), Some(ErrorCode::INVALID_REPLICATION_FACTOR));
    let again = client.create_topics(&[topic], false).await.unwrap();
    assert_eq!(code(&again[&name]), Some(ErrorCode::TOPIC_ALREADY_EXISTS));

    let more = |count| NewPartitions {
        topic: name.clone(),
        count,
        assignments: None,
    };
    let fewer = client.create_partitions(&[more(1)], false).await.unwrap();
    assert_eq!(code(&fewer[&name]), Some(ErrorCode::INVALID_PARTITIONS));
    let grown = client.create_partitions(&[more(3)], false).await.unwrap();
    assert!(grown[&name].is_ok(), "{grown:?}");

    let lost = TopicName::from("admin-lost");
    let asked = [name.clone(), lost.clone()];
    let described = eventually(
        async || client.describe_topics(Some(&asked)).await.unwrap(),
        |all| {
            let topic = all[&name].as_ref();
            topic.is_ok_and(|topic| topic.partitions.len() == 3)
        },
    );
    let described = described.await;
    let topic = described[&name].as_ref().unwrap();
    assert_eq!(topic.topic_id, created.topic_id);
    assert_eq!(topic.partitions.len(), 3);
    assert_eq!(topic.partitions[2].isr, topic.partitions[2].replicas);
    let unknown = Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(&described[&lost]), unknown);
    assert!(
        client
            .describe_topics(None)
            .await
            .unwrap()
            .contains_key(&name)
    );
    assert!(client.describe_topics(Some(&[])).await.unwrap().is_empty());

    let deleted = client.delete_topics(&asked).await.unwrap();
    assert!(deleted[&name].is_ok());
    assert_eq!(code(&deleted[&lost]), unknown);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_are_told_with_their_sources_and_changed_one_by_one() {
    let (server, client) = start().await;
    let name = TopicName::from(fresh("admin-configs"));
    let topic = NewTopic::new(name.clone()).config("segment.bytes", "2000000");
    client.create_topics(&[topic], false).await.unwrap();
    let topic = ConfigResource::Topic(name.clone());
    let change = |changes: &[(&'static str, ConfigChange)]| {
        let changes = changes.iter();
        let changes = changes.map(|(name, change)| (Str::from_static(name), change.clone()));
        BTreeMap::from([(topic.clone(), changes.collect())])
    };

    let changes = change(&[
        ("retention.ms", ConfigChange::Set("1234".into())),
        ("cleanup.policy", ConfigChange::Append("compact".into())),
    ]);
    let checked = client.alter_configs(&changes, true).await.unwrap();
    assert!(checked[&topic].is_ok(), "{checked:?}");
    let wanted = ["retention.ms", "cleanup.policy", "segment.bytes"].map(Str::from_static);
    let before = entries(&client, &topic, &wanted).await;
    assert_eq!(before["retention.ms"].source, ConfigSource::Default);
    assert_eq!(before["segment.bytes"].source, ConfigSource::Topic);
    assert_eq!(before["segment.bytes"].config_type, Some("INT"));

    let altered = is_sent(client.alter_configs(&changes, false))
        .await
        .unwrap();
    assert!(altered[&topic].is_ok(), "{altered:?}");
    let undone = change(&[("segment.bytes", ConfigChange::Unset)]);
    client.alter_configs(&undone, false).await.unwrap();
    let altered = eventually(
        async || entries(&client, &topic, &wanted).await,
        |entries| entries["segment.bytes"].source != ConfigSource::Topic,
    );
    let altered = altered.await;
    let retention = &altered["retention.ms"];
    assert_eq!(retention.value.as_deref(), Some("1234"));
    assert_eq!(retention.source, ConfigSource::Topic);
    assert!(retention.documentation.is_some());
    let policy = &altered["cleanup.policy"];
    assert_eq!(policy.value.as_deref(), Some("delete,compact"));
    let inherited = policy.inherited(&topic).unwrap();
    assert_eq!(inherited.name, "log.cleanup.policy");
    assert_eq!(inherited.value.as_deref(), Some("delete"));
    assert_ne!(altered["segment.bytes"].source, ConfigSource::Topic);

    let wrong = change(&[("retention.ms", ConfigChange::Set("soon".into()))]);
    let refused = client.alter_configs(&wrong, false).await.unwrap();
    assert_eq!(code(&refused[&topic]), Some(ErrorCode::INVALID_CONFIG));
    client.delete_topics(&[name]).await.unwrap();
    server.stop().await;
}

/// The configs of these names.
async fn entries(
    client: &Client,
    resource: &ConfigResource,
    names: &[Str],
) -> BTreeMap<Str, ConfigEntry> {
    let resources = std::slice::from_ref(resource);
    let described = client.describe_configs(resources, Some(names), true).await;
    let entries = described.unwrap().remove(resource).unwrap().unwrap();
    entries
        .into_iter()
        .map(|entry| (entry.name.clone(), entry))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_and_groups_have_configs_too() {
    let (server, client) = start().await;
    let brokers = client.brokers().await.unwrap();
    let broker = ConfigResource::Broker(brokers[0].id);
    let name = Str::from_static("log.cleaner.threads");
    let names = std::slice::from_ref(&name);
    let all = entries(&client, &broker, names).await;
    assert_eq!(all[&name].value.as_deref(), Some("1"));

    let nobody = ConfigResource::Broker(NodeId::new(77));
    let error = client.describe_configs(&[nobody], None, false).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("broker 77: the cluster has no such broker"),
        "{error}"
    );

    let group = ConfigResource::Group(GroupId::from(fresh("admin-group")));
    let timeout = Str::from_static("consumer.session.timeout.ms");
    let set = [(timeout.clone(), ConfigChange::Set("50000".into()))];
    let changes = [(group.clone(), set.into())].into();
    let altered = client.alter_configs(&changes, false).await.unwrap();
    assert!(altered[&group].is_ok(), "{altered:?}");
    let source = eventually(
        async || entries(&client, &group, std::slice::from_ref(&timeout)).await[&timeout].source,
        |source| *source == ConfigSource::Group,
    );
    assert_eq!(source.await, ConfigSource::Group);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_from_the_front() {
    let (server, client) = start().await;
    let name = TopicName::from(fresh("admin-records"));
    let topic = NewTopic::new(name.clone()).partitions(2);
    client.create_topics(&[topic], false).await.unwrap();
    let partition = |index| TopicPartition::new(name.clone(), index);
    produce(&client, &name, 0, 5, 1000).await;
    produce(&client, &name, 1, 4, 1000).await;

    let before = [
        (partition(0), Some(Offset::new(3))),
        (partition(1), None),
        (partition(7), None),
    ];
    let deleted = is_sent(client.delete_records(&before.into()))
        .await
        .unwrap();
    assert_eq!(*deleted[&partition(0)].as_ref().unwrap(), Offset::new(3));
    assert_eq!(*deleted[&partition(1)].as_ref().unwrap(), Offset::new(4));
    let unknown = Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(&deleted[&partition(7)]), unknown);

    let beyond = [(partition(0), Some(Offset::new(6)))];
    let refused = client.delete_records(&beyond.into()).await.unwrap();
    let out_of_range = Some(ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(code(&refused[&partition(0)]), out_of_range);
    client.delete_topics(&[name]).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_described() {
    let (server, client) = start().await;
    let cluster = is_sent(client.describe_cluster(EndpointType::Brokers))
        .await
        .unwrap();
    assert!(cluster.cluster_id.is_some());
    let [node] = &cluster.nodes[..] else {
        panic!("{cluster:?}")
    };
    assert_eq!(cluster.controller, Some(node.broker.id));
    assert_eq!(node.broker.address(), server.address());
    let elsewhere = client.describe_cluster(EndpointType::Controllers).await;
    assert_eq!(code(&elsewhere), Some(ErrorCode::MISMATCHED_ENDPOINT_TYPE));

    let features = client.features().await.unwrap();
    let (lowest, highest) = features.supported["metadata.version"];
    assert!((lowest..=highest).contains(&features.finalized["metadata.version"]));
    server.stop().await;
}

/// What Kafka serves and ours not yet reads so.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_said_so() {
    let (server, client) = start().await;
    let name = TopicName::from(fresh("admin-replicas"));
    let topic = NewTopic::new(name.clone());
    client.create_topics(&[topic], false).await.unwrap();
    let node = client.brokers().await.unwrap()[0].id;
    let partition = TopicPartition::new(name.clone(), 0);

    if let Some(quorum) = served(&server, client.describe_quorum().await, "DescribeQuorum") {
        assert_eq!(quorum.leader, Some(quorum.voters[0].id));
        assert!(quorum.high_watermark > Offset::ZERO);
    }
    let holds = |dirs: &Option<Vec<LogDir>>| {
        let mut replicas = dirs.iter().flatten().flat_map(|dir| &dir.replicas);
        replicas.any(|replica| replica.partition == partition)
    };
    let dirs = async || {
        let mut dirs = is_sent(client.describe_log_dirs(&[node])).await.unwrap();
        served(&server, dirs.remove(&node).unwrap(), "DescribeLogDirs")
    };
    let dirs = eventually(dirs, |dirs| dirs.is_none() || holds(dirs)).await;
    assert!(dirs.is_none() || holds(&dirs), "{dirs:?}");
    let partitions = std::slice::from_ref(&partition);
    let elected = client.elect_leaders(ElectionType::Preferred, Some(partitions));
    if let Some(elected) = served(&server, elected.await, "ElectLeaders") {
        let needless = Some(ErrorCode::ELECTION_NOT_NEEDED);
        assert_eq!(code(&elected[&partition]), needless);
    }
    let moves = [(partition.clone(), Some(vec![NodeId::new(77)]))].into();
    let moved = is_sent(client.alter_reassignments(&moves)).await;
    if let Some(moved) = served(&server, moved, "AlterPartitionReassignments") {
        let invalid = Some(ErrorCode::INVALID_REPLICA_ASSIGNMENT);
        assert_eq!(code(&moved[&partition]), invalid);
    }
    let moves = client.list_reassignments(None).await;
    if let Some(moves) = served(&server, moves, "ListPartitionReassignments") {
        assert!(moves.is_empty());
    }
    let levels = [(Str::from_static("metadata.version"), 9999)].into();
    let upgrade = FeatureUpgrade::Upgrade;
    let updated = is_sent(client.update_features(&levels, upgrade, true)).await;
    let error = updated.unwrap_err();
    match error.code() {
        Some(code) => assert_eq!(code, ErrorCode::INVALID_UPDATE_VERSION, "{error}"),
        None => drop(served::<()>(&server, Err(error), "UpdateFeatures")),
    }
    client.delete_topics(&[name]).await.unwrap();
    server.stop().await;
}

/// The answer, unless it is one of ours that says which API it does not serve.
fn served<T>(server: &Server, answer: Result<T, ClientError>, api: &str) -> Option<T> {
    match answer {
        Err(ClientError::Unsupported { api: unserved, .. }) if server.is_ours() => {
            assert_eq!(unserved, api);
            None
        }
        answer => Some(answer.unwrap_or_else(|error| panic!("{api}: {error}"))),
    }
}
