//! Damaged bytes give an error or another message, never a panic.

use bytes::Bytes;
use tidelog_protocol::{Reader, Request, RequestHeader};

use crate::support::{Failure, Subject, subjects};

/// How many places of a vector are damaged, spread evenly.
const PLACES_MAX: usize = 60;

fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(len.div_ceil(PLACES_MAX).max(1))
}

/// Reads damaged bytes. If they are a message nevertheless, it can be written.
fn read_damaged(subject: &Subject, bytes: Vec<u8>, version: i16) {
    if let Err(Failure::Encode(error)) = subject.recode(&Bytes::from(bytes), version) {
        panic!(
            "{} {version} was read and cannot be written: {error}",
            subject.name
        );
    }
}

#[test]
fn a_message_that_was_cut_is_an_error() {
    for subject in subjects() {
        for vector in subject.vectors() {
            for len in places(vector.bytes.len()) {
                let place = format!("{} {}, {len} bytes", subject.name, vector.version);
                match subject.recode(&vector.bytes.slice(..len), vector.version) {
                    Err(Failure::Decode(error)) => assert!(error.position() <= len, "{error}"),
                    other => panic!("{place}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn flipped_bits_do_no_harm() {
    for subject in subjects() {
        for vector in subject.vectors() {
            for place in places(vector.bytes.len()) {
                let mut bytes = vector.bytes.to_vec();
                bytes[place] ^= 1 << (place % 8);
                read_damaged(&subject, bytes, vector.version);
            }
        }
    }
}

#[test]
fn lengths_that_lie_do_no_harm() {
    // The largest length as an i32 and as a varint, null, and the smallest number.
    let lengths: [&[u8]; 4] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0x00, 0x00, 0x00],
    ];
    for subject in subjects() {
        for vector in subject.vectors() {
            for place in places(vector.bytes.len()) {
                for length in lengths {
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
            key in 0_i16..80,
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
