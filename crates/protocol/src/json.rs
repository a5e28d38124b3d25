//! Messages to and from the JSON of Kafka's own converters, by their schemas.
//!
//! Names are in camel case, a uuid is 22 characters of base64url, a byte string is base64 with
//! padding. A field that the version does not have is left out, and so is a tagged field that is
//! not in the message. Unknown tagged fields are not shown.
//!
//! ```
//! use tidelog_protocol::json::{self, RecordsAs};
//! use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
//!
//! let request = HeartbeatRequest {
//!     group_id: "billing".into(),
//!     generation_id: 7,
//!     ..Default::default()
//! };
//! let value = json::to_json(&request, 0, RecordsAs::Size)?;
//! assert_eq!(value.to_string(), r#"{"groupId":"billing","generationId":7,"memberId":""}"#);
//! assert_eq!(json::from_json::<HeartbeatRequest>(&value, 0)?, request);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use bytes::Bytes;
use serde_json::{Map, Value};
use tidelog_types::Uuid;

use crate::{
    Api, ApiKey, DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, Field, Kind, Message,
    Reader, Request, Response, Schema, Version, Writer,
};

/// How record batches are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordsAs {
    /// As their length, in a field `recordsSizeInBytes`: what Kafka shows in its request log.
    Size,
    /// As an empty text: what Kafka's converters do when they are told to show records.
    Empty,
    /// As base64, from which they can be read again, here and by Kafka.
    Base64,
}

/// JSON that is not the message it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Where in the message, outermost first: `topics[3].name`.
    path: String,
    kind: JsonErrorKind,
}

/// What is wrong with the JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// A field that the version has is missing.
    Missing,
    /// Something else is needed here.
    Expected(&'static str),
    /// What it says cannot be written.
    Encode(EncodeError),
    /// What was written is no message.
    Decode(DecodeError),
}

/// The message in `version` as JSON.
pub fn to_json<M: Message>(
    message: &M,
    version: i16,
    records: RecordsAs,
) -> Result<Value, EncodeError> {
    let bytes = message.to_bytes(version)?;
    let version = M::version(version).ok_or_else(|| no_version(version))?;
    Ok(
        struct_to_json(M::SCHEMA, &mut Reader::new(bytes), version, records)
            .expect("what was written can be read"),
    )
}

/// The message of `version` that the JSON shows.
pub fn from_json<M: Message>(json: &Value, version: i16) -> Result<M, JsonError> {
    let in_version = M::version(version).ok_or_else(|| no_version(version))?;
    let mut writer = Writer::contiguous();
    struct_from_json(M::SCHEMA, json, &mut writer, in_version)?;
    Ok(M::from_bytes(writer.finish_contiguous()?, version)?)
}

impl Request {
    /// The request in `version` as JSON.
    pub fn to_json(&self, version: i16, records: RecordsAs) -> Result<Value, EncodeError> {
        let mut writer = Writer::contiguous();
        self.write(&mut writer, version)?;
        written_to_json(writer, self.key(), |api| api.request, version, records)
    }

    /// The request of `key` in `version` that the JSON shows.
    pub fn from_json(json: &Value, key: ApiKey, version: i16) -> Result<Self, JsonError> {
        let bytes = written_from_json(json, key, |api| api.request, version)?;
        Ok(Self::read(&mut Reader::new(bytes), key, version)?)
    }
}

impl Response {
    /// The response in `version` as JSON.
    pub fn to_json(&self, version: i16, records: RecordsAs) -> Result<Value, EncodeError> {
        let mut writer = Writer::contiguous();
        self.write(&mut writer, version)?;
        written_to_json(writer, self.key(), |api| api.response, version, records)
    }

    /// The response to a request of `key` in `version` that the JSON shows.
    pub fn from_json(json: &Value, key: ApiKey, version: i16) -> Result<Self, JsonError> {
        let bytes = written_from_json(json, key, |api| api.response, version)?;
        Ok(Self::read(&mut Reader::new(bytes), key, version)?)
    }
}

fn written_to_json(
    mut writer: Writer,
    key: ApiKey,
    schema: fn(&Api) -> &'static Schema,
    number: i16,
    records: RecordsAs,
) -> Result<Value, EncodeError> {
    let mut reader = Reader::new(writer.finish_contiguous()?);
    let api = key.api().ok_or_else(|| no_version(number))?;
    let version = Version {
        number,
        flexible: api.flexible.contains(number),
    };
    Ok(struct_to_json(schema(api), &mut reader, version, records)
        .expect("what was written can be read"))
}

fn written_from_json(
    json: &Value,
    key: ApiKey,
    schema: fn(&Api) -> &'static Schema,
    number: i16,
) -> Result<Bytes, JsonError> {
    let api = key.api().filter(|api| api.versions.contains(number));
    let api = api.ok_or_else(|| no_version(number))?;
    let version = Version {
        number,
        flexible: api.flexible.contains(number),
    };
    let mut writer = Writer::contiguous();
    struct_from_json(schema(api), json, &mut writer, version)?;
    Ok(writer.finish_contiguous()?)
}

#[cold]
fn no_version(version: i16) -> EncodeError {
    EncodeError::new(EncodeErrorKind::UnsupportedVersion { version })
}

/// Reads a struct as JSON.
pub fn struct_to_json(
    schema: &Schema,
    reader: &mut Reader,
    version: Version,
    records: RecordsAs,
) -> Result<Value, DecodeError> {
    let mut values = vec![None; schema.fields.len()];
    let place = |field: &Field| (schema.name, field.name);
    for (field, value) in schema.fields.iter().zip(&mut values) {
        if field.tag.is_none() && field.versions.contains(version.number) {
            let (name, field_name) = place(field);
            let read = field_to_json(field, reader, version, records);
            *value = Some(read.map_err(|e| e.in_field(name, field_name))?);
        }
    }
    if version.flexible {
        let mut tags = reader.begin_tags()?;
        while let Some(tag) = reader.next_tag(&mut tags)? {
            match schema.tagged(tag, version) {
                Some(i) => {
                    let (name, field_name) = place(&schema.fields[i]);
                    let read = field_to_json(&schema.fields[i], reader, version, records);
                    values[i] = Some(read.map_err(|e| e.in_field(name, field_name))?);
                }
                None => reader.unknown_tag(&tags),
            }
            reader.end_tag(&tags)?;
        }
    }
    let mut json = Map::new();
    for (field, value) in schema.fields.iter().zip(values) {
        let Some(value) = value else { continue };
        let is_records = matches!(field.kind, Kind::Records | Kind::Nullable(Kind::Records));
        match value {
            Value::Number(size) if is_records => {
                json.insert(format!("{}SizeInBytes", field.json), size.into());
            }
            value => {
                json.insert(field.json.to_owned(), value);
            }
        }
    }
    Ok(Value::Object(json))
}

fn field_to_json(
    field: &Field,
    reader: &mut Reader,
    version: Version,
    records: RecordsAs,
) -> Result<Value, DecodeError> {
    let (kind, nullable) = field.kind_in(version);
    let json = to_value(kind, nullable, reader, version, records)?;
    match (kind, json, records) {
        (Kind::Records, Value::String(_), RecordsAs::Empty) => Ok("".into()),
        (_, json, _) => Ok(json),
    }
}

fn to_value(
    kind: Kind,
    nullable: bool,
    reader: &mut Reader,
    version: Version,
    records: RecordsAs,
) -> Result<Value, DecodeError> {
    let null = |reader: &Reader| match nullable {
        true => Ok(Value::Null),
        false => Err(reader.error(DecodeErrorKind::Null)),
    };
    Ok(match kind {
        Kind::Bool => reader.bool()?.into(),
        Kind::Int8 => reader.i8()?.into(),
        Kind::Int16 => reader.i16()?.into(),
        Kind::Uint16 => reader.u16()?.into(),
        Kind::Int32 => reader.i32()?.into(),
        Kind::Uint32 => reader.u32()?.into(),
        Kind::Int64 => reader.i64()?.into(),
        Kind::Float64 => float_to_json(reader.f64()?),
        Kind::Uuid => reader.uuid()?.to_string().into(),
        Kind::String => match reader.str_len(version)? {
            Some(len) => reader.str(len)?.as_str().into(),
            None => null(reader)?,
        },
        Kind::Bytes => match reader.bytes_len(version)? {
            Some(len) => base64(&reader.slice(len)?).into(),
            None => null(reader)?,
        },
        Kind::Records => match (reader.bytes_len(version)?, records) {
            (Some(len), RecordsAs::Size) => reader.slice(len)?.len().into(),
            (Some(len), _) => base64(&reader.slice(len)?).into(),
            (None, _) => null(reader)?,
        },
        Kind::Array(element) => match reader.array_len(version)? {
            Some(len) => reader
                .elements(len, |r| to_value(*element, false, r, version, records))?
                .into(),
            None => null(reader)?,
        },
        Kind::Struct(schema) if nullable => match reader.i8()? {
            ..=0 => Value::Null,
            _ => struct_to_json(schema, reader, version, records)?,
        },
        Kind::Struct(schema) => struct_to_json(schema, reader, version, records)?,
        Kind::Nullable(kind) => to_value(*kind, true, reader, version, records)?,
    })
}

/// Numbers that JSON does not have are written as texts, as Kafka's library does.
fn float_to_json(number: f64) -> Value {
    match serde_json::Number::from_f64(number) {
        Some(number) => number.into(),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

/// Writes the struct that the JSON shows.
pub fn struct_from_json(
    schema: &Schema,
    json: &Value,
    writer: &mut Writer,
    version: Version,
) -> Result<(), JsonError> {
    let object = json.as_object().ok_or_else(|| expected("an object"))?;
    let in_version = |field: &&Field| field.versions.contains(version.number);
    let fields = || schema.fields.iter().filter(in_version);
    for field in fields().filter(|field| field.tag.is_none()) {
        match object.get(field.json) {
            Some(value) => field_from_json(field, value, writer, version)?,
            None => return Err(JsonErrorKind::Missing.at(field.json)),
        }
    }
    if version.flexible {
        let tagged = fields().filter_map(|field| {
            let value = object.get(field.json)?;
            Some((field.tag?, field, value))
        });
        let mut tagged: Vec<_> = tagged.collect();
        tagged.sort_by_key(|(tag, ..)| *tag);
        let mut tags = writer.begin_tags(tagged.len() as u32);
        for (tag, field, value) in tagged {
            // Written apart, since a tagged field has its own kind of error.
            let mut field_writer = Writer::contiguous();
            if value.is_null() && field.kind_in(version).1 {
                // In a tagged field null is a byte 0 whatever the type is.
                field_writer.put_i8(0);
            } else {
                field_from_json(field, value, &mut field_writer, version)?;
            }
            let bytes = field_writer.finish_contiguous()?;
            let mark = writer.begin_tag(&mut tags, tag);
            writer.put_slice(&bytes);
            writer.end_tag(mark);
        }
        writer.end_tags(tags);
    }
    Ok(())
}

fn field_from_json(
    field: &Field,
    json: &Value,
    writer: &mut Writer,
    version: Version,
) -> Result<(), JsonError> {
    let (kind, nullable) = field.kind_in(version);
    from_value(kind, nullable, json, writer, version).map_err(|error| error.within(field.json))
}

fn from_value(
    kind: Kind,
    nullable: bool,
    json: &Value,
    writer: &mut Writer,
    version: Version,
) -> Result<(), JsonError> {
    let null = nullable && json.is_null();
    match kind {
        Kind::Bool => writer.put_bool(json.as_bool().ok_or_else(|| expected("true or false"))?),
        Kind::Int8 => writer.put_i8(number(json, "an int8")?),
        Kind::Int16 => writer.put_i16(number(json, "an int16")?),
        Kind::Uint16 => writer.put_u16(number(json, "a uint16")?),
        Kind::Int32 => writer.put_i32(number(json, "an int32")?),
        Kind::Uint32 => writer.put_u32(number(json, "a uint32")?),
        Kind::Int64 => writer.put_i64(number(json, "an int64")?),
        Kind::Float64 => writer.put_f64(float_from_json(json)?),
        Kind::Uuid => {
            let uuid = json.as_str().and_then(|text| text.parse::<Uuid>().ok());
            writer.put_uuid(uuid.ok_or_else(|| expected("a uuid"))?);
        }
        Kind::String if null => writer.put_str_len(None, version),
        Kind::String => {
            let text = json.as_str().ok_or_else(|| expected("a text"))?;
            writer.put_str_len(Some(text.len()), version);
            writer.put_slice(text.as_bytes());
        }
        Kind::Bytes | Kind::Records | Kind::Array(_) if null => writer.put_len(None, version),
        Kind::Bytes | Kind::Records => {
            let bytes = json.as_str().and_then(from_base64);
            let bytes = bytes.ok_or_else(|| expected("bytes in base64"))?;
            writer.put_len(Some(bytes.len()), version);
            writer.put_slice(&bytes);
        }
        Kind::Array(element) => {
            let elements = json.as_array().ok_or_else(|| expected("an array"))?;
            writer.put_len(Some(elements.len()), version);
            for (i, json) in elements.iter().enumerate() {
                from_value(*element, false, json, writer, version)
                    .map_err(|error| error.within(&format!("[{i}]")))?;
            }
        }
        Kind::Struct(_) if null => writer.put_i8(-1),
        Kind::Struct(schema) => {
            if nullable {
                writer.put_i8(1);
            }
            struct_from_json(schema, json, writer, version)?;
        }
        Kind::Nullable(kind) => from_value(*kind, true, json, writer, version)?,
    }
    Ok(())
}

fn number<T: TryFrom<i64>>(json: &Value, what: &'static str) -> Result<T, JsonError> {
    let number = json.as_i64().and_then(|number| number.try_into().ok());
    number.ok_or_else(|| expected(what))
}

fn float_from_json(json: &Value) -> Result<f64, JsonError> {
    match (json, json.as_str()) {
        (_, Some("NaN")) => Ok(f64::NAN),
        (_, Some("Infinity")) => Ok(f64::INFINITY),
        (_, Some("-Infinity")) => Ok(f64::NEG_INFINITY),
        (json, _) => json.as_f64().ok_or_else(|| expected("a number")),
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = BASE64[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0;
        for digit in group {
            bits = bits << 6 | BASE64.iter().position(|b| b == digit)? as u32;
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}

#[cold]
fn expected(what: &'static str) -> JsonError {
    JsonErrorKind::Expected(what).at("")
}

impl JsonErrorKind {
    pub(crate) fn at(self, path: &str) -> JsonError {
        JsonError {
            path: path.to_owned(),
            kind: self,
        }
    }
}

impl JsonError {
    /// What is wrong.
    pub const fn kind(&self) -> &JsonErrorKind {
        &self.kind
    }

    /// Where in the message, outermost first: `topics[3].name`; empty for the message itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same error, seen from around `name`.
    fn within(mut self, name: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{name}{joint}{}", self.path);
        self
    }
}

impl From<EncodeError> for JsonError {
    fn from(error: EncodeError) -> Self {
        JsonErrorKind::Encode(error).at("")
    }
}

impl From<DecodeError> for JsonError {
    fn from(error: DecodeError) -> Self {
        JsonErrorKind::Decode(error).at("")
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        match &self.kind {
            JsonErrorKind::Missing => f.write_str("the field is missing"),
            JsonErrorKind::Expected(what) => write!(f, "{what} is needed here"),
            JsonErrorKind::Encode(error) => error.fmt(f),
            JsonErrorKind::Decode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for JsonError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::metadata::MetadataRequest;

    #[test]
    fn base64_has_padding() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(from_base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        for text in ["Z", "Zg=", "Zg", "Z===", "Zm9*", "===="] {
            assert_eq!(from_base64(text), None, "{text}");
        }
    }

    #[test]
    fn an_error_says_where() {
        let read = |text| {
            let json = serde_json::from_str(text).unwrap();
            from_json::<MetadataRequest>(&json, 0)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(read("[]"), "an object is needed here");
        assert_eq!(read("{}"), "topics: the field is missing");
        assert_eq!(
            read(r#"{"topics":null}"#),
            "topics: an array is needed here"
        );
        assert_eq!(
            read(r#"{"topics":[{"name":"a"},{"name":1}]}"#),
            "topics[1].name: a text is needed here"
        );
    }
}
