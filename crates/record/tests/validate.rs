//! What a leader refuses, with which answer, and what it makes of the batches it accepts.
//! The numbers are those of Kafka's order of checks: offsets, size, CRC, batch, records.

use bytes::{Bytes, BytesMut};
use tidelog_record::crc::crc32c;
use tidelog_record::{
    Attributes, Batch, BatchBuilder, Codec, Compression, Limits, REJECTED_RECORDS_MAX, Record,
    Rejection, Rules, TimestampType, Validated, validate,
};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: i64 = 3_600_000;

/// Records with these distances from [`NOW`], every second one with a key.
fn batch_at(codec: Codec, millis: &[i64]) -> Batch {
    let mut builder = BatchBuilder::new(codec.into());
    for (i, millis) in millis.iter().enumerate() {
        let key = (i % 2 == 0).then_some(&b"key"[..]);
        builder.push(NOW.saturating_add_millis(*millis), key, Some(b"value"), &[]);
    }
    builder.build().unwrap()
}

/// A batch of three records with keys, changed by `change` and sealed again.
fn changed(codec: Codec, change: impl FnOnce(&mut BytesMut)) -> Batch {
    let mut builder = BatchBuilder::new(codec.into());
    for _ in 0..3 {
        builder.push(NOW, Some(b"key"), Some(b"value"), &[]);
    }
    let mut bytes = BytesMut::from(&builder.build().unwrap().bytes()[..]);
    change(&mut bytes);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::parse(bytes.freeze()).unwrap()
}

fn put<const N: usize>(at: usize, field: [u8; N]) -> impl FnOnce(&mut BytesMut) {
    move |bytes| bytes[at..at + N].copy_from_slice(&field)
}

fn put_attributes(attributes: Attributes) -> impl FnOnce(&mut BytesMut) {
    put(21, attributes.bits().to_be_bytes())
}

fn refused(batch: &Batch, rules: &Rules) -> Rejection {
    validate(batch, rules, NOW).expect_err("a batch to be refused")
}

fn code(batch: &Batch) -> ErrorCode {
    refused(batch, &Rules::default()).error_code
}

fn indexes(rejection: &Rejection) -> Vec<i32> {
    rejection
        .records
        .iter()
        .map(|record| record.batch_index)
        .collect()
}

fn records(batch: &Batch) -> Vec<Record> {
    batch.records().unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_batch_that_is_right_is_kept_byte_for_byte() {
    for codec in Codec::ALL {
        let batch = batch_at(codec, &[0, -5, HOUR]);
        let kept = Validated {
            batch: batch.clone(),
            log_append_time: None,
        };
        assert_eq!(validate(&batch, &Rules::default(), NOW), Ok(kept.clone()));
        let deep = Rules {
            deep: true,
            ..Rules::default()
        };
        assert_eq!(validate(&batch, &deep, NOW), Ok(kept));
    }
}

#[test]
fn what_is_wrong_with_a_batch_has_kafkas_code() {
    let none = Attributes::default();
    let producer = put(43, 7_i64.to_be_bytes());
    let cases = [
        (
            "13 base offset",
            put_boxed(put(0, 1_i64.to_be_bytes())),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "17 delta",
            put_boxed(put(23, (-1_i32).to_be_bytes())),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "17 delta and count",
            put_boxed(put(23, 3_i32.to_be_bytes())),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "17 count",
            put_boxed(put(57, 0_i32.to_be_bytes())),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "17 count",
            put_boxed(put(57, (-3_i32).to_be_bytes())),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "17 control",
            put_boxed(put_attributes(none.with_control(true))),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "17 no sequence",
            put_boxed(producer),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "17 no producer id",
            put_boxed(put_attributes(none.with_transactional(true))),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "19 append time",
            put_boxed(put_attributes(
                none.with_timestamp_type(TimestampType::LogAppendTime),
            )),
            ErrorCode::INVALID_TIMESTAMP,
        ),
        (
            "no such codec",
            put_boxed(put_attributes(Attributes::from_bits(5))),
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        ),
    ];
    for (name, change, expected) in cases {
        assert_eq!(code(&changed(Codec::None, change)), expected, "{name}");
    }
}

fn put_boxed(change: impl FnOnce(&mut BytesMut) + 'static) -> Box<dyn FnOnce(&mut BytesMut)> {
    Box::new(change)
}

#[test]
fn a_wrong_crc_is_found_before_anything_it_may_explain() {
    let batch = batch_at(Codec::Gzip, &[0, 0]);
    let mut bytes = batch.bytes().to_vec();
    bytes[60] ^= 1;
    assert_eq!(
        code(&Batch::parse(bytes.into()).unwrap()),
        ErrorCode::CORRUPT_MESSAGE
    );
}

#[test]
fn a_batch_larger_than_allowed_is_refused_before_its_crc_is_computed() {
    let batch = batch_at(Codec::None, &[0; 100]);
    let exactly = Rules {
        max_message_bytes: batch.size(),
        ..Rules::default()
    };
    assert!(validate(&batch, &exactly, NOW).is_ok());
    let below = Rules {
        max_message_bytes: batch.size() - 1,
        ..Rules::default()
    };
    assert_eq!(
        refused(&batch, &below).error_code,
        ErrorCode::MESSAGE_TOO_LARGE
    );
    let mut damaged = batch.bytes().to_vec();
    damaged[80] ^= 1;
    let damaged = Batch::parse(damaged.into()).unwrap();
    assert_eq!(
        refused(&damaged, &below).error_code,
        ErrorCode::MESSAGE_TOO_LARGE
    );
    assert_eq!(
        refused(&damaged, &exactly).error_code,
        ErrorCode::CORRUPT_MESSAGE
    );
}

/// Each record of [`changed`] is: length, attributes, timestamp delta, offset delta, key length,
/// key, ..
#[test]
fn records_that_do_not_add_up_are_refused() {
    let (attributes, offset_delta) = (62, 64);
    let rest = |bytes: &mut BytesMut| {
        bytes.extend_from_slice(b"!");
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
    };
    assert_eq!(code(&changed(Codec::None, rest)), ErrorCode::INVALID_RECORD);
    assert_eq!(
        code(&changed(Codec::None, put(61, [0x7e]))),
        ErrorCode::INVALID_RECORD
    );
    assert_eq!(
        code(&changed(Codec::None, put(61, [0x01]))),
        ErrorCode::INVALID_RECORD
    );
    // The second record claims the place of the first.
    let shifted = refused(
        &changed(Codec::None, put(offset_delta, [2])),
        &Rules::default(),
    );
    assert_eq!(shifted.error_code, ErrorCode::INVALID_RECORD);
    assert_eq!(indexes(&shifted), [0]);
    // Kafka looks at the attributes of compressed records only.
    let marked = changed(Codec::None, put(attributes, [1]));
    assert!(validate(&marked, &Rules::default(), NOW).is_ok());
    let compressed = rewrap(&marked, Codec::Lz4);
    let deep = Rules {
        deep: true,
        ..Rules::default()
    };
    assert_eq!(indexes(&refused(&compressed, &deep)), [0]);
}

/// The batch with its payload compressed as it stands. LZ4 stores what it cannot compress, so a
/// frame is easily made.
fn rewrap(batch: &Batch, codec: Codec) -> Batch {
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
    let payload = batch.payload();
    frame.extend_from_slice(&(payload.len() as u32 | 1 << 31).to_le_bytes());
    frame.extend_from_slice(&payload);
    frame.extend_from_slice(&[0; 4]);
    let mut bytes = batch.bytes()[..61].to_vec();
    bytes.extend_from_slice(&frame);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let attributes = batch.header().attributes.with_codec(codec).bits();
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::parse(bytes.into()).unwrap()
}

#[test]
fn compressed_records_are_only_looked_at_on_demand() {
    let broken = changed(Codec::None, put(61, [0x7e]));
    let broken = rewrap(&broken, Codec::Lz4);
    assert!(validate(&broken, &Rules::default(), NOW).is_ok());
    let demands = [
        Rules {
            deep: true,
            ..Rules::default()
        },
        Rules {
            compacted: true,
            ..Rules::default()
        },
        Rules {
            timestamp_before_max_ms: HOUR,
            ..Rules::default()
        },
        Rules {
            compression: Some(Codec::Zstd.into()),
            ..Rules::default()
        },
    ];
    for rules in demands {
        assert_eq!(
            refused(&broken, &rules).error_code,
            ErrorCode::INVALID_RECORD,
            "{rules:?}"
        );
    }
}

/// Hard corner 19.
#[test]
fn a_compacted_topic_names_every_record_without_key() {
    let compacted = Rules {
        compacted: true,
        ..Rules::default()
    };
    for codec in Codec::ALL {
        let rejection = refused(&batch_at(codec, &[0; 6]), &compacted);
        assert_eq!(rejection.error_code, ErrorCode::INVALID_RECORD);
        assert_eq!(indexes(&rejection), [1, 3, 5]);
    }
}

/// Hard corner 20.
#[test]
fn a_time_out_of_range_refuses_the_batch_and_names_the_records() {
    for codec in Codec::ALL {
        let ahead = batch_at(codec, &[0, 2 * HOUR, 0, HOUR + 1]);
        let rejection = refused(&ahead, &Rules::default());
        assert_eq!(rejection.error_code, ErrorCode::INVALID_TIMESTAMP);
        assert_eq!(indexes(&rejection), [1, 3]);

        let behind = batch_at(codec, &[0, -HOUR, -HOUR - 1]);
        assert!(validate(&behind, &Rules::default(), NOW).is_ok());
        let rules = Rules {
            timestamp_before_max_ms: HOUR,
            ..Rules::default()
        };
        assert_eq!(indexes(&refused(&behind, &rules)), [2]);

        // The times do not matter where the time of the append counts.
        let append_time = Rules {
            timestamp_type: TimestampType::LogAppendTime,
            ..rules
        };
        assert!(validate(&ahead, &append_time, NOW).is_ok());
    }
}

#[test]
fn timestamps_decide_when_records_are_wrong_in_different_ways() {
    let compacted = Rules {
        compacted: true,
        ..Rules::default()
    };
    let rejection = refused(&batch_at(Codec::None, &[2 * HOUR, 0]), &compacted);
    assert_eq!(rejection.error_code, ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(indexes(&rejection), [0, 1]);
}

#[test]
fn a_record_without_time_and_extreme_times_are_no_trouble() {
    let mut builder = BatchBuilder::new(Codec::None.into());
    builder.push(Timestamp::NONE, None, None, &[]);
    let batch = builder.build().unwrap();
    let strict = Rules {
        timestamp_before_max_ms: 0,
        ..Rules::default()
    };
    assert!(validate(&batch, &strict, NOW).is_ok());
    for millis in [i64::MIN, i64::MAX] {
        let mut builder = BatchBuilder::new(Codec::None.into());
        builder.push(Timestamp::from_millis(millis), None, None, &[]);
        let rejection = refused(&builder.build().unwrap(), &strict);
        assert_eq!(rejection.error_code, ErrorCode::INVALID_TIMESTAMP);
    }
}

#[test]
fn the_list_of_records_is_bounded() {
    let rejection = refused(
        &batch_at(Codec::Zstd, &vec![2 * HOUR; 5000]),
        &Rules::default(),
    );
    assert_eq!(rejection.records.len(), REJECTED_RECORDS_MAX);
}

#[test]
fn the_time_of_the_append_is_set() {
    let rules = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        ..Rules::default()
    };
    for codec in Codec::ALL {
        let batch = batch_at(codec, &[0, -7, 3]);
        let validated = validate(&batch, &rules, NOW).unwrap();
        assert_eq!(validated.log_append_time, Some(NOW));
        let stored = validated.batch;
        stored.verify_crc().unwrap();
        assert_eq!(stored.header().max_timestamp, NOW);
        assert_eq!(stored.payload(), batch.payload());
        assert!(
            records(&stored)
                .iter()
                .all(|record| record.timestamp == NOW)
        );
    }
}

#[test]
fn a_wrong_max_timestamp_is_mended() {
    for codec in [Codec::None, Codec::Snappy] {
        let attributes = Attributes::default().with_codec(codec);
        let batch = changed(codec, |bytes| {
            put(35, (NOW.as_millis() + 99 * HOUR).to_be_bytes())(bytes);
            put_attributes(attributes)(bytes);
        });
        let stored = validate(&batch, &Rules::default(), NOW).unwrap().batch;
        stored.verify_crc().unwrap();
        assert_eq!(stored.header().max_timestamp, NOW);
    }
}

#[test]
fn another_codec_than_the_topics_is_changed() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let mut builder = BatchBuilder::new(from.into())
                .producer(ProducerId::new(9), ProducerEpoch::new(2), 40)
                .transactional(true);
            for i in 0..50 {
                let time = NOW.saturating_add_millis(-i);
                builder.push(time, Some(b"k"), Some(&[b'v'; 100]), &[]);
            }
            let batch = builder.build().unwrap();
            let rules = Rules {
                compression: Some(to.into()),
                ..Rules::default()
            };
            let stored = validate(&batch, &rules, NOW).unwrap().batch;
            stored.verify_crc().unwrap();
            assert_eq!(stored.header().attributes.codec(), Ok(to));
            assert_eq!(stored.header().producer_id, ProducerId::new(9));
            assert_eq!(stored.header().base_sequence, 40);
            assert!(stored.header().attributes.is_transactional());
            assert_eq!(records(&stored), records(&batch));
            if from == to {
                assert_eq!(stored.bytes(), batch.bytes());
            }

            let append_time = Rules {
                timestamp_type: TimestampType::LogAppendTime,
                ..rules
            };
            let stored = validate(&batch, &append_time, NOW).unwrap().batch;
            assert_eq!(stored.header().max_timestamp, NOW);
            assert_eq!(records(&stored).len(), 50);
        }
    }
}

/// Hard corner 21.
#[test]
fn a_batch_that_outgrows_its_limit_when_recompressed_is_refused() {
    let batch = batch_at(Codec::Zstd, &[0; 1000]);
    let rules = Rules {
        compression: Some(Compression::NONE),
        max_message_bytes: 10_000,
        ..Rules::default()
    };
    assert!(batch.size() < 10_000);
    assert_eq!(
        refused(&batch, &rules).error_code,
        ErrorCode::MESSAGE_TOO_LARGE
    );
}

#[test]
fn a_bomb_is_defused() {
    let zeros = vec![0; 1 << 20];
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Snappy, Codec::Zstd] {
        let mut builder = BatchBuilder::new(codec.into());
        for _ in 0..3 {
            builder.push(NOW, Some(b"k"), Some(&zeros), &[]);
        }
        let bomb = builder.build().unwrap();
        let mut rules = Rules {
            deep: true,
            ..Rules::default()
        };
        assert!(validate(&bomb, &rules, NOW).is_ok());
        let small = [(2 << 20, usize::MAX), (usize::MAX, 1 << 19)];
        for (batch_bytes_max, record_bytes_max) in small {
            rules.limits = Limits {
                batch_bytes_max,
                record_bytes_max,
            };
            // A rule that hangs on the records cannot be answered without them.
            rules.compacted = true;
            let rejection = refused(&bomb, &rules);
            assert_eq!(
                rejection.error_code,
                ErrorCode::MESSAGE_TOO_LARGE,
                "{codec}"
            );
            // Where none does, looking at them ends at the limit.
            rules.compacted = false;
            assert!(validate(&bomb, &rules, NOW).is_ok(), "{codec}");
        }
    }
}

#[test]
fn one_batch_and_no_more_is_taken() {
    let batch = batch_at(Codec::None, &[0]);
    let twice: Bytes = [&batch.bytes()[..], &batch.bytes()[..]].concat().into();
    let error = Batch::parse(twice).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::INVALID_RECORD);
    let cut = batch.bytes().slice(..batch.size() - 1);
    let error = Batch::parse(cut).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::CORRUPT_MESSAGE);
}

/// What the leader assigns lies outside the CRC.
#[test]
fn offsets_are_assigned_without_a_new_crc() {
    let batch = batch_at(Codec::Lz4, &[0, 1]);
    let (offset, epoch) = (Offset::new(1 << 40), LeaderEpoch::new(17));
    let mut written = batch.leader_fields(offset, epoch).to_vec();
    written.extend_from_slice(batch.after_leader_fields());
    let assigned = batch.with_leader_fields(offset, epoch);
    assert_eq!(assigned.bytes(), &written[..]);
    assigned.verify_crc().unwrap();
    assert_eq!(records(&assigned)[1].offset, offset + 1);
}
