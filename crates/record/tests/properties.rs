//! Random batches come back as they were built, and no bytes make the reader panic or unfold beyond
//! its limits.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tidelog_record::crc::crc32c;
use tidelog_record::{
    Batch, BatchBuilder, BatchError, Codec, HeaderRef, Limits, Rules, TimestampType, validate,
};
use tidelog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

type Blob = Vec<u8>;

#[derive(Clone, Debug)]
struct Input {
    timestamp: i64,
    key: Option<Blob>,
    value: Option<Blob>,
    headers: Vec<(Blob, Option<Blob>)>,
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let blob = || vec(any::<u8>(), 0..40);
    let value = prop_oneof![8 => blob(), 1 => vec(any::<u8>(), 0..40_000)];
    let headers = vec((blob(), option::of(blob())), 0..3);
    let timestamp = prop_oneof![8 => -5_000..5_000_i64, 1 => any::<i64>()];
    let input = (timestamp, option::of(blob()), option::of(value), headers);
    vec(input, 1..30).prop_map(|inputs| {
        inputs
            .into_iter()
            .map(|(timestamp, key, value, headers)| Input {
                timestamp,
                key,
                value,
                headers,
            })
            .collect()
    })
}

fn codec() -> impl Strategy<Value = Codec> {
    select(Codec::ALL.to_vec())
}

fn builder_with(codec: Codec, inputs: &[Input]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec.into());
    push_all(&mut builder, inputs);
    builder
}

fn push_all(builder: &mut BatchBuilder, inputs: &[Input]) {
    for input in inputs {
        let headers: Vec<_> = input
            .headers
            .iter()
            .map(|(key, value)| HeaderRef {
                key,
                value: value.as_deref(),
            })
            .collect();
        builder.push(
            Timestamp::from_millis(input.timestamp),
            input.key.as_deref(),
            input.value.as_deref(),
            &headers,
        );
    }
}

/// Reads everything there is in every way there is.
fn read_all(bytes: Bytes, limits: Limits) {
    let mut rest = bytes;
    while let Ok(Some(batch)) = Batch::split_from(&mut rest) {
        let _ = batch.verify_crc();
        let header = batch.header();
        let _ = (
            header.check_offsets(),
            header.next_offset(),
            header.last_sequence(),
        );
        let mut owned = 0;
        if let Ok(records) = batch.records_within(limits) {
            let mut failed = false;
            for record in records {
                assert!(!failed, "a record after an error");
                failed = record.is_err();
                if let Ok(record) = record {
                    assert!(
                        record
                            .value
                            .is_none_or(|value| value.len() <= limits.record_bytes_max)
                    );
                    owned += 1;
                }
            }
        }
        let mut walked = 0;
        if let Ok(mut walk) = batch.walk_within(limits) {
            let error = loop {
                match walk.next_record() {
                    Ok(Some(record)) => {
                        assert_eq!(record.headers.iter().count(), record.headers.len());
                        walked += 1;
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            assert_eq!(walk.next_record(), Ok(None), "after {error:?}");
        }
        assert_eq!(walked, owned);
        let _ = validate(
            &batch,
            &Rules {
                deep: true,
                limits,
                ..Rules::default()
            },
            Timestamp::NONE,
        );
    }
}

const TIGHT: Limits = Limits {
    batch_bytes_max: 64 << 10,
    record_bytes_max: 48 << 10,
};

/// The bytes with a length field and a CRC that fit them, so that what lies behind is reached.
fn reseal(bytes: &mut [u8]) {
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_come_back_as_they_were_built(
        inputs in inputs(),
        codec in codec(),
        base_offset in 0..1_i64 << 60,
        append_time in option::of(any::<i64>()),
        transactional: bool,
    ) {
        let (id, epoch) = (ProducerId::new(5), ProducerEpoch::new(6));
        let mut builder = BatchBuilder::new(codec.into())
            .base_offset(Offset::new(base_offset))
            .partition_leader_epoch(LeaderEpoch::new(3))
            .producer(id, epoch, 7)
            .transactional(transactional);
        if let Some(millis) = append_time {
            builder = builder.log_append_time(Timestamp::from_millis(millis));
        }
        push_all(&mut builder, &inputs);
        let batch = Batch::parse(builder.build().unwrap().bytes().clone()).unwrap();
        batch.verify_crc().unwrap();
        batch.header().check_offsets().unwrap();
        let header = batch.header();
        prop_assert_eq!(header.attributes.codec(), Ok(codec));
        prop_assert_eq!(header.records_count as usize, inputs.len());
        prop_assert_eq!(header.last_offset(), Offset::new(base_offset + inputs.len() as i64 - 1));
        prop_assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (id, epoch, 7));
        prop_assert_eq!(header.attributes.is_transactional(), transactional);
        match append_time {
            Some(millis) => {
                prop_assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
                prop_assert_eq!(header.max_timestamp.as_millis(), millis);
            }
            None => {
                let newest = inputs.iter().map(|input| input.timestamp).max().unwrap();
                prop_assert_eq!(header.max_timestamp.as_millis(), newest.max(-1));
            }
        }
        for (i, (record, input)) in batch.records().unwrap().zip(&inputs).enumerate() {
            let record = record.unwrap();
            prop_assert_eq!(record.offset, Offset::new(base_offset + i as i64));
            prop_assert_eq!(record.timestamp.as_millis(), append_time.unwrap_or(input.timestamp));
            prop_assert_eq!(record.key.as_deref(), input.key.as_deref());
            prop_assert_eq!(record.value.as_deref(), input.value.as_deref());
            prop_assert_eq!(record.headers.len(), input.headers.len());
            for (header, (key, value)) in record.headers.iter().zip(&input.headers) {
                prop_assert_eq!(&header.key[..], &key[..]);
                prop_assert_eq!(header.value.as_deref(), value.as_deref());
            }
        }
        prop_assert_eq!(batch.records().unwrap().count(), inputs.len());
    }

    /// Compaction takes records out and keeps offsets and times of the others.
    #[test]
    fn records_keep_their_offsets_when_others_go(
        inputs in inputs(),
        codec in codec(),
        kept: Vec<bool>,
    ) {
        let batch = builder_with(codec, &inputs).build().unwrap();
        let mut builder = BatchBuilder::new(codec.into());
        let mut expected = Vec::new();
        let mut walk = batch.walk().unwrap();
        while let Some(record) = walk.next_record().unwrap() {
            if kept.get(expected.len()).copied().unwrap_or(true) {
                builder.push_record(&record);
            }
            expected.push(record.offset);
        }
        let mut keep = kept.iter().copied().chain(std::iter::repeat(true));
        expected.retain(|_| keep.next().unwrap());
        if expected.is_empty() {
            prop_assert_eq!(builder.build(), Err(BatchError::InvalidCount { records_count: 0 }));
        } else {
            let rebuilt = builder.build().unwrap();
            let offsets: Vec<_> = rebuilt.records().unwrap().map(|r| r.unwrap().offset).collect();
            prop_assert_eq!(offsets, expected);
        }
    }

    #[test]
    fn cut_and_flipped_batches_never_panic(
        inputs in inputs(),
        codec in codec(),
        flips in vec((any::<Index>(), any::<u8>()), 0..4),
        cut in any::<Index>(),
    ) {
        let mut bytes = builder_with(codec, &inputs).build().unwrap().bytes().to_vec();
        for (at, bits) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        read_all(bytes.clone().into(), TIGHT);
        if bytes[16] == 2 {
            reseal(&mut bytes);
            read_all(bytes.clone().into(), TIGHT);
            bytes.truncate((61 + cut.index(bytes.len())).min(bytes.len()));
            reseal(&mut bytes);
            read_all(bytes.clone().into(), TIGHT);
        }
        bytes.truncate(cut.index(bytes.len()));
        read_all(bytes.into(), TIGHT);
    }

    /// KIP-534, and hard corner 42: what compaction makes of a batch keeps everything but the records that go.
    #[test]
    fn a_batch_that_loses_records_keeps_the_rest(
        inputs in inputs(),
        kept in vec(any::<bool>(), 30),
        codec in codec(),
        append_time: bool,
        horizon in option::of(0..5_000_i64),
    ) {
        let mut builder = BatchBuilder::new(codec.into())
            .base_offset(Offset::new(40))
            .partition_leader_epoch(LeaderEpoch::new(3))
            .producer(ProducerId::new(9), ProducerEpoch::new(1), 17)
            .transactional(true);
        if append_time {
            builder = builder.log_append_time(Timestamp::from_millis(77));
        }
        push_all(&mut builder, &inputs);
        let batch = builder.build().unwrap();
        let is_kept = |offset: Offset| kept[(offset - Offset::new(40)) as usize];
        let horizon = horizon.map(Timestamp::from_millis);
        let rest = batch.retain(horizon, |record| is_kept(record.offset));
        let expected: Vec<_> = batch
            .records()
            .unwrap()
            .map(Result::unwrap)
            .filter(|record| is_kept(record.offset))
            .collect();
        if expected.is_empty() {
            prop_assert_eq!(rest, Err(BatchError::InvalidCount { records_count: 0 }));
            return Ok(());
        }
        let rest = rest.unwrap();
        prop_assert_eq!(rest.verify_crc(), Ok(()));
        let found: Vec<_> = rest.records().unwrap().map(Result::unwrap).collect();
        let newest = expected.iter().map(|record| record.timestamp).max().unwrap();
        let (old, new) = (batch.header(), rest.header());
        prop_assert_eq!(new.max_timestamp, newest.max(Timestamp::NONE));
        prop_assert_eq!(new.delete_horizon(), horizon);
        prop_assert_eq!(new.records_count as usize, expected.len());
        let same = tidelog_record::BatchHeader {
            batch_length: old.batch_length,
            crc: old.crc,
            attributes: new.attributes.with_delete_horizon(false),
            base_timestamp: old.base_timestamp,
            max_timestamp: old.max_timestamp,
            records_count: old.records_count,
            ..*new
        };
        prop_assert_eq!(&same, old);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_flipped_bit_is_found_by_the_crc(inputs in inputs(), at: Index, bit in 0..8) {
        let mut bytes = builder_with(Codec::None, &inputs).build().unwrap().bytes().to_vec();
        let at = 21 + at.index(bytes.len() - 21);
        bytes[at] ^= 1_u8 << bit;
        let crc_error = Batch::parse(bytes.into()).unwrap().verify_crc();
        let found = matches!(crc_error, Err(BatchError::CrcMismatch { .. }));
        prop_assert!(found);
    }

    /// Random records behind a header that is right, for every codec id.
    #[test]
    fn any_records_never_panic(
        mut payload in vec(any::<u8>(), 0..300),
        codec in 0..8_i16,
        count in prop_oneof![0..5_i32, any::<i32>()],
        framed: bool,
    ) {
        let mut bytes = builder_with(Codec::None, &[Input {
            timestamp: 0, key: None, value: None, headers: Vec::new(),
        }]).build().unwrap().bytes()[..61].to_vec();
        bytes[21..23].copy_from_slice(&codec.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        if framed {
            let magic: &[u8] = match codec {
                1 => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff],
                2 => b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01",
                3 => &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82],
                4 => &[0x28, 0xb5, 0x2f, 0xfd],
                _ => &[],
            };
            payload.splice(..0, magic.iter().copied());
        }
        bytes.extend_from_slice(&payload);
        reseal(&mut bytes);
        read_all(bytes.into(), TIGHT);
    }

    /// Several batches one after another, the last one cut, as a fetch may bring them.
    #[test]
    fn a_cut_batch_stays_behind(inputs in inputs(), count in 0..4_usize, cut: Index) {
        let batch = builder_with(Codec::None, &inputs).build().unwrap();
        let cut = cut.index(batch.size());
        let mut bytes = batch.bytes().repeat(count);
        bytes.extend_from_slice(&batch.bytes()[..cut]);
        let mut rest = Bytes::from(bytes);
        for _ in 0..count {
            prop_assert_eq!(Batch::split_from(&mut rest), Ok(Some(batch.clone())));
        }
        prop_assert_eq!(Batch::split_from(&mut rest), Ok(None));
        prop_assert_eq!(rest.len(), cut);
    }
}
