//! Calls without a connection: what they answer, and that it is what a client is answered.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use tidelog_broker::{
    Broker, Codec, ErrorCode, NewRecord, NewTopic, Offset, Records, RequestError, Timestamp,
};
use tidelog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidelog_record::BatchBuilder;
use tidelog_types::Uuid;

use crate::client::{Client, soon};
use crate::ops::{ALL, Topic, create_topic_request, fetch_request, produce_request, values};
use crate::server::builder;

/// What a step of the script is answered: the error if there is one, else what was asked for.
type Answer = Result<Vec<(i64, String)>, i16>;

/// A way to ask a broker.
enum Asker<'a> {
    Client(Box<Client>),
    Direct(&'a Broker),
}

impl Asker<'_> {
    async fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Answer {
        match self {
            Self::Client(client) => {
                let request = create_topic_request(name, partitions, 1, configs);
                let answer = client.ask(&request).await;
                answer_of(answer.topics[0].error_code, Vec::new())
            }
            Self::Direct(broker) => {
                let topic = NewTopic::new(name).partitions(partitions);
                let topic = configs
                    .iter()
                    .fold(topic, |topic, (key, value)| topic.config(*key, *value));
                answered(broker.create_topic(topic).await, |_| Vec::new())
            }
        }
    }

    async fn delete(&mut self, name: &str) -> Answer {
        match self {
            Self::Client(client) => {
                let request = DeleteTopicsRequest {
                    topics: vec![DeleteTopicState {
                        name: Some(name.into()),
                        ..Default::default()
                    }],
                    timeout_ms: 30_000,
                    ..Default::default()
                };
                let answer = client.ask(&request).await;
                answer_of(answer.responses[0].error_code, Vec::new())
            }
            Self::Direct(broker) => answered(broker.delete_topic(name).await, |()| Vec::new()),
        }
    }

    async fn produce(&mut self, name: &str, partition: i32, records: &[(&str, i64)]) -> Answer {
        match self {
            Self::Client(client) => {
                let mut batch = BatchBuilder::new(Codec::None.into());
                for (value, timestamp) in records {
                    let timestamp = Timestamp::from_millis(*timestamp);
                    batch.push(timestamp, Some(b"key"), Some(value.as_bytes()), &[]);
                }
                let batch = batch.build().unwrap().bytes().clone();
                let request = produce_request(&named(name), ALL, &[(partition, batch)]);
                let answer = client.call(12, &request).await;
                let answer = &answer.responses[0].partition_responses[0];
                answer_of(answer.error_code, at(answer.base_offset))
            }
            Self::Direct(broker) => {
                let records = records.iter().map(|(value, timestamp)| {
                    let record = NewRecord::value(*value).key("key");
                    record.timestamp(Timestamp::from_millis(*timestamp))
                });
                let appended = broker.topic(name).produce(partition, records).await;
                answered(appended, |appended| at(appended.base_offset))
            }
        }
    }

    async fn read(&mut self, name: &str, partition: i32, from: i64) -> Answer {
        match self {
            Self::Client(client) => {
                let mut request = fetch_request(&named(name), &[(partition, from)]);
                request.session_epoch = -1;
                let answer = client.call(12, &request).await;
                let data = &answer.responses[0].partitions[0];
                answer_of(data.error_code, values(data))
            }
            Self::Direct(broker) => {
                let mut records = broker.topic(name).records(partition, Offset::new(from));
                let mut read = Vec::new();
                loop {
                    match records.try_next().await {
                        Ok(Some(record)) => {
                            let value = record.value.unwrap_or_default();
                            let value = String::from_utf8(value.to_vec()).unwrap();
                            read.push((record.offset.value(), value));
                        }
                        Ok(None) => return Ok(read),
                        Err(error) => return Err(code(&error)),
                    }
                }
            }
        }
    }

    async fn offset(&mut self, name: &str, timestamp: i64) -> Answer {
        match self {
            Self::Client(client) => {
                let answer = client.list_offset(&named(name), 0, timestamp).await;
                answer_of(answer.error_code, at(answer.offset))
            }
            Self::Direct(broker) => {
                let topic = broker.topic(name);
                let offset = match timestamp {
                    -1 => topic.offsets(0).await.map(|offsets| offsets.latest),
                    -2 => topic.offsets(0).await.map(|offsets| offsets.earliest),
                    other => topic
                        .offset_for_timestamp(0, Timestamp::from_millis(other))
                        .await
                        .map(|found| found.unwrap_or(Offset::NONE)),
                };
                answered(offset, at)
            }
        }
    }
}

impl Client {
    /// A topic that exists.
    async fn known(&mut self, name: &str) -> Topic {
        Topic {
            name: name.into(),
            id: self.describe(name).await.topic_id,
        }
    }
}

/// A topic by its name only.
fn named(name: &str) -> Topic {
    Topic {
        name: name.into(),
        id: Uuid::ZERO,
    }
}

fn at(offset: Offset) -> Vec<(i64, String)> {
    vec![(offset.value(), String::new())]
}

fn answer_of(code: ErrorCode, content: Vec<(i64, String)>) -> Answer {
    match code {
        ErrorCode::NONE => Ok(content),
        code => Err(code.code()),
    }
}

fn code(error: &RequestError) -> i16 {
    error.code().unwrap_or_else(|| panic!("{error}")).code()
}

fn answered<T>(
    result: Result<T, RequestError>,
    show: impl FnOnce(T) -> Vec<(i64, String)>,
) -> Answer {
    result.map(show).map_err(|error| code(&error))
}

/// Everything that can be asked directly, right and wrong.
async fn script(asker: &mut Asker<'_>) -> Vec<Answer> {
    let long = "x".repeat(2000);
    vec![
        asker.create("orders", 2, &[]).await,
        asker.create("orders", 2, &[]).await,
        asker.create("or ders", 1, &[]).await,
        asker.create("none", 0, &[]).await,
        asker
            .create("strange", 1, &[("retention.ms", "soon")])
            .await,
        asker
            .create("compacted", 1, &[("cleanup.policy", "compact")])
            .await,
        asker
            .create("small", 1, &[("max.message.bytes", "1000")])
            .await,
        asker
            .produce("orders", 0, &[("a", 1000), ("b", 2000)])
            .await,
        asker.produce("orders", 0, &[("c", 3000)]).await,
        asker.produce("orders", 1, &[("d", 4000)]).await,
        asker.produce("orders", 2, &[("e", 5000)]).await,
        asker.produce("orders", -1, &[("e", 5000)]).await,
        asker.produce("nothing", 0, &[("e", 5000)]).await,
        asker.produce("small", 0, &[(&long, 5000)]).await,
        asker.produce("__consumer_offsets", 0, &[("e", 1)]).await,
        asker.read("orders", 0, 0).await,
        asker.read("orders", 0, 2).await,
        asker.read("orders", 0, 3).await,
        asker.read("orders", 0, 4).await,
        asker.read("orders", 0, -7).await,
        asker.read("orders", 1, 0).await,
        asker.read("orders", 2, 0).await,
        asker.read("nothing", 0, 0).await,
        asker.offset("orders", -1).await,
        asker.offset("orders", -2).await,
        asker.offset("orders", 2000).await,
        asker.offset("orders", 3001).await,
        asker.offset("nothing", -1).await,
        asker.delete("orders").await,
        asker.delete("orders").await,
        asker.read("orders", 0, 0).await,
        asker.create("orders", 1, &[]).await,
        asker.read("orders", 0, 0).await,
    ]
}

#[tokio::test]
async fn a_script_is_answered_alike_over_tcp_in_memory_and_directly() {
    let start = || async { builder().start().await.unwrap() };
    let broker = start().await;
    let client = Client::connect(&broker.bootstrap_servers()).await;
    let tcp = soon(script(&mut Asker::Client(Box::new(client)))).await;
    let broker = start().await;
    let client = Client::over(broker.connect().await.unwrap());
    let memory = soon(script(&mut Asker::Client(Box::new(client)))).await;
    let broker = start().await;
    let direct = soon(script(&mut Asker::Direct(&broker))).await;
    assert_eq!(tcp, memory);
    assert_eq!(tcp, direct);
    let refused = tcp.iter().filter(|answer| answer.is_err()).count();
    assert_eq!((tcp.len(), refused), (33, 16));
}

#[tokio::test]
async fn records_come_as_they_are_appended() {
    let broker = builder().no_ports().start().await.unwrap();
    let topic = broker.create_topic("tail").await.unwrap();
    let mut records = topic.records(0, Offset::ZERO);
    assert_eq!(records.try_next().await, Ok(None));
    // One that is given up while it waits loses nothing.
    let given_up = tokio::time::timeout(Duration::from_millis(1), records.next()).await;
    assert!(given_up.is_err());
    let mut client = Client::over(broker.connect().await.unwrap());
    let by_client = client.known("tail").await;
    let (next, base_offset) = tokio::join!(
        soon(records.next()),
        client.put(&by_client, 0, &["one", "two"])
    );
    assert_eq!((next.unwrap().offset, base_offset), (Offset::ZERO, 0));
    topic
        .clone()
        .compression(Codec::Zstd.into())
        .acks_leader()
        .produce(0, ["three", "four"])
        .await
        .unwrap();
    // In the middle of a batch.
    let mut later = topic.records(0, Offset::new(3));
    assert_eq!(later.next().await.unwrap().value.unwrap(), "four");
    let mut values = Vec::new();
    while let Some(record) = records.try_next().await.unwrap() {
        values.push(record.value.unwrap());
    }
    assert_eq!(values, ["two", "three", "four"]);
    assert_eq!(records.position(), Offset::new(4));
    assert_eq!((topic.name(), topic.partitions()), ("tail", Ok(1)));
}

#[tokio::test]
async fn records_are_a_stream_that_ends_with_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let on_disk = || builder().data_dir(dir.path()).no_ports();
    let broker = on_disk().start().await.unwrap();
    let topic = broker.create_topic("stream").await.unwrap();
    let mut records = topic.records(0, Offset::ZERO);
    let poll = async |records: &mut Records| {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *records).poll_next(cx))).await
    };
    assert!(poll(&mut records).await.is_pending());
    topic.produce(0, ["one", "two"]).await.unwrap();
    // Who waits as a stream may go on otherwise, and the other way round.
    assert_eq!(records.next().await.unwrap().value.unwrap(), "one");
    let next = soon(poll_fn(|cx| Pin::new(&mut records).poll_next(cx))).await;
    assert_eq!(next.unwrap().unwrap().value.unwrap(), "two");
    assert!(poll(&mut records).await.is_pending());
    let mut gone = topic.records(0, Offset::new(9));
    let next = soon(poll_fn(|cx| Pin::new(&mut gone).poll_next(cx))).await;
    let out_of_range = Err(ErrorCode::OFFSET_OUT_OF_RANGE.into());
    assert_eq!(next.unwrap(), out_of_range);
    // One that waits and is not looked at holds nobody up.
    soon(broker.shutdown()).await.unwrap();
    let again = on_disk().start().await.unwrap();
    let next = soon(poll_fn(|cx| Pin::new(&mut records).poll_next(cx))).await;
    assert_eq!(next, Some(Err(RequestError::Stopped)));
    assert_eq!(poll(&mut records).await, Poll::Ready(None));
    soon(again.shutdown()).await.unwrap();
}

#[tokio::test]
async fn whoever_waits_is_told_when_the_broker_stops() {
    let broker = builder().start().await.unwrap();
    let topic = broker.create_topic("tail").await.unwrap();
    let mut records = topic.records(0, Offset::ZERO);
    let waiting = tokio::spawn(async move { records.next().await });
    tokio::task::yield_now().await;
    soon(broker.shutdown()).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap(), Err(RequestError::Stopped));
    let stopped = Err(RequestError::Stopped);
    assert_eq!(topic.produce(0, ["late"]).await.map(|_| ()), stopped);
    assert_eq!(topic.partitions().map(|_| ()), stopped);
}

#[tokio::test]
async fn what_was_appended_directly_survives_in_a_directory_and_a_temporary_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let on_disk = || builder().data_dir(dir.path()).no_ports();
    let broker = on_disk().start().await.unwrap();
    let topic = broker.create_topic("kept").await.unwrap();
    topic.produce(0, [("key", "value")]).await.unwrap();
    // As a crash would.
    drop(broker);
    let again = soon(async {
        loop {
            match on_disk().start().await {
                Ok(broker) => return broker,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let again = again.await;
    let mut records = again.topic("kept").records(0, Offset::ZERO);
    let record = soon(records.next()).await.unwrap();
    assert_eq!(
        (record.key.unwrap(), record.value.unwrap()),
        ("key".into(), "value".into())
    );

    let parent = tempfile::tempdir().unwrap();
    let entries = || std::fs::read_dir(parent.path()).unwrap().count();
    let temporary = builder().temporary_in(parent.path()).start().await.unwrap();
    temporary.create_topic("gone").await.unwrap();
    assert_eq!(entries(), 1);
    soon(temporary.shutdown()).await.unwrap();
    assert_eq!(entries(), 0);
}

#[tokio::test]
async fn what_happens_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = builder().data_dir(dir.path()).start().await.unwrap();
    let before = broker.metrics();
    assert_eq!((before.connections, before.partitions), (0, 0));
    let topic = broker
        .create_topic(NewTopic::new("counted").partitions(3))
        .await
        .unwrap();
    topic.produce(1, ["one", "two"]).await.unwrap();
    let mut client = Client::over(broker.connect().await.unwrap());
    let by_client = client.known("counted").await;
    client.put(&by_client, 0, &["three"]).await;
    let metrics = broker.metrics();
    assert_eq!((metrics.connections, metrics.connections_accepted), (1, 1));
    assert_eq!((metrics.topics, metrics.partitions), (1, 3));
    assert_eq!(metrics.records_appended, 3);
    assert_eq!(metrics.requests["Produce"], 1);
    assert!(!metrics.requests.contains_key("Fetch"));
    assert!(metrics.bytes_in > 100 && metrics.bytes_out > 100);
    assert!(metrics.log_bytes > 100 && metrics.flushes >= 2);
    drop(client);
    soon(async {
        while broker.metrics().connections > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
