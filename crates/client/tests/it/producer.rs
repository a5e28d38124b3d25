//! What is sent arrives, as it was sent.

use std::sync::Arc;
use std::time::Duration;

use tidelog_client::{
    Acks, Codec, Compression, Partitioner, ProduceError, Producer, ProducerConfig, ProducerRecord,
    partition_for_key,
};
use tidelog_types::{Offset, Timestamp};

use crate::server::{Server, record, text};

#[tokio::test]
async fn records_arrive_as_they_were_sent_with_every_codec() {
    let server = Server::start().await;
    for codec in Codec::ALL {
        // The timestamps below are old: no retention may take the records away meanwhile.
        let topic = server.topic(2, &[("retention.ms", "-1")]).await;
        let mut config = ProducerConfig::default();
        config.compression = codec.into();
        let producer = server.producer(config).await;
        let mut deliveries = Vec::new();
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
            deliveries.push(producer.send(record).await.unwrap());
        }
        for (n, delivery) in deliveries.into_iter().enumerate() {
            let metadata = delivery.await.unwrap();
            assert_eq!(
                (metadata.partition, metadata.offset),
                (1, Offset::new(n as i64))
            );
        }
        let records = server.records(&topic, 1).await;
        assert_eq!(records.len(), 500, "{codec}");
        for (n, record) in records.iter().enumerate() {
            let value = format!("value {n} ").repeat(n % 7);
            let key = format!("key {n}");
            assert_eq!(record.timestamp.as_millis(), 1_700_000_000_000 + n as i64);
            assert_eq!(record.key.is_some(), n % 3 > 0);
            assert_eq!(record.value.is_some(), n % 5 > 0);
            assert!(n % 3 == 0 || text(record.key.as_ref()) == key);
            assert!(n % 5 == 0 || text(record.value.as_ref()) == value);
            assert_eq!(record.headers.len(), 2);
            assert_eq!(record.headers[0].key_text(), "number");
            assert_eq!(text(record.headers[0].value.as_ref()), key);
        }
        producer.close().await;
    }
}

#[tokio::test]
async fn levels_are_taken() {
    let server = Server::start().await;
    let topic = server.topic(1, &[]).await;
    let mut config = ProducerConfig::default();
    config.compression = Compression::with_level(Codec::Gzip, 9).unwrap();
    let producer = server.producer(config).await;
    let delivery = producer.send(record(&topic, "small")).await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, Offset::ZERO);
}

#[tokio::test]
async fn keys_decide_the_partition_and_keep_their_order() {
    let server = Server::start().await;
    let topic = server.topic(7, &[]).await;
    let producer = server.producer(ProducerConfig::default()).await;
    let mut deliveries = Vec::new();
    for n in 0..2000 {
        let key = format!("key-{}", n % 100);
        let value = n.to_string();
        let record = ProducerRecord::to(&topic).key(&key).value(&value);
        deliveries.push((key.clone(), producer.send(record).await.unwrap()));
    }
    for (key, delivery) in deliveries {
        let metadata = delivery.await.unwrap();
        assert_eq!(metadata.partition, partition_for_key(key.as_bytes(), 7));
    }
    for partition in 0..7 {
        let records = server.records(&topic, partition).await;
        let values = records.iter().map(|record| text(record.value.as_ref()));
        let values: Vec<u32> = values.map(|value| value.parse().unwrap()).collect();
        assert!(values.is_sorted(), "{values:?}");
    }
}

#[tokio::test]
async fn records_without_a_key_stay_at_a_partition_for_a_batch() {
    let server = Server::start().await;
    let topic = server.topic(4, &[]).await;
    let mut config = ProducerConfig::default();
    config.batch_bytes_max = 2000;
    let producer = server.producer(config).await;
    let value = "x".repeat(100);
    let mut partitions = Vec::new();
    for _ in 0..2000 {
        let delivery = producer.send(record(&topic, &value)).await.unwrap();
        partitions.push(delivery.partition());
    }
    producer.flush().await;
    let changes = partitions
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .count();
    // 2,000 records of 116 bytes make 116 batches, or stays of two if one is still open when it is time to go; a quarter of the choices is for the
    // same partition.
    assert!((25..130).contains(&changes), "{changes}");
    for partition in 0..4 {
        let count = partitions.iter().filter(|it| **it == partition).count();
        assert!(count > 200, "{partition} has {count} of 2000");
    }
}

#[derive(Debug)]
struct ByLength;

impl Partitioner for ByLength {
    fn partition(&self, _: &str, _: Option<&[u8]>, value: Option<&[u8]>, partitions: i32) -> i32 {
        value.map_or(0, <[u8]>::len) as i32 % partitions
    }
}

#[tokio::test]
async fn a_partitioner_of_ones_own_decides() {
    let server = Server::start().await;
    let topic = server.topic(3, &[]).await;
    let mut config = ProducerConfig::default();
    config.partitioner = Some(Arc::new(ByLength));
    let producer = server.producer(config).await;
    for (value, partition) in [("a", 1), ("ab", 2), ("abc", 0)] {
        let delivery = producer.send(record(&topic, value)).await.unwrap();
        assert_eq!(delivery.await.unwrap().partition, partition);
    }
}

#[tokio::test]
async fn acknowledgements_are_as_asked_for() {
    let server = Server::start().await;
    for acks in [Acks::None, Acks::Leader, Acks::All] {
        let topic = server.topic(1, &[]).await;
        let mut config = ProducerConfig::default();
        config.acks = acks;
        config.idempotent = acks == Acks::All;
        let producer = server.producer(config).await;
        for n in 0..3 {
            let delivery = producer.send(record(&topic, "value")).await.unwrap();
            let metadata = delivery.await.unwrap();
            let expected = match acks {
                Acks::None => Offset::NONE,
                _ => Offset::new(n),
            };
            assert_eq!(metadata.offset, expected);
        }
        // On a connection of its own a fetch may overtake what was not acknowledged.
        while server.records(&topic, 0).await.len() < 3 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn the_brokers_timestamp_is_told_where_it_counts() {
    let server = Server::start().await;
    let configs = [("message.timestamp.type", "LogAppendTime")];
    let topic = server.topic(1, &configs).await;
    let producer = server.producer(ProducerConfig::default()).await;
    let long_ago = record(&topic, "old").timestamp(Timestamp::from_millis(7));
    let metadata = producer.send(long_ago).await.unwrap().await.unwrap();
    assert!(metadata.timestamp.as_millis() > 1_600_000_000_000);
    assert_eq!(
        server.records(&topic, 0).await[0].timestamp,
        metadata.timestamp
    );
}

#[tokio::test]
async fn what_is_sent_without_waiting_meets_the_bound() {
    let server = Server::start().await;
    let topic = server.topic(1, &[]).await;
    let mut config = ProducerConfig::default();
    config.buffer_bytes_max = 100_000;
    config.linger = Duration::from_secs(60);
    config.batch_bytes_max = 50_000;
    let producer = server.producer(config).await;
    let value = "x".repeat(1000);
    let early = producer.try_send(&record(&topic, &value));
    assert!(matches!(early, Err(ProduceError::TopicNotPrepared { .. })));
    producer.prepare(&topic).await.unwrap();
    // Nothing runs but this until it waits: the buffer fills.
    let mut sent = 0;
    let error = loop {
        match producer.try_send(&record(&topic, &value)) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ProduceError::Full) && error.is_retriable());
    assert!((90..100).contains(&sent), "{sent}");
    // `send` waits instead. The bound holds, and nothing lingers while somebody waits.
    for _ in 0..500 {
        drop(producer.send(record(&topic, &value)).await.unwrap());
        assert!(producer.statistics().buffered_bytes <= 100_000);
    }
    producer.flush().await;
    assert_eq!(server.records(&topic, 0).await.len(), sent + 500);
    assert_eq!(producer.statistics().buffered_bytes, 0);
}

#[tokio::test]
async fn closing_waits_and_dropping_does_not() {
    let server = Server::start().await;
    let topic = server.topic(1, &[]).await;
    let mut config = ProducerConfig::default();
    config.linger = Duration::from_secs(60);
    let producer = server.producer(config.clone()).await;
    let delivery = producer.send(record(&topic, "kept")).await.unwrap();
    producer.close().await;
    assert_eq!(delivery.await.unwrap().offset, Offset::ZERO);
    let late = producer.send(record(&topic, "late")).await;
    assert!(matches!(late, Err(ProduceError::Closed)));

    let producer = server.producer(config).await;
    let other: Producer = producer.clone();
    let delivery = producer.send(record(&topic, "given up")).await.unwrap();
    drop(producer);
    let still = other.send(record(&topic, "too")).await.unwrap();
    drop(other);
    assert!(matches!(delivery.await, Err(ProduceError::Closed)));
    assert!(matches!(still.await, Err(ProduceError::Closed)));
    assert_eq!(server.records(&topic, 0).await.len(), 1);
}

#[tokio::test]
async fn a_topic_may_be_created_on_the_side() {
    let Some(server) = Server::own(&[]).await else {
        return;
    };
    let producer = server.producer(ProducerConfig::default()).await;
    let delivery = producer.send(record("made-on-the-side", "v")).await;
    assert_eq!(delivery.unwrap().await.unwrap().offset, Offset::ZERO);
}

#[tokio::test]
async fn what_a_producer_did_is_counted() {
    let server = Server::start().await;
    let topic = server.topic(1, &[]).await;
    let producer = server.producer(ProducerConfig::default()).await;
    for _ in 0..100 {
        drop(producer.send(record(&topic, "value")).await.unwrap());
    }
    producer.flush().await;
    let statistics = producer.statistics();
    assert_eq!(statistics.records, 100);
    assert_eq!(statistics.batches, statistics.batches_delivered);
    assert_eq!((statistics.retries, statistics.batches_failed), (0, 0));
}
