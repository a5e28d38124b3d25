//! Batches that Kafka wrote: read as Kafka reads them, and built again.

mod support;

use bytes::Bytes;
use serde_json::Value;
use tidelog_record::control::{ControlType, EndTxnMarker, TransactionResult};
use tidelog_record::legacy::{LegacyBatch, LegacyBuilder, LegacyHeader, LegacyMagic};
use tidelog_record::{
    AnyBatch, AnyHeader, Batch, BatchBuilder, BatchError, BatchHeader, Codec, Compression, Limits,
    Record, TimestampType, downconvert, upconvert,
};
use tidelog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use support::{RecordSet, record_sets, text, unhex};

fn record_set(name: &str) -> RecordSet {
    record_sets()
        .into_iter()
        .find(|set| set.name == name)
        .unwrap()
}

fn any_batches(set: &RecordSet) -> Vec<AnyBatch> {
    let mut rest = set.bytes.clone();
    let mut batches = Vec::new();
    while let Some(batch) = AnyBatch::split_from(&mut rest).unwrap() {
        assert_eq!(AnyBatch::parse(batch.bytes().clone()), Ok(batch.clone()));
        batches.push(batch);
    }
    assert!(rest.is_empty(), "{}", set.name);
    batches
}

/// The batches of format v2.
fn batches(set: &RecordSet) -> Vec<Batch> {
    let batches = any_batches(set).into_iter();
    batches
        .filter_map(|batch| match batch {
            AnyBatch::V2(batch) => Some(batch),
            AnyBatch::Legacy(_) => None,
        })
        .collect()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn nullable(value: &Value) -> Option<Bytes> {
    (!value.is_null()).then(|| unhex(value))
}

#[test]
fn every_field_of_every_batch_is_what_kafka_reads() {
    let sets = record_sets();
    assert_eq!(sets.len(), 80);
    for set in &sets {
        let batches = any_batches(set);
        assert_eq!(batches.len(), set.expected.len(), "{}", set.name);
        for (batch, expected) in batches.iter().zip(&set.expected) {
            batch.verify_crc().unwrap();
            check_header(&set.name, &batch.header(), expected);
            check_records(&set.name, batch, expected["records"].as_array().unwrap());
            match batch {
                AnyBatch::V2(batch) => check_header_v2(&set.name, batch.header(), expected),
                AnyBatch::Legacy(_) => check_header_legacy(&set.name, expected),
            }
        }
    }
}

fn check_header(name: &str, header: &AnyHeader, expected: &Value) {
    let timestamp_type = match text(&expected["timestampType"]) {
        "NoTimestampType" => None,
        "CreateTime" => Some(TimestampType::CreateTime),
        "LogAppendTime" => Some(TimestampType::LogAppendTime),
        other => panic!("{other}"),
    };
    let found = (
        i64::from(header.magic()),
        header.last_offset().value(),
        header.size() as i64,
        header.timestamp_type(),
        header.max_timestamp().as_millis(),
        i64::from(header.partition_leader_epoch().value()),
    );
    let expected = (
        number(&expected["magic"]),
        number(&expected["lastOffset"]),
        number(&expected["sizeInBytes"]),
        timestamp_type,
        number(&expected["maxTimestamp"]),
        number(&expected["partitionLeaderEpoch"]),
    );
    assert_eq!(found, expected, "{name}");
}

fn check_header_v2(name: &str, header: &BatchHeader, expected: &Value) {
    header.check_offsets().unwrap();
    let attributes = header.attributes;
    let found = (
        header.base_offset.value(),
        attributes.codec().unwrap().name(),
        header.producer_id.value(),
        i64::from(header.producer_epoch.value()),
        i64::from(header.base_sequence),
        attributes.is_transactional(),
        attributes.is_control(),
        header.delete_horizon().map(Timestamp::as_millis),
    );
    let expected = (
        number(&expected["baseOffset"]),
        text(&expected["compression"]),
        number(&expected["producerId"]),
        number(&expected["producerEpoch"]),
        number(&expected["baseSequence"]),
        expected["transactional"] == true,
        expected["control"] == true,
        expected["deleteHorizonMs"].as_i64(),
    );
    assert_eq!(found, expected, "{name}");
}

/// What these formats have no room for.
fn check_header_legacy(name: &str, expected: &Value) {
    for absent in ["producerId", "producerEpoch", "baseSequence"] {
        assert_eq!(number(&expected[absent]), -1, "{name}");
    }
    for absent in ["transactional", "control"] {
        assert_eq!(expected[absent], false, "{name}");
    }
    assert!(expected["deleteHorizonMs"].is_null(), "{name}");
}

fn check_records(name: &str, batch: &AnyBatch, expected: &[Value]) {
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

/// The record set of formats v0 and v1 that has the same records, built by us.
fn rebuild_legacy(batches: &[AnyBatch]) -> Bytes {
    let AnyBatch::Legacy(first) = &batches[0] else {
        panic!("format v2");
    };
    let header = first.header();
    let codec = header.codec().unwrap();
    let mut builder = LegacyBuilder::new(header.magic, codec.into()).unwrap();
    if header.timestamp_type() == Some(TimestampType::LogAppendTime) {
        builder = builder.log_append_time(header.timestamp);
    }
    for batch in batches {
        let mut walk = batch.walk().unwrap();
        while let Some(record) = walk.next_record().unwrap() {
            let (key, value) = (record.key, record.value);
            builder
                .push_at(record.offset, record.create_timestamp, key, value)
                .unwrap();
        }
    }
    builder.build().unwrap()
}

#[test]
fn built_again_old_formats_have_the_same_bytes() {
    let mut same = [0; 5];
    for set in record_sets() {
        let batches = any_batches(&set);
        if batches[0].header().magic() == 2 {
            continue;
        }
        let rebuilt = rebuild_legacy(&batches);
        if rebuilt == set.bytes {
            same[usize::from(legacy(&batches[0]).header().codec().unwrap().id())] += 1;
            continue;
        }
        // Another implementation of the codec: what it compresses is the same, and what is around it.
        let ours = LegacyBatch::parse(rebuilt).unwrap();
        let theirs = legacy(&batches[0]);
        let same_but_size_and_crc = LegacyHeader {
            message_size: theirs.header().message_size,
            crc: theirs.header().crc,
            ..*ours.header()
        };
        assert_eq!(&same_but_size_and_crc, theirs.header(), "{}", set.name);
        let contents = |batch: &LegacyBatch| -> Vec<_> {
            batch.records().unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(contents(&ours), contents(theirs), "{}", set.name);
        if ours.header().codec() == Ok(Codec::Lz4) {
            // The whole header of the frame, with the checksum as it is in each format.
            let frame = ours.bytes().len() - ours_value_len(&ours);
            assert_eq!(
                ours.bytes()[frame..frame + 7],
                theirs.bytes()[frame..frame + 7],
                "{}",
                set.name
            );
        }
    }
    assert_eq!(same[usize::from(Codec::None.id())], 9, "{same:?}");
    assert!(same[usize::from(Codec::Snappy.id())] > 0, "{same:?}");
}

fn legacy(batch: &AnyBatch) -> &LegacyBatch {
    match batch {
        AnyBatch::Legacy(message) => message,
        AnyBatch::V2(_) => panic!("format v2"),
    }
}

/// What a wrapper without key holds.
fn ours_value_len(wrapper: &LegacyBatch) -> usize {
    let header_len = if wrapper.header().magic == LegacyMagic::V0 {
        18
    } else {
        26
    };
    wrapper.size() - header_len - 8
}

fn records_of(record_set: Bytes) -> Vec<Record> {
    let mut rest = record_set;
    let mut records = Vec::new();
    while let Some(batch) = AnyBatch::split_from(&mut rest).unwrap() {
        batch.verify_crc().unwrap();
        records.extend(batch.records().unwrap().map(Result::unwrap));
    }
    assert!(rest.is_empty());
    records
}

#[test]
fn upconverted_record_sets_have_the_same_records() {
    for set in record_sets() {
        let expected = records_of(set.bytes.clone());
        let batches = upconvert(set.bytes.clone(), Limits::DEFAULT).unwrap();
        let codec = any_batches(&set)[0]
            .records()
            .map(|_| batches[0].header().attributes.codec());
        assert_eq!(
            codec.unwrap().unwrap().name(),
            text(&set.expected[0]["compression"])
        );
        let records: Vec<_> = batches
            .iter()
            .flat_map(|batch| batch.records().unwrap())
            .map(Result::unwrap)
            .collect();
        assert_eq!(records, expected, "{}", set.name);
        for (batch, next) in batches.iter().zip(batches.iter().skip(1)) {
            batch.header().check_offsets().unwrap();
            assert!(next.header().base_offset >= batch.header().next_offset());
        }
        if set.name.ends_with("none-CreateTime-50") {
            assert_eq!(batches.len(), 1, "{}", set.name);
        }
    }
}

#[test]
fn downconverted_record_sets_have_the_same_records_less_what_the_format_lacks() {
    for set in record_sets() {
        let zstd = set.name.contains("zstd");
        let control = set.name.starts_with("marker");
        for magic in [LegacyMagic::V0, LegacyMagic::V1] {
            let converted = downconvert(set.bytes.clone(), magic, Offset::ZERO, Limits::DEFAULT);
            if zstd {
                let codec = Codec::Zstd;
                let magic = magic.id();
                assert_eq!(
                    converted,
                    Err(BatchError::CodecNotInFormat { codec, magic })
                );
                continue;
            }
            let converted = converted.unwrap();
            let mut expected = records_of(set.bytes.clone());
            if control {
                expected.clear();
            }
            for record in &mut expected {
                record.headers.clear();
                if magic == LegacyMagic::V0 {
                    record.timestamp = Timestamp::NONE;
                }
            }
            assert_eq!(records_of(converted.clone()), expected, "{}", set.name);
            if set.name.starts_with(&format!("magic{}-", magic.id())) {
                assert_eq!(converted, set.bytes, "{}", set.name);
            }
            let mut rest = converted;
            while let Some(batch) = AnyBatch::split_from(&mut rest).unwrap() {
                assert!(batch.header().magic() <= magic.id(), "{}", set.name);
            }
        }
    }
}

/// Clients of the old formats expect the record they asked for first, where records stand alone.
#[test]
fn records_in_front_of_the_first_offset_are_left_out_where_they_stand_alone() {
    for (name, expected) in [
        ("magic2-none-CreateTime-3", 1),
        ("magic2-gzip-CreateTime-3", 3),
    ] {
        let bytes = record_set(name).bytes;
        let first = Offset::new(1002);
        let converted = downconvert(bytes, LegacyMagic::V1, first, Limits::DEFAULT).unwrap();
        assert_eq!(records_of(converted).len(), expected, "{name}");
    }
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
