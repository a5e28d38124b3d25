//! The records of Kafka's own topics, as JSON.

use std::error::Error;

use bytes::Bytes;
use clap::ValueEnum;
use serde_json::{Value, json};
use tidelog_protocol::json::{RecordsAs, to_json};
use tidelog_protocol::records::control::ControlValue;
use tidelog_protocol::records::group::GroupRecordKey;
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_protocol::records::share::ShareRecordKey;
use tidelog_protocol::records::transaction::TransactionRecordKey;
use tidelog_record::Record;
use tidelog_record::control::ControlType;
use tidelog_types::TopicName;

/// What keys and values are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Decoder {
    /// What the name of the folder says.
    Auto,
    /// Text, or hex digits if they are none.
    Raw,
    /// Records of __cluster_metadata.
    Metadata,
    /// Records of __consumer_offsets.
    Offsets,
    /// Records of __transaction_state.
    Transactions,
    /// Records of __share_group_state.
    Share,
}

/// Key and value of a record whose key says what its value is.
macro_rules! decode_pair {
    ($Key:ident, $key:expr, $value:expr) => {{
        let key = $Key::decode($key)?;
        let value = match $value {
            Some(bytes) => {
                let version = leading_number(bytes);
                let data = key.decode_value(bytes)?.to_json(version)?;
                json!({ "version": version, "data": data })
            }
            None => Value::Null,
        };
        Ok((json!({ "type": key.key_type(), "data": key.to_json()? }), value))
    }};
}

impl Decoder {
    /// What the records of a topic are.
    pub(super) fn of_topic(topic: &TopicName) -> Self {
        [
            (TopicName::CLUSTER_METADATA, Self::Metadata),
            (TopicName::CONSUMER_OFFSETS, Self::Offsets),
            (TopicName::TRANSACTION_STATE, Self::Transactions),
            (TopicName::SHARE_GROUP_STATE, Self::Share),
        ]
        .into_iter()
        .find(|(name, _)| name == topic)
        .map_or(Self::Raw, |(_, decoder)| decoder)
    }

    /// Key and value of a record. What cannot be decoded is shown as it is, with the reason.
    pub(super) fn decode(self, record: &Record) -> (Value, Value) {
        self.try_decode(record).unwrap_or_else(|error| {
            let undecoded = json!({
                "undecoded": plain(record.value.as_ref()),
                "reason": error.to_string(),
            });
            (plain(record.key.as_ref()), undecoded)
        })
    }

    fn try_decode(self, record: &Record) -> Result<(Value, Value), Box<dyn Error>> {
        let value = record.value.as_ref();
        match (self, &record.key, value) {
            (Self::Metadata, _, Some(value)) => Ok((Value::Null, metadata(value)?)),
            (Self::Offsets, Some(key), value) => decode_pair!(GroupRecordKey, key, value),
            (Self::Transactions, Some(key), value) => {
                decode_pair!(TransactionRecordKey, key, value)
            }
            (Self::Share, Some(key), value) => decode_pair!(ShareRecordKey, key, value),
            (_, key, value) => Ok((plain(key.as_ref()), plain(value))),
        }
    }
}

/// A record of the metadata log.
fn metadata(value: &Bytes) -> Result<Value, Box<dyn Error>> {
    let record = MetadataRecord::decode(value)?;
    // Frame version, type and version are numbers of variable length, and all are small.
    let version = value.get(2).copied().map_or(0, i16::from);
    let version = version.min(record.versions().max);
    Ok(json!({
        "type": record.name(),
        "version": version,
        "data": record.to_json(version)?,
    }))
}

/// Key and value of a control record.
pub(super) fn control(record: &Record) -> (Value, Value) {
    let decoded = try_control(record);
    decoded.unwrap_or_else(|_| (plain(record.key.as_ref()), plain(record.value.as_ref())))
}

fn try_control(record: &Record) -> Result<(Value, Value), Box<dyn Error>> {
    let key = record.key.as_deref().unwrap_or_default();
    let control_type = ControlType::decode_key(key)?;
    let bytes = record.value.clone().unwrap_or_default();
    let version = leading_number(&bytes);
    let as_is = RecordsAs::Size;
    let value = match ControlValue::decode(control_type.id(), &bytes)? {
        ControlValue::Abort(marker) | ControlValue::Commit(marker) => {
            to_json(&marker, version, as_is)?
        }
        ControlValue::LeaderChange(message) => to_json(&message, version, as_is)?,
        ControlValue::SnapshotHeader(header) => to_json(&header, version, as_is)?,
        ControlValue::SnapshotFooter(footer) => to_json(&footer, version, as_is)?,
        ControlValue::KRaftVersion(version_record) => to_json(&version_record, version, as_is)?,
        ControlValue::KRaftVoters(voters) => to_json(&voters, version, as_is)?,
        _ => plain(Some(&bytes)),
    };
    Ok((json!(format!("{control_type:?}")), value))
}

/// The version or type in front of keys and values.
fn leading_number(bytes: &Bytes) -> i16 {
    bytes
        .first_chunk()
        .map_or(0, |number| i16::from_be_bytes(*number))
}

/// Text, or hex digits of what is no text.
pub(super) fn plain(bytes: Option<&Bytes>) -> Value {
    let Some(bytes) = bytes else {
        return Value::Null;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    }
}
