//! The oldest broker that the client speaks with: one that has the APIs and versions of Kafka 2.1 and no others. The broker of the test
//! is behind a transport that lets nothing newer through.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tidelog_client::{
    Client, ClientError, Config, ConfigChange, ConfigResource, Connecting, ConsumeError, Consumer,
    ConsumerConfig, GroupProtocol, NewPartitions, NewTopic, OffsetReset, OffsetSpec, Producer,
    ProducerConfig, QuotaFilter, Stream, Transport,
};
use tidelog_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use tidelog_protocol::{ApiKey, Request, RequestHeader, Writer, encode_response, frame};
use tidelog_types::{ErrorCode, GroupId, Offset, TopicName, TopicPartition};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::{Server, record, text, unique};

const SOON: Duration = Duration::from_secs(30);

/// What a broker of Kafka 2.1.1 says that it has; the lowest version is 0 each time.
const KAFKA_2_1: &[(ApiKey, i16)] = &[
    (ApiKey::Produce, 7),
    (ApiKey::Fetch, 10),
    (ApiKey::ListOffsets, 4),
    (ApiKey::Metadata, 7),
    (ApiKey::OffsetCommit, 6),
    (ApiKey::OffsetFetch, 5),
    (ApiKey::FindCoordinator, 2),
    (ApiKey::JoinGroup, 3),
    (ApiKey::Heartbeat, 2),
    (ApiKey::LeaveGroup, 2),
    (ApiKey::SyncGroup, 2),
    (ApiKey::DescribeGroups, 2),
    (ApiKey::ListGroups, 2),
    (ApiKey::SaslHandshake, 1),
    (ApiKey::ApiVersions, 2),
    (ApiKey::CreateTopics, 3),
    (ApiKey::DeleteTopics, 3),
    (ApiKey::DeleteRecords, 1),
    (ApiKey::InitProducerId, 1),
    (ApiKey::OffsetForLeaderEpoch, 2),
    (ApiKey::DescribeAcls, 1),
    (ApiKey::CreateAcls, 1),
    (ApiKey::DeleteAcls, 1),
    (ApiKey::DescribeConfigs, 2),
    (ApiKey::AlterConfigs, 1),
    (ApiKey::AlterReplicaLogDirs, 1),
    (ApiKey::DescribeLogDirs, 1),
    (ApiKey::SaslAuthenticate, 0),
    (ApiKey::CreatePartitions, 1),
    (ApiKey::DeleteGroups, 1),
];

/// A transport that has nothing newer, and what was asked through it.
#[derive(Debug, Default)]
struct Old {
    asked: Mutex<BTreeMap<ApiKey, BTreeSet<i16>>>,
}

#[derive(Debug)]
struct Through(Arc<Old>);

impl Transport for Through {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let mut broker = TcpStream::connect(address).await?;
            broker.set_nodelay(true)?;
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let old = self.0.clone();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = tokio::io::split(theirs);
                let input = old.greet(&mut from_client, &mut to_client).await?;
                let (mut answers, mut requests) = broker.split();
                let there = old.let_through(input, &mut from_client, &mut requests);
                let back = tokio::io::copy(&mut answers, &mut to_client);
                tokio::select! {
                    there = there => there,
                    back = back => back.map(drop),
                }
            });
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

type FromClient = tokio::io::ReadHalf<tokio::io::DuplexStream>;

async fn next(client: &mut FromClient, input: &mut BytesMut) -> io::Result<Bytes> {
    loop {
        if let Some(frame) = frame::next_frame(input, 64 << 20).unwrap() {
            return Ok(frame);
        }
        if client.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

impl Old {
    /// Says what there is; in version 0, that the version is too new.
    async fn greet(
        &self,
        client: &mut FromClient,
        answers: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<BytesMut> {
        let mut input = BytesMut::new();
        loop {
            let (header, _) = Request::read_frame(next(client, &mut input).await?).unwrap();
            assert_eq!(header.api_key, ApiKey::ApiVersions);
            let is_known = header.api_version <= 2;
            let (version, error_code) = match is_known {
                true => (header.api_version, ErrorCode::NONE),
                false => (0, ErrorCode::UNSUPPORTED_VERSION),
            };
            let apis = KAFKA_2_1.iter();
            let answer = ApiVersionsResponse {
                error_code,
                api_keys: apis
                    .map(|(api_key, max_version)| ApiVersion {
                        api_key: *api_key,
                        min_version: 0,
                        max_version: *max_version,
                    })
                    .collect(),
                ..Default::default()
            };
            let mut writer = Writer::contiguous();
            encode_response(&mut writer, version, header.correlation_id, &answer).unwrap();
            answers
                .write_all(&writer.finish_contiguous().unwrap())
                .await?;
            if is_known {
                self.note(&header);
                return Ok(input);
            }
        }
    }

    async fn let_through(
        &self,
        mut input: BytesMut,
        client: &mut FromClient,
        broker: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        loop {
            let frame = next(client, &mut input).await?;
            let (header, _) = Request::read_frame(frame.clone()).unwrap();
            self.note(&header);
            broker
                .write_all(&(frame.len() as u32).to_be_bytes())
                .await?;
            broker.write_all(&frame).await?;
        }
    }

    fn note(&self, header: &RequestHeader) {
        let mut asked = self.asked.lock();
        let versions = asked.entry(header.api_key).or_default();
        versions.insert(header.api_version);
    }

    /// Every API was asked in the newest version that there is, and in no other.
    fn check(&self, apis: &[ApiKey]) {
        let asked = self.asked.lock();
        let newest: BTreeMap<ApiKey, i16> = KAFKA_2_1.iter().copied().collect();
        for (api, versions) in &*asked {
            let newest = newest.get(api).copied();
            let versions: Vec<i16> = versions.iter().copied().collect();
            assert_eq!(versions, Vec::from_iter(newest), "{api:?}");
        }
        for api in apis {
            assert!(asked.contains_key(api), "{api:?} was asked");
        }
    }
}

async fn client(server: &Server) -> (Client, Arc<Old>) {
    let old = Arc::new(Old::default());
    let mut config = Config::default();
    config.transport = Arc::new(Through(old.clone()));
    let client = Client::connect(server.address(), config).await.unwrap();
    (client, old)
}

#[tokio::test]
async fn kafka_2_1_takes_and_gives_records() {
    let server = Server::start().await;
    let topic = server.topic(2, &[]).await;
    let (client, old) = client(&server).await;
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    for n in 0..100 {
        let value = n.to_string();
        let record = record(&topic, &value).partition(n % 2);
        let delivery = producer.send(record).await.unwrap();
        assert_eq!(delivery.await.unwrap().offset.value(), i64::from(n / 2));
    }
    producer.close().await;

    let group = format!("old-{}", unique());
    let mut config = ConsumerConfig::group(group.as_str());
    config.offset_reset = OffsetReset::Earliest;
    // Where the broker does not divide partitions, a member does.
    config.group_protocol = GroupProtocol::Auto;
    config.heartbeat_interval = Duration::from_millis(50);
    let mut seen = BTreeSet::new();
    for half in [50, 100] {
        let mut consumer = Consumer::new(&client, config.clone()).unwrap();
        consumer
            .subscribe_matching(&topic.replace('-', "."))
            .unwrap();
        while seen.len() < half {
            let record = timeout(SOON, consumer.recv()).await.unwrap().unwrap();
            let n: i32 = text(record.value.as_ref()).parse().unwrap();
            assert!(seen.insert(n), "{n} comes once");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        consumer.close().await.unwrap();
    }
    let group = GroupId::from(group);
    let committed = client.committed_offsets(&group).await.unwrap();
    let offsets: i64 = committed.iter().map(|it| it.offset.value()).sum();
    assert_eq!(offsets, 100);
    old.check(&[
        ApiKey::ApiVersions,
        ApiKey::Metadata,
        ApiKey::InitProducerId,
        ApiKey::Produce,
        ApiKey::FindCoordinator,
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::Heartbeat,
        ApiKey::LeaveGroup,
        ApiKey::OffsetFetch,
        ApiKey::ListOffsets,
        ApiKey::Fetch,
        ApiKey::OffsetCommit,
    ]);
}

#[tokio::test]
async fn kafka_2_1_does_not_divide_partitions_and_who_insists_is_told() {
    let server = Server::start().await;
    let (client, _) = client(&server).await;
    let config = ConsumerConfig::group("insists");
    let mut consumer = Consumer::new(&client, config).unwrap();
    consumer.subscribe(&["topic"]).unwrap();
    let error = timeout(SOON, consumer.recv()).await.unwrap().unwrap_err();
    assert!(matches!(error, ConsumeError::Group { .. }), "{error}");
    assert!(error.to_string().contains("GroupProtocol::Auto"), "{error}");
}

#[tokio::test]
async fn kafka_2_1_is_looked_after() {
    let server = Server::start().await;
    let (client, old) = client(&server).await;
    let name = TopicName::from(format!("t{}", unique()));
    let topic = NewTopic::new(name.clone())
        .partitions(1)
        .replication_factor(1);
    let created = client.create_topics(&[topic], false).await.unwrap();
    created[&name].as_ref().unwrap();
    let more = [NewPartitions {
        topic: name.clone(),
        count: 2,
        assignments: None,
    }];
    let grown = client.create_partitions(&more, false).await.unwrap();
    grown[&name].as_ref().unwrap();
    let resource = ConfigResource::Topic(name.clone());
    let change = ("flush.ms".into(), ConfigChange::Set("7".into()));
    let changes = [(resource.clone(), [change].into())].into();
    let altered = client.alter_configs(&changes, false).await.unwrap();
    altered[&resource].as_ref().unwrap();
    let described = client
        .describe_configs(std::slice::from_ref(&resource), None, false)
        .await
        .unwrap();
    let configs = described[&resource].as_ref().unwrap();
    let flush = configs.iter().find(|it| it.name == "flush.ms").unwrap();
    assert_eq!(flush.value.as_deref(), Some("7"));

    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    for _ in 0..3 {
        let sent = producer.send(record(&name, "v").partition(0)).await;
        sent.unwrap().await.unwrap();
    }
    let partition = TopicPartition::new(name.clone(), 0);
    let before = [(partition.clone(), Some(Offset::new(2)))].into();
    let deleted = client.delete_records(&before).await.unwrap();
    deleted[&partition].as_ref().unwrap();
    let earliest = [(partition.clone(), OffsetSpec::Earliest)];
    let found = client.list_offsets(&earliest).await.unwrap();
    let found = found[&partition].as_ref().unwrap();
    assert_eq!(found.offset, Some(Offset::new(2)));

    let group = GroupId::from(format!("old-{}", unique()));
    let offsets = [(partition.clone(), Offset::new(3))].into();
    client.commit_offsets(&group, &offsets).await.unwrap();
    let committed = client.committed_offsets(&group).await.unwrap();
    assert_eq!(committed[0].offset, Offset::new(3));
    let described = client.describe_group(&group).await.unwrap().unwrap();
    assert_eq!(described.state, "Empty");
    let groups = client.list_groups(&[], &[]).await.unwrap();
    assert!(groups.iter().any(|it| it.group_id == group));
    client.delete_group(&group).await.unwrap();
    let node = client.brokers().await.unwrap()[0].id;
    let dirs = client.describe_log_dirs(&[node]).await.unwrap();
    assert!(!dirs[&node].as_ref().unwrap().is_empty());
    client.delete_topics(&[name]).await.unwrap();
    old.check(&[
        ApiKey::CreateTopics,
        ApiKey::CreatePartitions,
        ApiKey::AlterConfigs,
        ApiKey::DescribeConfigs,
        ApiKey::DeleteRecords,
        ApiKey::ListOffsets,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::DescribeGroups,
        ApiKey::ListGroups,
        ApiKey::DeleteGroups,
        ApiKey::DescribeLogDirs,
        ApiKey::DeleteTopics,
    ]);

    // What came later is said to be missing, by name.
    let missing = [
        (
            "DescribeClientQuotas",
            client
                .describe_client_quotas(&QuotaFilter::default())
                .await
                .map(drop),
        ),
        ("DescribeQuorum", client.describe_quorum().await.map(drop)),
        (
            "OffsetDelete",
            client.delete_offsets(&group, &[partition]).await.map(drop),
        ),
    ];
    for (api, answer) in missing {
        let error = answer.unwrap_err();
        assert!(matches!(error, ClientError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(api), "{error}");
    }
}
