//! Damaged bytes give an error that says where, or another message: never a panic, and never more
//! memory than the bytes are worth, as a counting allocator sees it.

use allocation_counter::measure;
use bytes::Bytes;
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::metadata::MetadataResponse;
use tidelog_protocol::{DecodeErrorKind, Message, Reader, Request, RequestHeader};

use crate::support::{Failure, Subject, subjects};

/// How many bytes of memory a message may take for each of its bytes: of an array of empty texts.
const MEMORY_FACTOR: u64 = 32;
/// What an error takes, and an array of which nothing has arrived, one in the other.
const MEMORY_MIN: u64 = 20 * 1024;

/// Reads damaged bytes. If they are a message nevertheless, it can be written.
fn read_damaged(subject: &Subject, bytes: Vec<u8>, version: i16) {
    let (bytes, name) = (Bytes::from(bytes), &subject.name);
    let mut read = Ok(());
    let memory = measure(|| read = subject.read(&bytes, version));
    let allowed = MEMORY_MIN + MEMORY_FACTOR * bytes.len() as u64;
    let taken = memory.bytes_max;
    assert!(
        taken <= allowed,
        "{name} {version} took {taken} bytes for {}",
        bytes.len()
    );
    match read {
        Ok(()) => {
            if let Err(Failure::Encode(error)) = subject.recode(&bytes, version) {
                panic!("{name} {version} was read and cannot be written: {error}");
            }
        }
        Err(error) => {
            assert_ne!(error.field(), ("", ""), "{error}");
            assert!(error.position() <= bytes.len(), "{error}");
        }
    }
}

#[test]
fn a_message_that_was_cut_is_an_error() {
    for subject in subjects() {
        for vector in subject.vectors() {
            for len in 0..vector.bytes.len() {
                let place = format!("{} {}, {len} bytes", subject.name, vector.version);
                let Err(error) = subject.read(&vector.bytes.slice(..len), vector.version) else {
                    panic!("{place} are enough");
                };
                assert_ne!(error.field(), ("", ""), "{place}: {error}");
                assert!(error.position() <= len, "{place}: {error}");
            }
        }
    }
}

#[test]
fn flipped_bits_do_no_harm() {
    for subject in subjects() {
        for vector in subject.vectors() {
            for place in 0..vector.bytes.len() {
                let mut bytes = vector.bytes.to_vec();
                bytes[place] ^= 1 << (place % 8);
                read_damaged(&subject, bytes, vector.version);
            }
        }
    }
}

#[test]
fn lengths_that_lie_do_no_harm() {
    // The largest length as an i32 and as a varint, a million, null, and the smallest number.
    let lengths: [&[u8]; 5] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0x00, 0x0f, 0x42, 0x40],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0x00, 0x00, 0x00],
    ];
    for subject in subjects() {
        for (i, vector) in subject.vectors().iter().enumerate() {
            // Every length at every place of a few vectors, and one length each of the others.
            for (j, length) in lengths.iter().enumerate() {
                let step = if i < 2 { 1 } else { 7 };
                for place in (j % step..vector.bytes.len()).step_by(step) {
                    let mut bytes = vector.bytes.to_vec();
                    let end = bytes.len().min(place + length.len());
                    bytes[place..end].copy_from_slice(&length[..end - place]);
                    read_damaged(&subject, bytes, vector.version);
                }
            }
        }
    }
}

#[test]
fn a_promise_takes_no_memory() {
    // A million brokers, and nothing behind that.
    for promise in [&[0, 0x0f, 0x42, 0x40][..], &[0x7f, 0xff, 0xff, 0xff]] {
        let bytes = Bytes::from_static(promise);
        let memory = measure(|| {
            MetadataResponse::from_bytes(bytes.clone(), 0).expect_err("nothing was sent");
        });
        assert!(memory.bytes_max < 200, "{memory:?}");
    }
    // As many brokers as there are bytes.
    let bytes = [&10_000_u32.to_be_bytes()[..], &[0xff; 10_000]].concat();
    let bytes = Bytes::from(bytes);
    let memory = measure(|| {
        MetadataResponse::from_bytes(bytes.clone(), 0).expect_err("that is no broker");
    });
    assert!(memory.bytes_max < bytes.len() as u64 + 200, "{memory:?}");
}

#[test]
fn many_and_long_tags_are_refused() {
    // A group, a generation, a member, no instance; then the tags.
    let request = |tags: &[u8]| {
        let bytes = [&[2, b'g', 0, 0, 0, 7, 2, b'm', 0], tags].concat();
        HeartbeatRequest::from_bytes(Bytes::from(bytes), 4).map_err(|e| e.kind())
    };
    // 10,001 tags; a varint of 32 bits; a tag of 127 bytes of which there is one; one within the
    // other is not how tags are: what is in an unknown tag is not looked at.
    assert_eq!(
        request(&[0x91, 0x4e]),
        Err(DecodeErrorKind::ManyTags { count: 10_001 })
    );
    assert!(request(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    assert_eq!(
        request(&[1, 9, 127, 0]),
        Err(DecodeErrorKind::EndsEarly { missing: 126 })
    );
    assert!(request(&[1, 9, 3, 1, 1, 1]).is_ok());
    let nested: Vec<u8> = (0..40).flat_map(|i| [1, 9, 117 - 3 * i]).collect();
    assert!(request(&nested).is_ok());
}

#[test]
fn versions_that_do_not_exist_are_errors() {
    for subject in subjects() {
        let vector = subject.vectors().pop().expect("there are vectors");
        let (before, behind) = (subject.versions.min - 1, subject.versions.max + 1);
        for version in [i16::MIN, -1, before, behind, i16::MAX] {
            let read = subject.recode(&vector.bytes, version);
            assert!(matches!(read, Err(Failure::Decode(_))), "{read:?}");
        }
    }
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn random_frames_do_no_harm(
            key in 0_i16..95,
            version in -1_i16..20,
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut frame = Vec::new();
            frame.extend_from_slice(&key.to_be_bytes());
            frame.extend_from_slice(&version.to_be_bytes());
            frame.extend_from_slice(&rest);
            let mut reader = Reader::new(Bytes::from(frame));
            if let Ok(header) = RequestHeader::read(&mut reader) {
                let _ = Request::read(&mut reader, header.api_key, header.api_version);
            }
        }
    }
}
