//! Every message in every version against bytes that Kafka's own classes wrote.
//!
//! `TIDELOG_VECTORS=DIR` runs the test over other vectors of the same layout.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use tidelog_protocol::records::group::classic::{OffsetCommitKey, OffsetCommitValue};
use tidelog_protocol::{APIS, ApiKey, Message, Reader, RequestHeader, ResponseHeader, Writer};

use crate::support::{Vector, assert_same, to_json, vectors};

type Counts = BTreeMap<&'static str, usize>;

thread_local! {
    /// How many vectors of each message were checked.
    static CHECKED: RefCell<Counts> = const { RefCell::new(Counts::new()) };
}

fn check<M: Message + Debug>(set: &str) {
    check_as::<M>(set, M::NAME);
}

/// Checks the vectors of the message that Kafka calls `name`.
fn check_as<M: Message + Debug>(set: &str, name: &'static str) {
    let vectors = vectors(set, name);
    for version in M::VERSIONS.iter() {
        assert!(
            vectors.iter().any(|v| v.version == version),
            "{name} has no version {version}"
        );
    }
    check_vectors::<M>(name, &vectors);
}

fn check_vectors<M: Message + Debug>(name: &'static str, vectors: &[Vector]) {
    for (i, vector) in vectors.iter().enumerate() {
        let place = format!("{name} {} (vector {i})", vector.version);
        let mut reader = Reader::new(vector.bytes.clone()).keep_unknown_tags();
        let message =
            M::read(&mut reader, vector.version).unwrap_or_else(|e| panic!("{place}: {e}"));
        reader.finish().unwrap_or_else(|e| panic!("{place}: {e}"));

        let mut writer = Writer::new().emit_unknown_tags(reader.take_unknown_tags());
        message
            .write(&mut writer, vector.version)
            .unwrap_or_else(|e| panic!("{place}: {e}"));
        let written = writer.finish_contiguous().expect("nothing is deferred");
        assert_eq!(written, vector.bytes, "{place}: {message:?}");

        let json =
            to_json::<M>(&vector.bytes, vector.version).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_same(&json, &vector.json, &place);
    }
    CHECKED.with_borrow_mut(|checked| checked.insert(name, vectors.len()));
}

#[test]
fn every_message_is_read_and_written_as_kafka_does() {
    each_message!(check);
    CHECKED.with_borrow(|checked| {
        for api in APIS {
            for kind in ["Request", "Response"] {
                let name = format!("{}{kind}", api.name);
                assert!(checked.contains_key(name.as_str()), "{name} is not checked");
            }
        }
        let vectors: usize = checked.values().sum();
        #[allow(
            clippy::print_stdout,
            reason = "how much was checked is part of the test's answer"
        )]
        {
            println!("{} messages, {vectors} vectors", checked.len());
        }
    });
}

#[test]
fn committed_offsets_of_kafka_0_8_are_read_as_ordinary_ones() {
    check_as::<OffsetCommitKey>("group", "LegacyOffsetCommitKey");
    check_vectors::<OffsetCommitValue>(
        "LegacyOffsetCommitValue",
        &vectors("group", "LegacyOffsetCommitValue"),
    );
}

/// The APIs in the vectors are random numbers. Which header there is follows from the API, so a
/// known one is put there.
#[test]
fn request_headers_are_read_and_written_as_kafka_does() {
    for Vector {
        version,
        bytes,
        json,
    } in vectors("common", "RequestHeader")
    {
        let api_version = if version == 2 { 4 } else { 0 };
        let mut bytes = bytes.to_vec();
        bytes[..2].copy_from_slice(&ApiKey::Heartbeat.code().to_be_bytes());
        bytes[2..4].copy_from_slice(&i16::to_be_bytes(api_version));
        let bytes = Bytes::from(bytes);

        let mut reader = Reader::new(bytes.clone()).keep_unknown_tags();
        let header = RequestHeader::read(&mut reader).unwrap();
        reader.finish().unwrap();
        assert_eq!(json["correlationId"], header.correlation_id);
        assert_eq!(json["clientId"].as_str(), header.client_id.as_deref());
        let mut writer = Writer::new().emit_unknown_tags(reader.take_unknown_tags());
        header.write(&mut writer).unwrap();
        assert_eq!(writer.finish_contiguous().unwrap(), bytes);
    }
}

#[test]
fn response_headers_are_read_and_written_as_kafka_does() {
    for Vector {
        version,
        bytes,
        json,
    } in vectors("common", "ResponseHeader")
    {
        let api_version = if version == 1 { 4 } else { 0 };
        let mut reader = Reader::new(bytes.clone()).keep_unknown_tags();
        let header = ResponseHeader::read(&mut reader, ApiKey::Heartbeat, api_version).unwrap();
        reader.finish().unwrap();
        assert_eq!(json["correlationId"], header.correlation_id);
        let mut writer = Writer::new().emit_unknown_tags(reader.take_unknown_tags());
        header.write(&mut writer, ApiKey::Heartbeat, api_version);
        assert_eq!(writer.finish_contiguous().unwrap(), bytes);
    }
}
