//! The record sets that Kafka wrote.

use bytes::Bytes;
use serde_json::Value;

/// A record set of `testdata/record-sets.jsonl`.
pub(crate) struct RecordSet {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
    /// What Kafka reads from each of its batches.
    pub(crate) expected: Vec<Value>,
}

pub(crate) fn record_sets() -> Vec<RecordSet> {
    include_str!("../../testdata/record-sets.jsonl")
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            RecordSet {
                name: text(&line["name"]).to_owned(),
                bytes: unhex(&line["hex"]),
                expected: line["batches"].as_array().unwrap().clone(),
            }
        })
        .collect()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub(crate) fn unhex(value: &Value) -> Bytes {
    let digits = text(value).as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}
