//! Every message in every version against bytes that Kafka's own classes wrote.
//!
//! `TIDELOG_VECTORS=DIR` runs the tests over other vectors of the same layout.

#[expect(dead_code, reason = "other tests make random messages")]
mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use tidelog_protocol::json::{self, RecordsAs};
use tidelog_protocol::{ApiKey, Reader, RequestHeader, ResponseHeader, Writer};

use crate::support::{Subject, Vector, directory, subjects, vectors};

/// Vectors under another name than the struct's: how Kafka 0.8 committed offsets.
const ALIASES: &[(&str, &str)] = &[
    ("group/LegacyOffsetCommitKey", "OffsetCommitKey"),
    ("group/LegacyOffsetCommitValue", "OffsetCommitValue"),
];

/// Checked by tests of their own, since the headers are written by hand.
const HEADERS: [&str; 2] = ["common/RequestHeader", "common/ResponseHeader"];

#[test]
fn every_message_is_read_and_written_as_kafka_does() {
    let subjects = subjects();
    let (mut messages, mut count) = (BTreeSet::new(), 0);
    for (set, name) in files() {
        let place = format!("{set}/{name}");
        if HEADERS.contains(&&*place) {
            continue;
        }
        let alias = ALIASES.iter().find(|(alias, _)| *alias == place);
        let named = alias.map_or(&*name, |(_, name)| name);
        let subject = subjects
            .iter()
            .find(|subject| subject.name == named && subject.sets.contains(&&*set));
        let subject = subject.unwrap_or_else(|| panic!("{place} is not known"));
        for (i, vector) in vectors(&set, &name).iter().enumerate() {
            let place = format!("{place} {} (vector {i})", vector.version);
            let known = subject.versions.contains(vector.version);
            assert!(known, "{place} is not known");
            check(subject, vector, &place);
            count += 1;
        }
        messages.insert(named.to_owned());
    }
    for subject in &subjects {
        let vectors = subject.vectors();
        for version in subject.versions.iter() {
            assert!(
                vectors.iter().any(|v| v.version == version),
                "{} has no vector of version {version}",
                subject.name,
            );
        }
    }
    #[allow(
        clippy::print_stdout,
        reason = "how much was checked is part of the answer"
    )]
    {
        println!("{} messages, {count} vectors", messages.len());
    }
}

/// The folders and names of all vectors.
fn files() -> Vec<(String, String)> {
    let list = |path: &std::path::Path| -> Vec<_> {
        let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    let text = |name: Option<&std::ffi::OsStr>| {
        let name = name.and_then(std::ffi::OsStr::to_str);
        name.expect("a name in UTF-8").to_owned()
    };
    let folders = list(&directory()).into_iter().filter(|path| path.is_dir());
    let mut files: Vec<_> = folders
        // Record sets are the business of another crate.
        .filter(|folder| !folder.ends_with("records"))
        .flat_map(|folder| {
            let names = list(&folder).into_iter();
            names.map(move |file| (text(folder.file_name()), text(file.file_stem())))
        })
        .collect();
    assert!(!files.is_empty(), "there are no vectors");
    files.sort();
    files
}

fn check(subject: &Subject, vector: &Vector, place: &str) {
    let written = subject
        .recode(&vector.bytes, vector.version)
        .unwrap_or_else(|e| panic!("{place}: {e}"));
    assert_eq!(written, vector.bytes, "{place}: {}", vector.json);

    // Kafka's JSON has neither unknown tagged fields nor what is in the records.
    let known = subject
        .recode_known(&vector.bytes, vector.version)
        .unwrap_or_else(|e| panic!("{place}: {e}"));
    let version = subject.version(vector.version);
    let json = |records| {
        json::struct_to_json(
            subject.schema,
            &mut Reader::new(known.clone()),
            version,
            records,
        )
        .unwrap_or_else(|e| panic!("{place}: {e}"))
    };
    let kafkas = json(RecordsAs::Empty);
    assert_eq!(kafkas.to_string(), vector.json.to_string(), "{place}");
    let mut writer = Writer::contiguous();
    json::struct_from_json(
        subject.schema,
        &json(RecordsAs::Base64),
        &mut writer,
        version,
    )
    .unwrap_or_else(|e| panic!("{place}: {e}"));
    let back = writer.finish_contiguous().expect("nothing is deferred");
    assert_eq!(back, known, "{place}: {kafkas}");
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
