//! What was produced is read, once and in order, from wherever the consumer is told.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_client::{
    Codec, ConsumeError, Consumer, ConsumerConfig, OffsetReset, OffsetSpec, ProducerConfig,
    ProducerRecord,
};
use tidelog_types::{Offset, Timestamp, TopicPartition};
use tokio::time::timeout;

use crate::server::{Server, record, text, unique};

fn config() -> ConsumerConfig {
    let mut config = ConsumerConfig::default();
    config.offset_reset = OffsetReset::Earliest;
    config
}

fn in_group(what: &str) -> ConsumerConfig {
    let mut config = ConsumerConfig::group(format!("{what}-{}", unique()).as_str());
    config.offset_reset = OffsetReset::Earliest;
    config.auto_commit_interval = None;
    config
}

fn partition(topic: &str, index: i32) -> TopicPartition {
    TopicPartition::new(topic, index)
}

/// Sends numbers to a partition.
async fn number(server: &Server, topic: &str, index: i32, numbers: std::ops::Range<u32>) {
    let mut config = ProducerConfig::default();
    config.batch_bytes_max = 8_000;
    let producer = server.producer(config).await;
    for n in numbers {
        let value = n.to_string();
        let record = record(topic, &value).partition(index);
        drop(producer.send(record).await.unwrap());
    }
    producer.close().await;
}

/// The next so many values.
async fn numbers(consumer: &mut Consumer, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        let record = timeout(Duration::from_secs(30), consumer.recv()).await;
        let record = record.expect("a record in time").unwrap();
        numbers.push(text(record.value.as_ref()).parse().unwrap());
    }
    numbers
}

async fn is_silent(consumer: &mut Consumer) -> bool {
    timeout(Duration::from_millis(700), consumer.recv())
        .await
        .is_err()
}

#[tokio::test]
async fn records_are_read_as_they_were_sent_with_every_codec() {
    let server = Server::start().await;
    for codec in Codec::ALL {
        let topic = server.topic(2, &[("retention.ms", "-1")]).await;
        let mut producer = ProducerConfig::default();
        producer.compression = codec.into();
        producer.batch_bytes_max = 5000;
        let producer = server.producer(producer).await;
        for n in 0..500 {
            let value = format!("value {n} ").repeat(n % 7);
            let key = format!("key {n}");
            let mut record = ProducerRecord::to(&topic)
                .partition(1)
                .timestamp(Timestamp::from_millis(1_700_000_000_000 + n as i64))
                .header("number", &key)
                .header("again", b"");
            if n % 3 > 0 {
                record = record.key(&key);
            }
            if n % 5 > 0 {
                record = record.value(&value);
            }
            drop(producer.send(record).await.unwrap());
        }
        producer.close().await;
        let mut consumer = server.consumer(config()).await;
        consumer
            .assign(&[partition(&topic, 0), partition(&topic, 1)])
            .unwrap();
        for n in 0..500 {
            let record = consumer.recv().await.unwrap();
            let value = format!("value {n} ").repeat(n % 7);
            let key = format!("key {n}");
            assert_eq!(record.offset, Offset::new(n as i64), "{codec}");
            assert_eq!(
                (record.topic.as_str(), record.partition),
                (topic.as_str(), 1)
            );
            assert_eq!(record.timestamp.as_millis(), 1_700_000_000_000 + n as i64);
            assert_eq!(record.key.is_some(), n % 3 > 0);
            assert_eq!(record.value.is_some(), n % 5 > 0);
            assert!(n % 3 == 0 || text(record.key.as_ref()) == key);
            assert!(n % 5 == 0 || text(record.value.as_ref()) == value);
            assert_eq!(text(record.header("number")), key);
            assert_eq!(record.headers.len(), 2);
            assert_eq!(
                consumer.position(&partition(&topic, 1)),
                Some(Offset::new(n as i64 + 1))
            );
        }
        assert_eq!(consumer.lag(&partition(&topic, 1)), Some(0));
        assert!(is_silent(&mut consumer).await);
    }
}

#[tokio::test]
async fn many_records_come_once_and_in_order_within_the_bound() {
    let server = Server::start().await;
    let topic = server.topic(3, &[]).await;
    for index in 0..3 {
        number(&server, &topic, index, 0..20_000).await;
    }
    let mut config = config();
    config.buffer_bytes_max = 100_000;
    config.partition_bytes_max = 30_000;
    let mut consumer = server.consumer(config).await;
    let all: Vec<_> = (0..3).map(|index| partition(&topic, index)).collect();
    consumer.assign(&all).unwrap();
    let mut next = [0; 3];
    for _ in 0..60_000 {
        let record = consumer.recv().await.unwrap();
        let expected = &mut next[record.partition as usize];
        assert_eq!(text(record.value.as_ref()), expected.to_string());
        *expected += 1;
        assert!(consumer.statistics().buffered_bytes <= 100_000);
    }
    assert!(is_silent(&mut consumer).await);
    assert!(consumer.statistics().fetches > 10);
}

#[tokio::test]
async fn batches_and_records_take_turns() {
    let server = Server::start().await;
    let topic = server.topic(1, &[]).await;
    for from in [0, 10, 20] {
        number(&server, &topic, 0, from..from + 10).await;
    }
    let mut consumer = server.consumer(config()).await;
    let partition = partition(&topic, 0);
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    assert_eq!(numbers(&mut consumer, 3).await, [0, 1, 2]);
    let mut seen = vec![0, 1, 2];
    while seen.len() < 30 {
        let batch = consumer.recv_batch().await.unwrap();
        for record in batch.records().unwrap() {
            seen.push(text(record.unwrap().value.as_ref()).parse::<u32>().unwrap());
        }
        let mut visited = 0;
        batch.visit(|_| visited += 1).unwrap();
        assert_eq!(visited, batch.records().unwrap().count());
        assert_eq!(consumer.position(&partition), Some(batch.next_offset()));
    }
    assert!(seen.into_iter().eq(0..30));
}

#[tokio::test]
async fn a_consumer_goes_where_it_is_sent() {
    let server = Server::start().await;
    let topic = server.topic(2, &[]).await;
    number(&server, &topic, 0, 0..100).await;
    number(&server, &topic, 1, 1000..1100).await;
    let mut consumer = server.consumer(config()).await;
    let (first, second) = (partition(&topic, 0), partition(&topic, 1));
    consumer.assign(std::slice::from_ref(&first)).unwrap();
    assert_eq!(numbers(&mut consumer, 5).await, [0, 1, 2, 3, 4]);
    consumer.seek(&first, Offset::new(50)).unwrap();
    assert_eq!(consumer.position(&first), Some(Offset::new(50)));
    assert_eq!(numbers(&mut consumer, 2).await, [50, 51]);
    consumer.seek_to(&first, OffsetSpec::Earliest).unwrap();
    assert_eq!(numbers(&mut consumer, 1).await, [0]);
    // A pause keeps the place; others go on.
    consumer.pause(&first).unwrap();
    assert!(consumer.is_paused(&first) && is_silent(&mut consumer).await);
    consumer.assign(&[first.clone(), second.clone()]).unwrap();
    assert_eq!(numbers(&mut consumer, 100).await.last(), Some(&1099));
    consumer.resume(&first).unwrap();
    assert_eq!(numbers(&mut consumer, 2).await, [1, 2]);
    // What is no longer assigned is not read.
    consumer.assign(std::slice::from_ref(&second)).unwrap();
    assert!(is_silent(&mut consumer).await);
    let error = consumer.seek(&first, Offset::ZERO).unwrap_err();
    assert!(matches!(error, ConsumeError::NotAssigned { .. }));
    consumer.seek_to(&second, OffsetSpec::Latest).unwrap();
    number(&server, &topic, 1, 7..8).await;
    assert_eq!(numbers(&mut consumer, 1).await, [7]);
}

#[tokio::test]
async fn offsets_are_found() {
    let server = Server::start().await;
    let topic = server.topic(2, &[("retention.ms", "-1")]).await;
    let producer = server.producer(ProducerConfig::default()).await;
    for n in 0..10 {
        let record = record(&topic, "value").partition(0);
        let record = record.timestamp(Timestamp::from_millis(1_000 * n));
        drop(producer.send(record).await.unwrap());
    }
    producer.close().await;
    let consumer = server.consumer(config()).await;
    let (first, second) = (partition(&topic, 0), partition(&topic, 1));
    let both = [first.clone(), second.clone()];
    let offset = |offset| Offset::new(offset);
    assert_eq!(
        consumer.beginning_offsets(&both).await.unwrap(),
        BTreeMap::from([(first.clone(), offset(0)), (second.clone(), offset(0))])
    );
    assert_eq!(
        consumer.end_offsets(&both).await.unwrap(),
        BTreeMap::from([(first.clone(), offset(10)), (second.clone(), offset(0))])
    );
    let time = Timestamp::from_millis(3_500);
    let times = both.clone().map(|partition| (partition, time));
    let found = consumer.offsets_for_times(&times.into()).await.unwrap();
    assert_eq!(found[&first].offset, Some(offset(4)));
    assert_eq!(found[&first].timestamp, Timestamp::from_millis(4_000));
    assert_eq!(found[&second].offset, None);
}

#[tokio::test]
async fn policies_say_where_to_begin() {
    let server = Server::start().await;
    let topic = server.topic(1, &[("retention.ms", "-1")]).await;
    let partition = partition(&topic, 0);
    let producer = server.producer(ProducerConfig::default()).await;
    let long_ago = record(&topic, "1").timestamp(Timestamp::from_millis(1_000));
    producer.send(long_ago).await.unwrap().await.unwrap();
    producer
        .send(record(&topic, "2"))
        .await
        .unwrap()
        .await
        .unwrap();
    for (reset, expected) in [
        (OffsetReset::Earliest, 1),
        (OffsetReset::ByDuration(Duration::from_secs(3600)), 2),
        (OffsetReset::Latest, 3),
    ] {
        let mut config = config();
        config.offset_reset = reset;
        let mut consumer = server.consumer(config).await;
        consumer.assign(std::slice::from_ref(&partition)).unwrap();
        while consumer.position(&partition).is_none() {
            tokio::task::yield_now().await;
        }
        if expected == 3 {
            producer
                .send(record(&topic, "3"))
                .await
                .unwrap()
                .await
                .unwrap();
        }
        assert_eq!(numbers(&mut consumer, 1).await, [expected]);
    }
    let mut config = config();
    config.offset_reset = OffsetReset::None;
    let mut consumer = server.consumer(config).await;
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    let error = consumer.recv().await.unwrap_err();
    assert!(matches!(error, ConsumeError::NoOffset { .. }), "{error}");
    consumer.seek(&partition, Offset::new(77)).unwrap();
    let error = consumer.recv().await.unwrap_err();
    assert!(matches!(error, ConsumeError::OutOfRange { offset, .. } if offset == Offset::new(77)));
    consumer.seek(&partition, Offset::new(1)).unwrap();
    assert_eq!(numbers(&mut consumer, 1).await, [2]);
}

#[tokio::test]
async fn a_position_that_is_gone_is_reset() {
    let server = Server::start().await;
    let topic = server.topic(1, &[]).await;
    let partition = partition(&topic, 0);
    number(&server, &topic, 0, 0..100).await;
    let client = server.client().await;
    let before = BTreeMap::from([(partition.clone(), Some(Offset::new(60)))]);
    for deleted in client.delete_records(&before).await.unwrap().into_values() {
        deleted.unwrap();
    }
    let mut consumer = server.consumer(config()).await;
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    consumer.seek(&partition, Offset::new(10)).unwrap();
    assert_eq!(numbers(&mut consumer, 2).await, [60, 61]);
}

#[tokio::test]
async fn a_group_remembers() {
    let server = Server::start().await;
    let topic = server.topic(1, &[]).await;
    let partition = partition(&topic, 0);
    number(&server, &topic, 0, 0..100).await;
    let config = in_group("remember");
    let mut consumer = server.consumer(config.clone()).await;
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    numbers(&mut consumer, 10).await;
    // Many at once become few, and the last one counts.
    let mut commits = Vec::new();
    for _ in 0..20 {
        numbers(&mut consumer, 1).await;
        commits.push(consumer.start_commit());
    }
    for commit in commits {
        commit.await.unwrap();
    }
    let committed = consumer.committed(std::slice::from_ref(&partition)).await;
    let committed = committed.unwrap();
    assert_eq!(committed[0].offset, Offset::new(30));
    assert_eq!(committed[0].leader_epoch.value(), 0);
    consumer.close().await.unwrap();

    let mut consumer = server.consumer(config.clone()).await;
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    assert_eq!(numbers(&mut consumer, 2).await, [30, 31]);
    let chosen = BTreeMap::from([(partition.clone(), Offset::new(70))]);
    consumer.start_commit_of(&chosen).await.unwrap();
    consumer.close().await.unwrap();

    // By itself: what was consumed, not what was fetched.
    let mut by_itself = config.clone();
    by_itself.auto_commit_interval = Some(Duration::from_secs(3600));
    let mut consumer = server.consumer(by_itself.clone()).await;
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    assert_eq!(numbers(&mut consumer, 2).await, [70, 71]);
    consumer.close().await.unwrap();
    by_itself.auto_commit_interval = Some(Duration::from_millis(20));
    let mut consumer = server.consumer(by_itself).await;
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    assert_eq!(numbers(&mut consumer, 1).await, [72]);
    let looks = async {
        loop {
            let committed = consumer.committed(std::slice::from_ref(&partition)).await;
            let offset = committed.unwrap()[0].offset;
            // What is being worked on is not committed before the next one is asked for.
            assert!(offset <= Offset::new(consumer.position(&partition).unwrap().value()));
            if offset > Offset::new(80) {
                break;
            }
            // Also when there is nothing more, it goes by itself.
            let _ = timeout(Duration::from_millis(50), consumer.recv()).await;
        }
    };
    timeout(Duration::from_secs(30), looks).await.unwrap();
}

#[tokio::test]
async fn without_a_group_nothing_is_committed() {
    let server = Server::start().await;
    let consumer = server.consumer(config()).await;
    let error = consumer.commit().await.unwrap_err();
    assert!(matches!(error, ConsumeError::NoGroup));
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn a_missing_topic_is_named() {
    let server = Server::start().await;
    let mut config = config();
    config.topic_timeout = Duration::from_millis(300);
    let mut consumer = server.consumer(config).await;
    consumer
        .assign(&[partition("nobody-has-made-it", 0)])
        .unwrap();
    let error = timeout(Duration::from_secs(10), consumer.recv()).await;
    let error = error.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("topic nobody-has-made-it: "), "{error}");
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let server = Server::start().await;
    let topic = server.topic(1, &[]).await;
    let mut consumer = server.consumer(config()).await;
    consumer.assign(&[partition(&topic, 0)]).unwrap();
    number(&server, &topic, 0, 0..1000).await;
    let mut seen = Vec::new();
    while seen.len() < 1000 {
        tokio::select! {
            biased;
            record = consumer.recv() => {
                seen.push(text(record.unwrap().value.as_ref()).parse::<u32>().unwrap());
            }
            () = tokio::task::yield_now() => {}
        }
    }
    assert!(seen.into_iter().eq(0..1000));
}

#[tokio::test]
async fn reading_goes_on_when_the_broker_does() {
    let Some(mut server) = Server::own(&[]).await else {
        return;
    };
    let topic = server.topic(1, &[]).await;
    number(&server, &topic, 0, 0..100).await;
    let mut consumer = server.consumer(config()).await;
    consumer.assign(&[partition(&topic, 0)]).unwrap();
    assert_eq!(numbers(&mut consumer, 10).await.len(), 10);
    server.stop().await;
    server.run(&[]).await;
    number(&server, &topic, 0, 100..200).await;
    assert!(numbers(&mut consumer, 190).await.into_iter().eq(10..200));
}
