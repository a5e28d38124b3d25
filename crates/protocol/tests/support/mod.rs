//! What the tests of this crate share: the list of messages, the vectors, and a reader that knows
//! nothing but schemas.

pub(crate) mod random;
#[macro_use]
mod records;

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;
use tidelog_protocol::{
    APIS, ApiKey, DecodeError, EncodeError, Message, Reader, Request, Response, Schema, Version,
    VersionRange, Writer,
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
    Record {
        read: fn(&mut Reader, i16) -> Result<(), DecodeError>,
        recode: fn(&mut Reader, i16, &mut Writer) -> Result<(), Failure>,
    },
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

    /// Reads the message from `bytes`.
    pub(crate) fn read(&self, bytes: &Bytes, version: i16) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes.clone());
        match &self.codec {
            Codec::Request(key) => Request::read(&mut reader, *key, version).map(drop),
            Codec::Response(key) => Response::read(&mut reader, *key, version).map(drop),
            Codec::Record { read, .. } => read(&mut reader, version),
        }
    }

    /// Reads the message from `bytes` and writes it again with all its tagged fields.
    pub(crate) fn recode(&self, bytes: &Bytes, version: i16) -> Result<Bytes, Failure> {
        self.read_and_write(Reader::new(bytes.clone()).keep_unknown_tags(), version)
    }

    /// Reads the message from `bytes` and writes it again without unknown tagged fields.
    pub(crate) fn recode_known(&self, bytes: &Bytes, version: i16) -> Result<Bytes, Failure> {
        self.read_and_write(Reader::new(bytes.clone()), version)
    }

    fn read_and_write(&self, mut reader: Reader, version: i16) -> Result<Bytes, Failure> {
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
            Codec::Record { recode, .. } => recode(&mut reader, version, &mut writer)?,
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
        codec: Codec::Record {
            read: |reader, version| M::read(reader, version).map(drop),
            recode: recode::<M>,
        },
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

fn unhex(text: &str) -> Bytes {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
        .collect()
}
