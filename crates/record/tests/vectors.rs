//! Batches that Kafka wrote: read as Kafka reads them, and built again.

use bytes::Bytes;
use serde_json::Value;
use tidelog_record::control::{ControlType, EndTxnMarker, TransactionResult};
use tidelog_record::{Batch, BatchBuilder, BatchHeader, Codec, Compression, Record, TimestampType};
use tidelog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

struct RecordSet {
    name: String,
    bytes: Bytes,
    expected: Vec<Value>,
}

fn record_sets() -> Vec<RecordSet> {
    include_str!("../testdata/record-sets.jsonl")
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            RecordSet {
                name: text(&line["name"]).to_owned(),
                bytes: unhex(&line["hex"]),
                expected: line["batches"].as_array().unwrap().clone(),
            }
        })
        .collect()
}

fn record_set(name: &str) -> RecordSet {
    record_sets()
        .into_iter()
        .find(|set| set.name == name)
        .unwrap()
}

fn batches(set: &RecordSet) -> Vec<Batch> {
    let mut rest = set.bytes.clone();
    let mut batches = Vec::new();
    while let Some(batch) = Batch::split_from(&mut rest).unwrap() {
        batches.push(batch);
    }
    assert!(rest.is_empty(), "{}", set.name);
    batches
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn unhex(value: &Value) -> Bytes {
    let digits = text(value).as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

fn nullable(value: &Value) -> Option<Bytes> {
    (!value.is_null()).then(|| unhex(value))
}

#[test]
fn every_field_of_every_batch_is_what_kafka_reads() {
    let sets = record_sets();
    assert_eq!(sets.len(), 44);
    for set in sets {
        let batches = batches(&set);
        assert_eq!(batches.len(), set.expected.len(), "{}", set.name);
        for (batch, expected) in batches.iter().zip(&set.expected) {
            batch.verify_crc().unwrap();
            batch.header().check_offsets().unwrap();
            check_header(&set.name, batch.header(), expected);
            check_records(&set.name, batch, expected["records"].as_array().unwrap());
        }
    }
}

fn check_header(name: &str, header: &BatchHeader, expected: &Value) {
    let timestamp_type = match text(&expected["timestampType"]) {
        "CreateTime" => TimestampType::CreateTime,
        "LogAppendTime" => TimestampType::LogAppendTime,
        other => panic!("{other}"),
    };
    let attributes = header.attributes;
    assert_eq!(
        header.base_offset.value(),
        number(&expected["baseOffset"]),
        "{name}"
    );
    assert_eq!(
        header.last_offset().value(),
        number(&expected["lastOffset"]),
        "{name}"
    );
    assert_eq!(
        header.size() as i64,
        number(&expected["sizeInBytes"]),
        "{name}"
    );
    assert_eq!(
        attributes.codec().unwrap().name(),
        text(&expected["compression"]),
        "{name}"
    );
    assert_eq!(attributes.timestamp_type(), timestamp_type, "{name}");
    assert_eq!(
        header.max_timestamp.as_millis(),
        number(&expected["maxTimestamp"]),
        "{name}"
    );
    assert_eq!(
        header.producer_id.value(),
        number(&expected["producerId"]),
        "{name}"
    );
    assert_eq!(
        i64::from(header.producer_epoch.value()),
        number(&expected["producerEpoch"]),
        "{name}"
    );
    assert_eq!(
        i64::from(header.base_sequence),
        number(&expected["baseSequence"]),
        "{name}"
    );
    let leader_epoch = i64::from(header.partition_leader_epoch.value());
    assert_eq!(
        leader_epoch,
        number(&expected["partitionLeaderEpoch"]),
        "{name}"
    );
    assert_eq!(
        attributes.is_transactional(),
        expected["transactional"] == true,
        "{name}"
    );
    assert_eq!(
        attributes.is_control(),
        expected["control"] == true,
        "{name}"
    );
    let horizon = header.delete_horizon().map(Timestamp::as_millis);
    assert_eq!(horizon, expected["deleteHorizonMs"].as_i64(), "{name}");
}

fn check_records(name: &str, batch: &Batch, expected: &[Value]) {
    let records: Vec<Record> = batch.records().unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), expected.len(), "{name}");
    let mut walk = batch.walk().unwrap();
    for (record, expected) in records.iter().zip(expected) {
        assert_eq!(record.offset.value(), number(&expected["offset"]), "{name}");
        assert_eq!(
            record.timestamp.as_millis(),
            number(&expected["timestamp"]),
            "{name}"
        );
        assert_eq!(record.key, nullable(&expected["key"]), "{name}");
        assert_eq!(record.value, nullable(&expected["value"]), "{name}");
        let headers = expected["headers"].as_array().unwrap();
        assert_eq!(record.headers.len(), headers.len(), "{name}");
        for (header, expected) in record.headers.iter().zip(headers) {
            assert_eq!(header.key_text(), text(&expected[0]), "{name}");
            assert_eq!(header.value, nullable(&expected[1]), "{name}");
        }

        let walked = walk.next_record().unwrap().unwrap();
        assert_eq!(walked.offset, record.offset, "{name}");
        assert_eq!(walked.timestamp, record.timestamp, "{name}");
        assert_eq!(walked.key, record.key.as_deref(), "{name}");
        assert_eq!(walked.value, record.value.as_deref(), "{name}");
        assert_eq!(walked.headers.len(), record.headers.len(), "{name}");
        for (walked, header) in walked.headers.iter().zip(&record.headers) {
            assert_eq!(
                (walked.key, walked.value),
                (&header.key[..], header.value.as_deref())
            );
        }
    }
    assert_eq!(walk.next_record(), Ok(None), "{name}");
}

/// A builder set up like the batch, fed with its records.
fn rebuild(batch: &Batch) -> Batch {
    let header = batch.header();
    let attributes = header.attributes;
    let mut builder = BatchBuilder::new(attributes.codec().unwrap().into())
        .base_offset(header.base_offset)
        .partition_leader_epoch(header.partition_leader_epoch)
        .producer(
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
        )
        .transactional(attributes.is_transactional())
        .control(attributes.is_control());
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        builder = builder.log_append_time(header.max_timestamp);
    }
    if let Some(horizon) = header.delete_horizon() {
        builder = builder.delete_horizon(horizon);
    }
    let mut walk = batch.walk().unwrap();
    while let Some(record) = walk.next_record().unwrap() {
        builder.push_record(&record);
    }
    builder.build().unwrap()
}

#[test]
fn built_again_uncompressed_batches_have_the_same_bytes() {
    let mut count = 0;
    for set in record_sets() {
        for batch in batches(&set) {
            let header = batch.header();
            if header.attributes.codec() == Ok(Codec::None) && header.records_count > 0 {
                assert_eq!(rebuild(&batch).bytes(), batch.bytes(), "{}", set.name);
                count += 1;
            }
        }
    }
    assert_eq!(count, 13);
}

/// Other implementations of a codec compress to other bytes; what counts is that the records are
/// the same, and that what is around the compressed bytes is Kafka's.
#[test]
fn built_again_compressed_batches_have_the_same_records() {
    let mut same_bytes = Vec::new();
    for set in record_sets() {
        for batch in batches(&set) {
            let codec = batch.header().attributes.codec().unwrap();
            if codec == Codec::None {
                continue;
            }
            let rebuilt = rebuild(&batch);
            rebuilt.verify_crc().unwrap();
            let same_but_size_and_crc = BatchHeader {
                batch_length: batch.header().batch_length,
                crc: batch.header().crc,
                ..*rebuilt.header()
            };
            assert_eq!(&same_but_size_and_crc, batch.header(), "{}", set.name);
            let records: Vec<_> = rebuilt.records().unwrap().collect();
            assert_eq!(
                records,
                batch.records().unwrap().collect::<Vec<_>>(),
                "{}",
                set.name
            );
            if rebuilt.bytes() == batch.bytes() {
                same_bytes.push(codec);
            }
            // Everything up to the first compressed block.
            let frame_len = match codec {
                Codec::Gzip => 10,
                Codec::Snappy => 16,
                Codec::Lz4 => 7,
                Codec::Zstd => 4,
                Codec::None => 0,
            };
            assert_eq!(
                rebuilt.payload()[..frame_len],
                batch.payload()[..frame_len],
                "{}",
                set.name
            );
        }
    }
    // Small inputs snappy compresses in one way only.
    assert!(same_bytes.contains(&Codec::Snappy), "{same_bytes:?}");
}

#[test]
fn an_emptied_batch_is_kafkas() {
    let set = record_set("empty-batch-kept-by-compaction");
    let empty = &batches(&set)[0];
    assert_eq!(empty.records().unwrap().count(), 0);
    let mut builder = BatchBuilder::new(Compression::new(Codec::Zstd))
        .base_offset(Offset::new(100))
        .partition_leader_epoch(LeaderEpoch::new(6))
        .producer(ProducerId::new(77), ProducerEpoch::new(4), 15)
        .transactional(true);
    for _ in 0..10 {
        builder.push(
            Timestamp::from_millis(1_700_000_000_000),
            None,
            Some(b"gone"),
            &[],
        );
    }
    assert_eq!(builder.build().unwrap().emptied().bytes(), empty.bytes());
    assert_eq!(empty.emptied().bytes(), empty.bytes());
}

#[test]
fn markers_are_kafkas() {
    for (name, result) in [
        ("marker-COMMIT", TransactionResult::Commit),
        ("marker-ABORT", TransactionResult::Abort),
    ] {
        let batch = &batches(&record_set(name))[0];
        let record = batch.records().unwrap().next().unwrap().unwrap();
        let control_type = ControlType::decode_key(record.key.as_deref().unwrap()).unwrap();
        let value = record.value.as_deref().unwrap();
        let marker = EndTxnMarker::decode(control_type, value).unwrap().unwrap();
        assert_eq!(
            marker,
            EndTxnMarker {
                result,
                coordinator_epoch: 11
            }
        );

        let built = marker
            .batch(
                ProducerId::new(4242),
                ProducerEpoch::new(3),
                Timestamp::from_millis(1_700_000_000_000),
            )
            .with_leader_fields(Offset::new(500), LeaderEpoch::new(12));
        assert_eq!(built.bytes(), batch.bytes(), "{name}");
    }
}

/// What a leader does to a batch and what Kafka's leader does are the same bytes.
#[test]
fn the_time_of_the_append_leaves_all_else_as_it_was() {
    let set = record_set("magic2-none-LogAppendTime-3");
    let appended = &batches(&set)[0];
    let mut builder = BatchBuilder::new(Compression::NONE);
    let mut walk = appended.walk().unwrap();
    while let Some(record) = walk.next_record().unwrap() {
        let headers: Vec<_> = record.headers.iter().collect();
        builder.push(record.create_timestamp, record.key, record.value, &headers);
    }
    let produced = builder.build().unwrap();
    let header = appended.header();
    let built = produced
        .with_leader_fields(header.base_offset, header.partition_leader_epoch)
        .with_log_append_time(header.max_timestamp);
    assert_eq!(built.bytes(), appended.bytes());
}
