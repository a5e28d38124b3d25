//! Produce: what is refused and how, sequences of idempotent producers, timestamps and codecs.

use bytes::Bytes;
use tidelog_protocol::messages::init_producer_id::InitProducerIdRequest;
use tidelog_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest,
};
use tidelog_protocol::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};
use tidelog_record::crc::crc32c;
use tidelog_record::{BatchBuilder, Codec, TimestampType};
use tidelog_types::{ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp, Uuid};

use crate::client::Client;
use crate::ops::{
    ALL, Topic, batch, batches, fetch_request, filled, long, now, produce_request, sequenced,
    values,
};
use crate::server::{Server, is_elsewhere};

/// Where the fields of a batch are.
const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_SEQUENCE_AT: usize = 53;
const RECORDS_COUNT_AT: usize = 57;
const RECORDS_AT: usize = 61;

/// A batch with other bytes at some place, under a CRC that is right again.
fn patched(batch: &[u8], at: usize, with: &[u8]) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    sealed(bytes)
}

fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]).to_be_bytes();
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc);
    bytes.into()
}

fn with_attributes(batch: &[u8], attributes: i16) -> Bytes {
    patched(batch, ATTRIBUTES_AT, &attributes.to_be_bytes())
}

/// A batch with `more` bytes behind its records, which its length covers.
fn with_tail(batch: &[u8], more: &[u8]) -> Bytes {
    let mut bytes = [batch, more].concat();
    let length = i32::try_from(bytes.len() - 12).unwrap().to_be_bytes();
    bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length);
    sealed(bytes)
}

fn compressed(codec: Codec, values: &[&str]) -> Bytes {
    filled(BatchBuilder::new(codec.into()), values)
}

/// A batch whose records were created at these times.
fn timed(times: &[Timestamp]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None.into());
    for time in times {
        builder.push(*time, None, Some(b"v"), &[]);
    }
    builder.build().unwrap().bytes().clone()
}

/// Sends the records to partition 0 and something good to partition 1, which must succeed in any case.
async fn produce_beside(
    client: &mut Client,
    version: i16,
    topic: &Topic,
    records: Option<Bytes>,
) -> PartitionProduceResponse {
    let mut request = produce_request(topic, ALL, &[(1, keyed(&["good"]))]);
    let bad = PartitionProduceData { index: 0, records };
    request.topic_data[0].partition_data.insert(0, bad);
    let response = client.call(version, &request).await;
    let answers = &response.responses[0].partition_responses;
    let of = |index| answers.iter().find(|answer| answer.index == index).unwrap();
    let (bad, good) = (of(0), of(1));
    // Kafka refuses a whole request if it cannot find out where a batch of it ends.
    let refused_together = is_elsewhere() && good.error_code == bad.error_code;
    assert!(
        good.error_code.is_ok() || refused_together,
        "{bad:?} {good:?}"
    );
    bad.clone()
}

/// A batch of records that have keys.
fn keyed(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None.into());
    for value in values {
        builder.push(now(), Some(b"key"), Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap().bytes().clone()
}

fn blamed(answer: &PartitionProduceResponse) -> Vec<i32> {
    let records = answer.record_errors.iter();
    records.map(|record| record.batch_index).collect()
}

#[tokio::test]
async fn batches_that_are_refused_are_refused_as_kafka_does() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("checked", 2, &[]).await;
    let good = batch(&["a", "b", "c"]);
    let one = batch(&["a"]);
    let gzip = compressed(Codec::Gzip, &["a", "b"]);
    let producer = (ProducerId::new(4000), 0);
    let in_sequence = sequenced(producer, 0, &["a"]);
    let int = |n: i32| n.to_be_bytes();
    use ErrorCode as E;
    // What it is, the version in which it is sent, the records, the answer.
    let mut cases: Vec<(&str, i16, Option<Bytes>, ErrorCode)> = vec![
        ("nothing", 13, Some(Bytes::new()), E::INVALID_RECORD),
        (
            "two batches",
            13,
            Some([&good[..], &good[..]].concat().into()),
            E::INVALID_RECORD,
        ),
        (
            "magic 0",
            13,
            Some(patched(&good, MAGIC_AT, &[0])),
            E::INVALID_RECORD,
        ),
        (
            "magic 1",
            13,
            Some(patched(&good, MAGIC_AT, &[1])),
            E::INVALID_RECORD,
        ),
        (
            "magic 3",
            13,
            Some(patched(&good, MAGIC_AT, &[3])),
            E::CORRUPT_MESSAGE,
        ),
        (
            "magic -1",
            13,
            Some(patched(&good, MAGIC_AT, &[255])),
            E::CORRUPT_MESSAGE,
        ),
        (
            "zstd before it was known",
            6,
            Some(compressed(Codec::Zstd, &["a"])),
            E::UNSUPPORTED_COMPRESSION_TYPE,
        ),
        ("zstd", 7, Some(compressed(Codec::Zstd, &["a"])), E::NONE),
        (
            "base offset 7",
            13,
            Some(patched(&good, 0, &7_i64.to_be_bytes())),
            E::INVALID_RECORD,
        ),
        ("a few bytes", 13, Some(good.slice(..10)), E::INVALID_RECORD),
        (
            "a header cut off",
            13,
            Some(good.slice(..40)),
            E::INVALID_RECORD,
        ),
        (
            "records cut off",
            13,
            Some(good.slice(..good.len() - 1)),
            E::INVALID_RECORD,
        ),
        (
            "length 3",
            13,
            Some(patched(&good, LENGTH_AT, &int(3))),
            E::CORRUPT_MESSAGE,
        ),
        (
            "length 20",
            13,
            Some(patched(&good, LENGTH_AT, &int(20))),
            E::CORRUPT_MESSAGE,
        ),
        (
            "length -1",
            13,
            Some(patched(&good, LENGTH_AT, &int(-1))),
            E::CORRUPT_MESSAGE,
        ),
        (
            "length past the end",
            13,
            Some(patched(&good, LENGTH_AT, &int(10_000))),
            E::INVALID_RECORD,
        ),
        (
            "too large",
            13,
            Some(batch(&[&long(1_100_000)])),
            E::MESSAGE_TOO_LARGE,
        ),
        (
            "wrong checksum",
            13,
            Some(corrupted(&good)),
            E::CORRUPT_MESSAGE,
        ),
        (
            "control batch",
            13,
            Some(with_attributes(&good, 0x20)),
            E::INVALID_RECORD,
        ),
        (
            "no records",
            13,
            Some(patched(&good, RECORDS_COUNT_AT, &int(0))),
            E::INVALID_RECORD,
        ),
        (
            "a negative count",
            13,
            Some(patched(&good, RECORDS_COUNT_AT, &int(-1))),
            E::INVALID_RECORD,
        ),
        (
            "fewer than counted",
            13,
            Some(patched(&good, RECORDS_COUNT_AT, &int(4))),
            E::INVALID_RECORD,
        ),
        (
            "count and last offset differ",
            13,
            Some(patched(&good, LAST_OFFSET_DELTA_AT, &int(5))),
            E::INVALID_RECORD,
        ),
        (
            "more than counted",
            13,
            Some(counted(&good, 2)),
            E::INVALID_RECORD,
        ),
        (
            "fewer than counted twice",
            13,
            Some(counted(&good, 4)),
            E::INVALID_RECORD,
        ),
        (
            "a sequence below 0",
            13,
            Some(patched(&in_sequence, BASE_SEQUENCE_AT, &int(-1))),
            E::INVALID_RECORD,
        ),
        // The first byte of a record is its length, the second its attributes, then come the deltas.
        (
            "an attribute of a record",
            13,
            Some(patched(&one, RECORDS_AT + 1, &[1])),
            E::NONE,
        ),
        (
            "a record of length 0",
            13,
            Some(patched(&one, RECORDS_AT, &[0])),
            E::INVALID_RECORD,
        ),
        (
            "a record longer than the batch",
            13,
            Some(patched(&one, RECORDS_AT, &[0x7e])),
            E::INVALID_RECORD,
        ),
        (
            "a record shorter than it is",
            13,
            Some(patched(&one, RECORDS_AT, &[one[RECORDS_AT] - 2])),
            E::INVALID_RECORD,
        ),
        (
            "a key longer than the record",
            13,
            Some(patched(&one, RECORDS_AT + 4, &[0x7e])),
            E::INVALID_RECORD,
        ),
        (
            "bytes left over",
            13,
            Some(with_tail(&good, b"left over")),
            E::INVALID_RECORD,
        ),
        ("good", 13, Some(good.clone()), E::NONE),
        ("good and compressed", 13, Some(gzip), E::NONE),
    ];
    let mut wrong = Vec::new();
    // Kafka takes some of these, fails on others, and does not answer at all where the records are null.
    let own = vec![
        ("null", 13, None, E::INVALID_RECORD),
        (
            "garbage behind it",
            13,
            Some([&good[..], b"xyz"].concat().into()),
            E::INVALID_RECORD,
        ),
        (
            "codec 5",
            13,
            Some(with_attributes(&good, 5)),
            E::UNSUPPORTED_COMPRESSION_TYPE,
        ),
        (
            "inner offset 1",
            13,
            Some(patched(&one, RECORDS_AT + 3, &[2])),
            E::INVALID_RECORD,
        ),
        (
            "a length that does not end",
            13,
            Some(patched(&batch(&["aaaaaaaa"]), RECORDS_AT, &[0xff; 8])),
            E::INVALID_RECORD,
        ),
        (
            "timestamp of the append",
            13,
            Some(with_attributes(&good, 8)),
            E::INVALID_TIMESTAMP,
        ),
    ];
    if server.broker.is_some() {
        cases.extend(own);
    }
    for (what, version, records, expected) in cases {
        let answer = produce_beside(&mut client, version, &topic, records).await;
        if answer.error_code != expected {
            wrong.push(format!("{what}: {answer:?}, not {expected:?}"));
        }
        if answer.error_code.is_err() {
            assert_eq!(answer.base_offset, Offset::NONE, "{what}");
            assert_eq!(answer.log_append_time_ms, Timestamp::NONE, "{what}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A batch of which one byte of a record has changed on the way.
fn corrupted(batch: &[u8]) -> Bytes {
    let mut bytes = batch.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes.into()
}

/// A batch that claims to have `count` records, consistently.
fn counted(batch: &[u8], count: i32) -> Bytes {
    let last = patched(batch, LAST_OFFSET_DELTA_AT, &(count - 1).to_be_bytes());
    patched(&last, RECORDS_COUNT_AT, &count.to_be_bytes())
}

#[tokio::test]
async fn where_there_is_nothing_to_write_to_the_answer_says_why() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("there", 1, &[]).await;
    let unknown = Topic {
        name: "not-there".into(),
        id: Uuid::from_bytes([9; 16]),
    };
    use ErrorCode as E;
    for (version, topic, partition, acks, expected) in [
        (12, &unknown, 0, ALL, E::UNKNOWN_TOPIC_OR_PARTITION),
        (13, &unknown, 0, ALL, E::UNKNOWN_TOPIC_ID),
        (12, &topic, 1, ALL, E::UNKNOWN_TOPIC_OR_PARTITION),
        (13, &topic, 1, ALL, E::UNKNOWN_TOPIC_OR_PARTITION),
        (13, &topic, -1, ALL, E::UNKNOWN_TOPIC_OR_PARTITION),
        (13, &topic, 0, 2, E::INVALID_REQUIRED_ACKS),
        (13, &topic, 0, -2, E::INVALID_REQUIRED_ACKS),
        (13, &topic, 0, 1, E::NONE),
    ] {
        let request = produce_request(topic, acks, &[(partition, batch(&["a"]))]);
        let response = client.call(version, &request).await;
        let answer = &response.responses[0].partition_responses[0];
        let at = format!("{topic:?} {partition} acks {acks} version {version}");
        assert_eq!(answer.error_code, expected, "{at}");
        assert_eq!(answer.index, partition);
    }
}

#[tokio::test]
async fn only_the_admin_client_writes_to_internal_topics() {
    let server = Server::start().await;
    let mut client = server.client().await;
    crate::groups::find_coordinator(&mut client, "any").await;
    let offsets = client.describe("__consumer_offsets").await;
    let topic = Topic {
        name: offsets.name.unwrap(),
        id: offsets.topic_id,
    };
    let answer = client.produce(&topic, 0, keyed(&["a"])).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    client.call_me("__admin_client");
    let answer = client.produce(&topic, 0, keyed(&["a"])).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

#[tokio::test]
async fn batches_of_transactions_need_a_transaction() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("transactions", 2, &[]).await;
    let (id, epoch) = client.producer().await;
    let transactional = |id: ProducerId| {
        let builder = BatchBuilder::new(Codec::None.into()).transactional(true);
        filled(builder.producer(id, ProducerEpoch::new(epoch), 0), &["a"])
    };
    let request = |transactional_id: Option<&str>, partitions: &[(i32, Bytes)]| ProduceRequest {
        transactional_id: transactional_id.map(Into::into),
        ..produce_request(&topic, ALL, partitions)
    };
    let unauthorized = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    let mapping = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
    // Kafka, which could have such a transaction, asks its coordinator and answers with what came of that.
    let (state, none) = (ErrorCode::INVALID_TXN_STATE, ErrorCode::NONE);
    let cases = [
        // Without an id the whole request is refused, also what belongs to no transaction.
        (
            request(None, &[(0, transactional(id)), (1, batch(&["b"]))]),
            [unauthorized, unauthorized],
        ),
        (
            request(
                Some("t"),
                &[
                    (0, transactional(id)),
                    (1, transactional(ProducerId::new(77))),
                ],
            ),
            [mapping, mapping],
        ),
        (
            request(Some("t"), &[(0, transactional(id)), (1, batch(&["b"]))]),
            [state, none],
        ),
    ];
    for version in [11, 12, 13] {
        for (request, expected) in &cases {
            let response = client.call(version, request).await;
            let answers = &response.responses[0].partition_responses;
            let codes: Vec<_> = answers.iter().map(|answer| answer.error_code).collect();
            assert_eq!(codes, expected, "version {version}: {response:?}");
        }
    }
    assert_eq!(client.read(&topic, 0, 0).await, [], "nothing was written");
    assert_eq!(client.read(&topic, 1, 0).await.len(), 3);
}

#[tokio::test]
async fn corner_15_the_last_five_batches_of_a_producer_are_known_again() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let configs = [("message.timestamp.type", "LogAppendTime")];
    let topic = client.create_topic("resent", 1, &configs).await;
    let producer = client.producer().await;
    let mut originals = Vec::new();
    for sequence in 0..7 {
        let records = sequenced(producer, 2 * sequence, &["a", "b"]);
        let answer = client.produce(&topic, 0, records).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        assert_eq!(answer.base_offset.value(), i64::from(2 * sequence));
        originals.push(answer);
    }
    for round in 0..2 {
        for sequence in 0..7 {
            let records = sequenced(producer, 2 * sequence, &["a", "b"]);
            let answer = client.produce(&topic, 0, records).await;
            // After a restart, too: Kafka knows the last one only, since its snapshots of producers hold no more.
            if sequence >= 2 {
                assert_eq!(answer, originals[sequence as usize]);
            } else {
                assert_eq!(
                    answer.error_code,
                    ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
                    "{sequence} in round {round}"
                );
            }
        }
        assert_eq!(client.list_offset(&topic, 0, -1).await.offset.value(), 14);
        if server.broker.is_none() {
            return;
        }
        server.restart().await;
        client = server.client().await;
    }
    // Part of a batch is not the batch.
    let answer = client
        .produce(&topic, 0, sequenced(producer, 12, &["a"]))
        .await;
    assert_eq!(answer.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
}

#[tokio::test]
async fn corner_17_a_partition_that_does_not_know_a_producer_takes_any_sequence() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("first", 1, &[]).await;
    let producer = client.producer().await;
    let answer = client
        .produce(&topic, 0, sequenced(producer, 500, &["a"]))
        .await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    // From then on the numbers count.
    for (sequence, expected) in [
        (502, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        (499, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        (501, ErrorCode::NONE),
        (502, ErrorCode::NONE),
    ] {
        let answer = client
            .produce(&topic, 0, sequenced(producer, sequence, &["a"]))
            .await;
        assert_eq!(answer.error_code, expected, "sequence {sequence}");
    }
}

#[tokio::test]
async fn corner_18_sequences_wrap_and_epochs_begin_anew() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("wrap", 1, &[]).await;
    let (id, epoch) = client.producer().await;
    let max = i32::MAX;
    let mut written = 0;
    for (epoch, sequence, records, expected) in [
        (epoch, max - 1, &["a", "b"][..], ErrorCode::NONE),
        (epoch, 1, &["c"], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        (epoch, 0, &["c"], ErrorCode::NONE),
        // A new epoch begins at 0.
        (
            epoch + 1,
            1,
            &["d"],
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ),
        (epoch + 1, 0, &["d"], ErrorCode::NONE),
        // The old one is over.
        (epoch, 1, &["e"], ErrorCode::INVALID_PRODUCER_EPOCH),
        (epoch + 1, 1, &["e"], ErrorCode::NONE),
        (i16::MAX, 0, &["f"], ErrorCode::NONE),
    ] {
        let records_count = i64::try_from(records.len()).unwrap();
        let answer = client
            .produce(&topic, 0, sequenced((id, epoch), sequence, records))
            .await;
        assert_eq!(
            answer.error_code, expected,
            "epoch {epoch}, sequence {sequence}"
        );
        if expected.is_ok() {
            assert_eq!(answer.base_offset.value(), written);
            written += records_count;
        }
    }
    // The batch in the middle of which the numbers wrap.
    let other = client.producer().await;
    assert_ne!(other.0, id);
    for (sequence, records, expected) in [
        (max, &["g", "h", "i"][..], ErrorCode::NONE),
        (0, &["j"], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        (2, &["j"], ErrorCode::NONE),
        (max, &["g", "h", "i"], ErrorCode::NONE),
    ] {
        let answer = client
            .produce(&topic, 0, sequenced(other, sequence, records))
            .await;
        assert_eq!(answer.error_code, expected, "sequence {sequence}");
    }
    assert_eq!(
        client.list_offset(&topic, 0, -1).await.offset.value(),
        written + 4
    );
    // A producer whose epochs are used up gets another id.
    let request = InitProducerIdRequest {
        transaction_timeout_ms: 60_000,
        producer_id: id,
        producer_epoch: ProducerEpoch::new(i16::MAX - 1),
        ..Default::default()
    };
    let next = client.ask(&request).await;
    assert_eq!(next.error_code, ErrorCode::NONE);
    assert!(next.producer_id != id && next.producer_id != other.0);
    assert_eq!(next.producer_epoch.value(), 0);
}

#[tokio::test]
async fn corner_18_ids_of_producers_are_never_given_twice() {
    let mut server = Server::start().await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut client = server.client().await;
        for _ in 0..20 {
            let (id, epoch) = client.producer().await;
            assert!(ids.insert(id), "{id:?} again");
            assert_eq!(epoch, 0);
        }
        if server.broker.is_some() {
            server.restart().await;
        }
    }
}

#[tokio::test]
async fn corner_19_a_compacted_topic_names_every_record_without_a_key() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for policy in ["compact", "compact,delete"] {
        let name = format!("keys-{}", policy.len());
        let topic = client
            .create_topic(&name, 2, &[("cleanup.policy", policy)])
            .await;
        for codec in [Codec::None, Codec::Lz4] {
            let mut builder = BatchBuilder::new(codec.into());
            for key in [Some(&b"k"[..]), None, Some(b""), None] {
                builder.push(now(), key, Some(b"v"), &[]);
            }
            let records = builder.build().unwrap().bytes().clone();
            for version in [7, 8, 13] {
                let answer =
                    produce_beside(&mut client, version, &topic, Some(records.clone())).await;
                assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD);
                let expected: &[i32] = if version < 8 { &[] } else { &[1, 3] };
                assert_eq!(blamed(&answer), expected, "version {version}");
                assert_eq!(answer.error_message.is_some(), version >= 8);
            }
        }
        assert_eq!(client.read(&topic, 0, 0).await, []);
    }
}

#[tokio::test]
async fn corner_20_records_of_the_future_are_refused_unless_the_broker_sets_the_time() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let hours = |hours: i64| now().saturating_add_millis(hours * 3_600_000);
    let topic = client.create_topic("create-time", 2, &[]).await;
    let records = timed(&[hours(0), hours(2), hours(-9000), hours(3)]);
    let answer = produce_beside(&mut client, 13, &topic, Some(records.clone())).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(blamed(&answer), [1, 3]);
    assert_eq!(
        client.read(&topic, 0, 0).await,
        [],
        "not even the good ones"
    );

    let configs = [("message.timestamp.type", "LogAppendTime")];
    let topic = client.create_topic("append-time", 2, &configs).await;
    let before = now();
    let answer = produce_beside(&mut client, 13, &topic, Some(records)).await;
    let time = answer.log_append_time_ms;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert!(before <= time && time <= now(), "{time:?}");
    let data = client.fetch(&fetch_request(&topic, &[(0, 0)])).await;
    let batch = &batches(&data[0])[0];
    batch.verify_crc().unwrap();
    let header = batch.header();
    assert_eq!(
        header.attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert_eq!(header.max_timestamp, time);
    for record in batch.records().unwrap() {
        assert_eq!(record.unwrap().timestamp, time);
    }
    let found = client.list_offset(&topic, 0, time.as_millis()).await;
    assert_eq!((found.offset.value(), found.timestamp), (0, time));
    let later = client.list_offset(&topic, 0, time.as_millis() + 1).await;
    assert_eq!(later.offset, Offset::NONE);

    let configs = [("message.timestamp.before.max.ms", "3600000")];
    let topic = client.create_topic("not-the-past", 2, &configs).await;
    let records = timed(&[hours(0), hours(-2)]);
    let answer = produce_beside(&mut client, 13, &topic, Some(records)).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(blamed(&answer), [1]);
}

#[tokio::test]
async fn corner_21_every_codec_is_taken_and_turned_into_that_of_the_topic() {
    const CODECS: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];
    let server = Server::start().await;
    let mut client = server.client().await;
    let topics = [
        ("producer", None),
        ("uncompressed", Some(Codec::None)),
        ("gzip", Some(Codec::Gzip)),
        ("snappy", Some(Codec::Snappy)),
        ("lz4", Some(Codec::Lz4)),
        ("zstd", Some(Codec::Zstd)),
    ];
    let value = long(5000);
    for (setting, codec) in topics {
        let name = format!("codec-{setting}");
        let topic = client
            .create_topic(&name, 1, &[("compression.type", setting)])
            .await;
        for (sent, offset) in CODECS.into_iter().zip((0..).step_by(2)) {
            let records = compressed(sent, &["first", &value]);
            let answer = client.produce(&topic, 0, records).await;
            assert_eq!(
                answer.error_code,
                ErrorCode::NONE,
                "{sent:?} into {setting}"
            );
            assert_eq!(answer.base_offset.value(), offset);
        }
        let data = client.fetch(&fetch_request(&topic, &[(0, 0)])).await;
        let stored = batches(&data[0]);
        let codecs = stored
            .iter()
            .map(|batch| batch.header().attributes.codec().unwrap());
        let expected = CODECS.map(|sent| codec.unwrap_or(sent));
        assert_eq!(codecs.collect::<Vec<_>>(), expected, "{setting}");
        let expected: Vec<_> = (0..10)
            .map(|offset| {
                let value = if offset % 2 == 0 { "first" } else { &value };
                (offset, value.to_owned())
            })
            .collect();
        assert_eq!(values(&data[0]), expected, "{setting}");
    }
}

#[tokio::test]
async fn corner_21_a_batch_that_is_too_large_uncompressed_is_refused_where_it_is_stored_so() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let configs = [
        ("compression.type", "uncompressed"),
        ("max.message.bytes", "2000"),
    ];
    let topic = client.create_topic("unfolds", 2, &configs).await;
    for (len, expected) in [
        (1000, ErrorCode::NONE),
        (5000, ErrorCode::MESSAGE_TOO_LARGE),
    ] {
        let records = compressed(Codec::Gzip, &[&long(len)]);
        assert!(records.len() < 200);
        let answer = produce_beside(&mut client, 13, &topic, Some(records)).await;
        assert_eq!(answer.error_code, expected, "{len} bytes");
    }
}

#[tokio::test]
async fn a_batch_larger_than_a_segment_is_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let configs = [
        ("segment.bytes", "1048576"),
        ("max.message.bytes", "3000000"),
    ];
    let topic = client.create_topic("segment", 2, &configs).await;
    let records = batch(&[&long(2_000_000)]);
    let answer = produce_beside(&mut client, 13, &topic, Some(records)).await;
    assert_eq!(answer.error_code, ErrorCode::RECORD_LIST_TOO_LARGE);
}

#[tokio::test]
async fn corner_22_acks_0_has_no_answer_and_a_failure_closes_the_connection() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("silent", 1, &[]).await;
    client
        .send(13, &produce_request(&topic, 0, &[(0, batch(&["a"]))]))
        .await;
    // The next answer belongs to the next request, and the record is there.
    assert_eq!(client.put(&topic, 0, &["b"]).await, 1);
    assert_eq!(client.read(&topic, 0, 0).await.len(), 2);
    let transactional = with_attributes(&batch(&["a"]), 0x10);
    let corrupted = corrupted(&batch(&["a"]));
    for records in [(1, batch(&["a"])), (0, corrupted), (0, transactional)] {
        let mut other = server.client().await;
        other
            .send(13, &produce_request(&topic, 0, &[records]))
            .await;
        other.closed().await;
    }
    assert_eq!(client.read(&topic, 0, 0).await.len(), 2);
}

#[tokio::test]
async fn corner_22_min_insync_replicas_never_ask_for_more_than_there_are() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client
        .create_topic("alone", 1, &[("min.insync.replicas", "2")])
        .await;
    assert_eq!(client.put(&topic, 0, &["a"]).await, 0);
}

/// WriteTxnMarkers, which the coordinator of a transaction sends to leaders.
#[tokio::test]
async fn the_end_of_a_transaction_is_written() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("ended", 2, &[]).await;
    let marker = |epoch: i16, coordinator_epoch: i32| WritableTxnMarker {
        producer_id: ProducerId::new(7),
        producer_epoch: ProducerEpoch::new(epoch),
        transaction_result: true,
        coordinator_epoch,
        topics: vec![
            WritableTxnMarkerTopic {
                name: topic.name.clone(),
                partition_indexes: vec![1],
            },
            WritableTxnMarkerTopic {
                name: "nowhere".into(),
                partition_indexes: vec![0],
            },
        ],
        ..Default::default()
    };
    let (none, nowhere) = (ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let cases = [
        (marker(3, 5), none),
        (marker(2, 5), ErrorCode::INVALID_PRODUCER_EPOCH),
        (marker(3, 4), ErrorCode::TRANSACTION_COORDINATOR_FENCED),
        (marker(3, 5), none),
    ];
    for version in [1, 2] {
        for (marker, expected) in &cases {
            let request = WriteTxnMarkersRequest {
                markers: vec![marker.clone()],
            };
            let answer = client.call(version, &request).await;
            let topics = answer.markers.iter().flat_map(|marker| &marker.topics);
            let codes: Vec<_> = topics
                .flat_map(|topic| &topic.partitions)
                .map(|partition| partition.error_code)
                .collect();
            assert_eq!(codes, [*expected, nowhere], "version {version}");
        }
    }
    let found = client.fetch(&fetch_request(&topic, &[(1, 0)])).await;
    assert_eq!(found[0].high_watermark, Offset::new(4));
}
