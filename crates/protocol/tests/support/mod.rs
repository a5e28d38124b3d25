//! What the tests of this crate share: the list of messages, the vectors, and a reader that knows
//! nothing but schemas.

#[macro_use]
mod records;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;
use tidelog_protocol::{
    APIS, ApiKey, DecodeError, EncodeError, Field, Kind, Message, Reader, Request, Response,
    Schema, Version, VersionRange, Writer,
};

/// Bytes that Kafka wrote, with what Kafka says is in them.
pub(crate) struct Vector {
    pub(crate) version: i16,
    pub(crate) bytes: Bytes,
    pub(crate) json: Value,
}

/// A message that is tested, whatever its type.
pub(crate) struct Subject {
    /// The folders in which its vectors are.
    pub(crate) sets: &'static [&'static str],
    pub(crate) name: String,
    pub(crate) versions: VersionRange,
    pub(crate) flexible: VersionRange,
    pub(crate) schema: &'static Schema,
    codec: Codec,
}

enum Codec {
    Request(ApiKey),
    Response(ApiKey),
    Record(fn(&mut Reader, i16, &mut Writer) -> Result<(), Failure>),
}

/// Why a message could not be read and written again.
#[derive(Debug)]
pub(crate) enum Failure {
    Decode(DecodeError),
    Encode(EncodeError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => write!(f, "not read: {error}"),
            Self::Encode(error) => write!(f, "not written: {error}"),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl Subject {
    pub(crate) fn version(&self, number: i16) -> Version {
        Version {
            number,
            flexible: self.flexible.contains(number),
        }
    }

    /// Reads the message from `bytes` and writes it again with all its tagged fields.
    pub(crate) fn recode(&self, bytes: &Bytes, version: i16) -> Result<Bytes, Failure> {
        let mut reader = Reader::new(bytes.clone()).keep_unknown_tags();
        let mut writer = Writer::new();
        match &self.codec {
            Codec::Request(key) => {
                let request = Request::read(&mut reader, *key, version)?;
                writer = writer.emit_unknown_tags(reader.take_unknown_tags());
                request.write(&mut writer, version)?;
            }
            Codec::Response(key) => {
                let response = Response::read(&mut reader, *key, version)?;
                writer = writer.emit_unknown_tags(reader.take_unknown_tags());
                response.write(&mut writer, version)?;
            }
            Codec::Record(recode) => recode(&mut reader, version, &mut writer)?,
        }
        reader.finish()?;
        Ok(writer.finish_contiguous()?)
    }

    /// The vectors of the message.
    pub(crate) fn vectors(&self) -> Vec<Vector> {
        self.sets
            .iter()
            .flat_map(|set| vectors(set, &self.name))
            .filter(|vector| self.versions.contains(vector.version))
            .collect()
    }
}

fn recode<M: Message>(
    reader: &mut Reader,
    version: i16,
    writer: &mut Writer,
) -> Result<(), Failure> {
    let message = M::read(reader, version)?;
    let tags = reader.take_unknown_tags();
    *writer = std::mem::take(writer).emit_unknown_tags(tags);
    Ok(message.write(writer, version)?)
}

/// Every message that is known.
pub(crate) fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for api in APIS {
        let mut add = |suffix, schema, codec| {
            subjects.push(Subject {
                sets: &["api", "api-until-3.9"],
                name: format!("{}{suffix}", api.name),
                versions: api.versions,
                flexible: api.flexible,
                schema,
                codec,
            });
        };
        add("Request", api.request, Codec::Request(api.key));
        add("Response", api.response, Codec::Response(api.key));
    }
    each_record!(add_record, &mut subjects);
    subjects
}

fn add_record<M: Message>(subjects: &mut Vec<Subject>, sets: &'static [&'static str]) {
    subjects.push(Subject {
        sets,
        name: M::NAME.to_owned(),
        versions: M::VERSIONS,
        flexible: M::FLEXIBLE,
        schema: M::SCHEMA,
        codec: Codec::Record(recode::<M>),
    });
}

/// Where the vectors are: `TIDELOG_VECTORS`, or the crate's own.
pub(crate) fn directory() -> PathBuf {
    std::env::var_os("TIDELOG_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"),
        PathBuf::from,
    )
}

/// The vectors of a message, in the order of the file; none if the folder has no such file.
pub(crate) fn vectors(set: &str, name: &str) -> Vec<Vector> {
    let path = directory().join(set).join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("a line is JSON");
            Vector {
                version: line["version"].as_i64().expect("a version") as i16,
                bytes: unhex(line["hex"].as_str().expect("hex")),
                json: line["json"].clone(),
            }
        })
        .collect()
}

/// What Kafka's JSON converter would print for `bytes`, found by the schema alone.
pub(crate) fn to_json(
    schema: &Schema,
    bytes: &Bytes,
    version: Version,
) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let json = read_struct(&mut reader, version, schema)?;
    reader.finish()?;
    Ok(json)
}

fn read_struct(
    reader: &mut Reader,
    version: Version,
    schema: &Schema,
) -> Result<Value, DecodeError> {
    let mut json = serde_json::Map::new();
    let there = |field: &&Field| field.versions.contains(version.number);
    for field in schema
        .fields
        .iter()
        .filter(there)
        .filter(|f| f.tag.is_none())
    {
        json.insert(field.name.into(), read_field(reader, version, field)?);
    }
    if version.flexible {
        let mut tags = reader.begin_tags()?;
        while let Some(tag) = reader.next_tag(&mut tags)? {
            match schema
                .fields
                .iter()
                .filter(there)
                .find(|f| f.tag == Some(tag))
            {
                Some(field) => {
                    json.insert(field.name.into(), read_field(reader, version, field)?);
                }
                None => reader.unknown_tag(&tags)?,
            }
            reader.end_tag(&tags)?;
        }
    }
    Ok(Value::Object(json))
}

fn read_field(reader: &mut Reader, version: Version, field: &Field) -> Result<Value, DecodeError> {
    match field.kind {
        Kind::Nullable(kind) if !field.nullable.contains(version.number) => {
            read(reader, version, *kind)
        }
        kind => read(reader, version, kind),
    }
}

fn read(reader: &mut Reader, version: Version, kind: Kind) -> Result<Value, DecodeError> {
    Ok(match kind {
        Kind::Bool => reader.bool()?.into(),
        Kind::Int8 => reader.i8()?.into(),
        Kind::Int16 => reader.i16()?.into(),
        Kind::Uint16 => reader.u16()?.into(),
        Kind::Int32 => reader.i32()?.into(),
        Kind::Uint32 => reader.u32()?.into(),
        Kind::Int64 => reader.i64()?.into(),
        Kind::Float64 => reader.f64()?.into(),
        Kind::Uuid => reader.uuid()?.to_string().into(),
        Kind::String => match reader.str_len(version)? {
            Some(len) => reader.str(len)?.as_str().into(),
            None => Value::Null,
        },
        Kind::Bytes | Kind::Records => match reader.bytes_len(version)? {
            Some(len) => base64(&reader.slice(len)?).into(),
            None => Value::Null,
        },
        Kind::Array(element) => match reader.array_len(version)? {
            Some(len) => reader
                .elements(len, |reader| read(reader, version, *element))?
                .into(),
            None => Value::Null,
        },
        Kind::Nullable(Kind::Struct(schema)) => match reader.i8()? {
            1 => read_struct(reader, version, schema)?,
            _ => Value::Null,
        },
        Kind::Nullable(kind) => read(reader, version, *kind)?,
        Kind::Struct(schema) => read_struct(reader, version, schema)?,
    })
}

/// Fails unless both are the same message, apart from how names are written, and from records, which
/// Kafka leaves empty.
pub(crate) fn assert_same(ours: &Value, kafkas: &Value, place: &str) {
    match (ours, kafkas) {
        (Value::Object(ours), Value::Object(kafkas)) => {
            let plain = |name: &str| name.replace('_', "").to_lowercase();
            let names = |names: serde_json::map::Keys<'_>| -> BTreeSet<String> {
                names.map(|name| plain(name)).collect()
            };
            assert_eq!(names(ours.keys()), names(kafkas.keys()), "{place}");
            let records = ["records", "unaligned_records"];
            for (name, ours) in ours
                .iter()
                .filter(|(name, _)| !records.contains(&name.as_str()))
            {
                let kafkas = kafkas
                    .iter()
                    .find(|(k, _)| plain(k) == plain(name))
                    .expect("compared above")
                    .1;
                assert_same(ours, kafkas, &format!("{place}.{name}"));
            }
        }
        (Value::Array(ours), Value::Array(kafkas)) => {
            assert_eq!(ours.len(), kafkas.len(), "{place}");
            for (i, (ours, kafkas)) in ours.iter().zip(kafkas).enumerate() {
                assert_same(ours, kafkas, &format!("{place}[{i}]"));
            }
        }
        _ => assert_eq!(ours, kafkas, "{place}"),
    }
}

fn unhex(text: &str) -> Bytes {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}
