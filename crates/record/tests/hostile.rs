//! Bytes that nobody meant well with: every record set of Kafka's cut and flipped, and decompression
//! bombs. An error, no panic, and no more memory than the bytes bring or the limits allow, as a
//! counting allocator sees it. (What the C code of zstd allocates it does not see: a window of at
//! most 128 MiB, of which only as much is touched as there is data.)

mod support;

use std::io::Write;

use allocation_counter::measure;
use bytes::Bytes;
use flate2::write::GzEncoder;
use tidelog_record::crc::{crc32, crc32c};
use tidelog_record::legacy::{LegacyBuilder, LegacyMagic};
use tidelog_record::{
    AnyBatch, AnyHeader, BatchBuilder, BatchError, Codec, Limits, Rules, downconvert, upconvert,
    validate,
};
use tidelog_types::{Offset, Timestamp};

use support::record_sets;

const LIMITS: Limits = Limits {
    batch_bytes_max: 64 << 10,
    record_bytes_max: 48 << 10,
};

/// What a codec needs by itself, whatever it reads: an LZ4 frame may have blocks of 4 MiB, of which
/// one is held as it came and one decompressed; inflating has a window of 32 KiB.
fn codec_bytes(codec: Codec) -> u64 {
    match codec {
        Codec::None => 0,
        Codec::Gzip | Codec::Snappy | Codec::Zstd => 128 << 10,
        Codec::Lz4 => 17 << 19,
    }
}

/// What an error takes that says in words what is wrong.
const ERROR_BYTES: u64 = 1 << 10;

/// How much memory reading a record set may take.
fn allowed(record_set: &Bytes) -> u64 {
    let mut rest = record_set.clone();
    let mut codecs = 0;
    while let Ok(Some(batch)) = AnyBatch::split_from(&mut rest) {
        let attributes = match batch.header() {
            AnyHeader::Legacy(header) => header.attributes,
            AnyHeader::V2(header) => header.attributes,
        };
        if let Ok(codec @ (Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd)) =
            attributes.codec()
        {
            // The window grows by doubling.
            codecs = codecs.max(codec_bytes(codec) + 3 * LIMITS.batch_bytes_max as u64);
        }
    }
    record_set.len() as u64 + ERROR_BYTES + codecs
}

/// Reads a record set in every way that keeps nothing.
fn walk(record_set: &Bytes) {
    let mut rest = record_set.clone();
    while let Ok(Some(batch)) = AnyBatch::split_from(&mut rest) {
        let _ = batch.verify_crc();
        let mut walked = 0;
        if let Ok(mut walk) = batch.walk_within(LIMITS) {
            while let Ok(Some(record)) = walk.next_record() {
                assert_eq!(record.headers.iter().count(), record.headers.len());
                walked += 1;
            }
            assert_eq!(walk.next_record(), Ok(None));
        }
        let records = batch.records_within(LIMITS).into_iter().flatten();
        assert_eq!(records.filter(Result::is_ok).count(), walked);
    }
}

/// What holds the records as a whole: the conversions, and the check of a produced batch.
fn convert(record_set: &Bytes) {
    let _ = upconvert(record_set.clone(), LIMITS);
    for magic in [LegacyMagic::V0, LegacyMagic::V1] {
        let _ = downconvert(record_set.clone(), magic, Offset::ZERO, LIMITS);
    }
    if let Ok(AnyBatch::V2(batch)) = AnyBatch::parse(record_set.clone()) {
        let rules = Rules {
            deep: true,
            limits: LIMITS,
            ..Rules::default()
        };
        let _ = validate(&batch, &rules, Timestamp::NONE);
    }
}

fn read(name: &str, record_set: Bytes) {
    let allowed = allowed(&record_set);
    let used = measure(|| walk(&record_set)).bytes_max;
    assert!(
        used <= allowed,
        "{name}: {used} bytes, allowed are {allowed}"
    );
    convert(&record_set);
}

/// The batch with a length and a checksum that fit it, so that what lies behind them is reached.
fn sealed(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    if bytes[16] < 2 {
        let crc = crc32(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_be_bytes());
    } else {
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.into()
}

#[test]
fn cut_record_sets_are_refused_or_end_early() {
    for set in record_sets() {
        let whole = set.expected.len();
        for len in 0..set.bytes.len() {
            let mut rest = set.bytes.slice(..len);
            let mut batches = 0;
            while let Some(batch) = AnyBatch::split_from(&mut rest).unwrap() {
                batch.verify_crc().unwrap();
                batches += 1;
            }
            assert!(batches < whole, "{} cut to {len}", set.name);
            // The cut batch again, as if it were meant to be that long. In all but the shortest
            // record sets at some lengths only.
            if rest.len() >= 22 && (set.bytes.len() < 300 || len % 61 == 0) {
                read(&set.name, sealed(&rest));
            }
        }
    }
}

#[test]
fn flipped_bits_are_refused_or_read_as_something_else() {
    for set in record_sets() {
        let step = if set.bytes.len() < 110 {
            1
        } else {
            set.bytes.len().div_ceil(40)
        };
        for at in (0..set.bytes.len()).step_by(step) {
            // Each bit in the shortest record sets, one a byte in the others.
            let bits = if step == 1 { 0..8 } else { at % 8..at % 8 + 1 };
            for bit in bits {
                let mut bytes = set.bytes.to_vec();
                bytes[at] ^= 1 << bit;
                if set.expected.len() == 1 {
                    read(&set.name, sealed(&bytes));
                }
                let bytes = Bytes::from(bytes);
                let mut rest = bytes.clone();
                let found = loop {
                    match AnyBatch::split_from(&mut rest) {
                        Ok(Some(batch)) if batch.verify_crc().is_ok() => {}
                        Ok(None) => break !rest.is_empty(),
                        _ => break true,
                    }
                };
                // The base offset and the leader epoch of v2, and the offset before, lie outside
                // the checksums.
                let uncovered = set.expected.len() > 1 || at < 8 || (12..16).contains(&at);
                assert!(found || uncovered, "{}, bit {bit} of byte {at}", set.name);
                read(&set.name, bytes);
            }
        }
    }
}

const RECORD_LEN: usize = 1 << 10;
const BOMB_RECORDS: usize = 2 << 10;

/// 2 MiB in records of 1 KiB, as a batch of `codec`, and as a wrapper of v1.
fn bombs(codec: Codec) -> Vec<AnyBatch> {
    let zeros = [0; RECORD_LEN];
    let mut builder = BatchBuilder::new(codec.into());
    for _ in 0..BOMB_RECORDS {
        builder.push(Timestamp::NONE, None, Some(&zeros), &[]);
    }
    let mut bombs = vec![AnyBatch::V2(builder.build().unwrap())];
    if let Ok(mut builder) = LegacyBuilder::new(LegacyMagic::V1, codec.into()) {
        for _ in 0..BOMB_RECORDS {
            builder.push(Timestamp::NONE, None, Some(&zeros));
        }
        bombs.push(AnyBatch::parse(builder.build().unwrap()).unwrap());
    }
    bombs
}

/// One record after another is decompressed: memory does not depend on how many there are.
#[test]
fn a_reader_is_never_far_ahead_of_the_record_that_is_asked_for() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        for bomb in bombs(codec) {
            assert!(bomb.bytes().len() < 1 << 19);
            let mut count = 0;
            let walked = measure(|| {
                let mut walk = bomb.walk().unwrap();
                while walk.next_record().unwrap().is_some() {
                    count += 1;
                }
            });
            assert_eq!(count, BOMB_RECORDS);
            let kept_none = measure(|| {
                let records = bomb.records().unwrap();
                count = records.filter(Result::is_ok).count();
            });
            assert_eq!(count, BOMB_RECORDS);
            // Blocks of our own LZ4 frames have 64 KiB.
            let allowed = 256 << 10;
            for used in [walked.bytes_max, kept_none.bytes_max] {
                assert!(used < allowed, "{codec}: {used} bytes");
            }
        }
    }
}

/// The limit of the batch bounds the work, however many records there are.
#[test]
fn a_batch_ends_at_its_limit() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        for bomb in bombs(codec) {
            let error = bomb.walk_within(LIMITS).and_then(|mut walk| {
                while walk.next_record()?.is_some() {}
                Ok(())
            });
            let (what, limit) = ("batch", LIMITS.batch_bytes_max);
            assert_eq!(
                error,
                Err(BatchError::LimitExceeded { what, limit }),
                "{codec}"
            );
        }
    }
}

/// A batch of one record that claims to have `len` bytes, in front of `packed`.
fn one_record(codec: Codec, packed: &[u8]) -> AnyBatch {
    let mut builder = BatchBuilder::new(Codec::None.into());
    builder.push(Timestamp::NONE, None, None, &[]);
    let mut bytes = builder.build().unwrap().bytes()[..61].to_vec();
    bytes[22] = codec.id();
    bytes.extend_from_slice(packed);
    AnyBatch::parse(sealed(&bytes)).unwrap()
}

/// The length of a record of 2^30 bytes, and the beginning of the record.
const GIGABYTE: [u8; 6] = [0x80, 0x80, 0x80, 0x80, 0x08, 0];

/// 32 KiB that unfold to 1 GiB: blocks of zstd that repeat one byte.
fn zstd_bomb() -> Vec<u8> {
    let raw = |last: u8, len: usize| [last | (len << 3) as u8, 0, 0];
    // A window of 128 KiB, the record's beginning as it is, and repeated zeros.
    let mut packed = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    packed.extend(raw(0, GIGABYTE.len()));
    packed.extend(GIGABYTE);
    for _ in 0..8192 {
        packed.extend([0x02, 0x00, 0x10, 0x00]);
    }
    packed.extend(raw(1, 0));
    packed
}

fn gzip_bomb() -> Vec<u8> {
    let mut stream = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    stream.write_all(&GIGABYTE).unwrap();
    for _ in 0..16 {
        stream.write_all(&[0; 1 << 20]).unwrap();
    }
    stream.finish().unwrap()
}

/// A record that claims a gigabyte is not believed: nothing is reserved for it, and what is too
/// large is refused before it is decompressed.
#[test]
fn a_record_ends_at_its_limit() {
    for (codec, packed) in [(Codec::Zstd, zstd_bomb()), (Codec::Gzip, gzip_bomb())] {
        let bomb = one_record(codec, &packed);
        let small = Limits::DEFAULT;
        let mut error = None;
        let used = measure(|| error = bomb.walk_within(small).unwrap().next_record().err());
        let (what, limit) = ("record", small.record_bytes_max);
        assert_eq!(error, Some(BatchError::LimitExceeded { what, limit }));
        assert!(used.bytes_max < 128 << 10, "{codec}: {used:?}");

        // With a limit of the batch only, memory follows the data up to it.
        let limits = Limits {
            batch_bytes_max: 8 << 20,
            record_bytes_max: usize::MAX,
        };
        let used = measure(|| error = bomb.walk_within(limits).unwrap().next_record().err());
        let (what, limit) = ("batch", limits.batch_bytes_max);
        assert_eq!(error, Some(BatchError::LimitExceeded { what, limit }));
        assert!(used.bytes_max < 33 << 20, "{codec}: {used:?}");
    }
}
