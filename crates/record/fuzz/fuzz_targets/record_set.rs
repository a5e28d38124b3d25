//! Any bytes as a record set, read in every way there is. The bytes come as they are, and once more
//! with checksums that fit, so that what lies behind those is reached too.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidelog_record::crc::{crc32, crc32c};
use tidelog_record::legacy::LegacyMagic;
use tidelog_record::{
    AnyBatch, AnyHeader, Batch, BatchBuilder, Limits, Record, Rules, TimestampType, downconvert,
    upconvert, validate,
};
use tidelog_types::{Offset, Timestamp};

const LIMITS: Limits = Limits {
    batch_bytes_max: 1 << 20,
    record_bytes_max: 256 << 10,
};

fuzz_target!(|bytes: &[u8]| {
    read(Bytes::copy_from_slice(bytes));
    read(sealed(bytes));
});

fn read(record_set: Bytes) {
    let mut rest = record_set.clone();
    while let Ok(Some(batch)) = AnyBatch::split_from(&mut rest) {
        let _ = batch.verify_crc();
        let header = batch.header();
        assert_eq!(header.size(), batch.bytes().len());
        let records = records_of(&batch);
        if let AnyBatch::V2(batch) = batch {
            let _ = batch.header().check_offsets();
            let rules = Rules {
                deep: true,
                limits: LIMITS,
                ..Rules::default()
            };
            let _ = validate(&batch, &rules, Timestamp::NONE);
            if let Some(records) = records {
                build_again(&batch, &records);
            }
        }
    }
    let _ = upconvert(record_set.clone(), LIMITS);
    for magic in [LegacyMagic::V0, LegacyMagic::V1] {
        let _ = downconvert(record_set.clone(), magic, Offset::ZERO, LIMITS);
    }
}

/// The records, if none is broken; read shared and borrowed alike.
fn records_of(batch: &AnyBatch) -> Option<Vec<Record>> {
    let shared: Result<Vec<_>, _> = batch.records_within(LIMITS).and_then(Iterator::collect);
    let walked = batch.walk_within(LIMITS).and_then(|mut walk| {
        let mut count = 0;
        while let Some(record) = walk.next_record()? {
            assert_eq!(record.headers.iter().count(), record.headers.len());
            count += 1;
        }
        Ok(count)
    });
    assert_eq!(shared.as_ref().map(Vec::len), walked.as_ref().copied());
    shared.ok()
}

/// What was read and can be built, is read again as it was.
fn build_again(batch: &Batch, records: &[Record]) {
    let header = batch.header();
    let in_order = records.is_sorted_by(|a, b| a.offset < b.offset);
    let first_fits = records.first().is_some_and(|first| first.offset >= header.base_offset);
    if !in_order || !first_fits || header.check_offsets().is_err() {
        return;
    }
    let Ok(codec) = header.attributes.codec() else {
        return;
    };
    let mut builder = BatchBuilder::new(codec.into()).base_offset(header.base_offset);
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        builder = builder.log_append_time(header.max_timestamp);
    }
    let mut walk = batch.walk_within(LIMITS).expect("was read before");
    while let Some(record) = walk.next_record().expect("was read before") {
        builder.push_record(&record);
    }
    let built = AnyBatch::V2(builder.build().expect("was read before"));
    built.verify_crc().expect("built right now");
    assert_eq!(records_of(&built).as_deref(), Some(records));
}

/// The bytes with the checksums that each batch should have.
fn sealed(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Ok(header) = AnyHeader::decode(&bytes[at..]) {
        let Some(batch) = bytes[at..].get_mut(..header.size()) else {
            break;
        };
        match header {
            AnyHeader::Legacy(_) => {
                let crc = crc32(&batch[16..]);
                batch[12..16].copy_from_slice(&crc.to_be_bytes());
            }
            AnyHeader::V2(_) => {
                let crc = crc32c(&batch[21..]);
                batch[17..21].copy_from_slice(&crc.to_be_bytes());
            }
        }
        at += header.size();
    }
    bytes.into()
}
