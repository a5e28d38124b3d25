//! Damaged bytes give an error or another message, never a panic.

use bytes::Bytes;
use tidelog_protocol::{Message, Reader, Request, RequestHeader};

use crate::support::vectors;

/// How many places of a vector are damaged, spread evenly.
const PLACES_MAX: usize = 60;

fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(len.div_ceil(PLACES_MAX).max(1))
}

/// Reads damaged bytes. If they are a message nevertheless, it can be written.
fn read_damaged<M: Message>(bytes: Vec<u8>, version: i16) {
    if let Ok(message) = M::read(&mut Reader::new(Bytes::from(bytes)), version) {
        message
            .to_bytes(version)
            .expect("what was read can be written in the same version");
    }
}

fn cut<M: Message>(set: &str) {
    for vector in vectors(set, M::NAME) {
        for len in places(vector.bytes.len()) {
            let bytes = vector.bytes.slice(..len);
            let error = M::read(&mut Reader::new(bytes), vector.version)
                .err()
                .unwrap_or_else(|| {
                    panic!("{} {}: {len} bytes are enough", M::NAME, vector.version)
                });
            assert!(error.position() <= len, "{error}");
        }
    }
}

#[test]
fn a_message_that_was_cut_is_an_error() {
    each_message!(cut);
}

fn flip<M: Message>(set: &str) {
    for vector in vectors(set, M::NAME) {
        for place in places(vector.bytes.len()) {
            let mut bytes = vector.bytes.to_vec();
            bytes[place] ^= 1 << (place % 8);
            read_damaged::<M>(bytes, vector.version);
        }
    }
}

#[test]
fn flipped_bits_do_no_harm() {
    each_message!(flip);
}

fn exaggerate<M: Message>(set: &str) {
    // The largest length as an i32 and as a varint, null, and the smallest number.
    let lengths: [&[u8]; 4] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0x00, 0x00, 0x00],
    ];
    for vector in vectors(set, M::NAME) {
        for place in places(vector.bytes.len()) {
            for length in lengths {
                let mut bytes = vector.bytes.to_vec();
                let end = bytes.len().min(place + length.len());
                bytes[place..end].copy_from_slice(&length[..end - place]);
                read_damaged::<M>(bytes, vector.version);
            }
        }
    }
}

#[test]
fn lengths_that_lie_do_no_harm() {
    each_message!(exaggerate);
}

fn any_version<M: Message>(set: &str) {
    let vector = vectors(set, M::NAME).pop().expect("there are vectors");
    for version in [
        i16::MIN,
        -1,
        M::VERSIONS.min - 1,
        M::VERSIONS.max + 1,
        i16::MAX,
    ] {
        M::read(&mut Reader::new(vector.bytes.clone()), version)
            .err()
            .expect("no such version");
        M::default().to_bytes(version).expect_err("no such version");
    }
}

#[test]
fn versions_that_do_not_exist_are_errors() {
    each_message!(any_version);
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
                let _ = Request::read(&mut reader, &header);
            }
        }
    }
}
