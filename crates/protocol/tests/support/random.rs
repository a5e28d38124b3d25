//! Random messages, made from the schemas that the derive gives out.

use tidelog_protocol::{Field, Kind, Schema, Version, Writer};
use tidelog_types::Uuid;

use crate::support::Subject;

/// A small generator of numbers, so that one seed makes every message of a case.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Mostly small numbers around zero, since special values are there, and some of any size.
    fn number(&mut self) -> i64 {
        match self.below(4) {
            0 => self.next() as i64,
            _ => self.below(5) as i64 - 2,
        }
    }
}

/// Writes a random struct of `schema`.
fn write_struct(numbers: &mut Numbers, writer: &mut Writer, version: Version, schema: &Schema) {
    let there = |field: &&Field| field.versions.contains(version.number);
    for field in schema
        .fields
        .iter()
        .filter(there)
        .filter(|f| f.tag.is_none())
    {
        write_field(numbers, writer, version, field);
    }
    if version.flexible {
        let mut tagged: Vec<_> = schema
            .fields
            .iter()
            .filter(there)
            .filter(|f| f.tag.is_some())
            .collect();
        tagged.retain(|_| numbers.below(2) == 0);
        tagged.sort_by_key(|field| field.tag);
        let mut tags = writer.begin_tags(tagged.len() as u32);
        for field in tagged {
            let tag = field.tag.expect("only tagged fields are left");
            let mark = writer.begin_tag(&mut tags, tag);
            write_field(numbers, writer, version, field);
            writer.end_tag(mark);
        }
        writer.end_tags(tags);
    }
}

fn write_field(numbers: &mut Numbers, writer: &mut Writer, version: Version, field: &Field) {
    match field.kind {
        Kind::Nullable(kind) if !field.nullable.contains(version.number) => {
            write(numbers, writer, version, *kind, false)
        }
        Kind::Nullable(kind) => write(numbers, writer, version, *kind, true),
        kind => write(numbers, writer, version, kind, false),
    }
}

fn write(numbers: &mut Numbers, writer: &mut Writer, version: Version, kind: Kind, nullable: bool) {
    let null = nullable && numbers.below(3) == 0;
    match kind {
        Kind::Bool => writer.put_bool(numbers.below(2) == 0),
        Kind::Int8 => writer.put_i8(numbers.number() as i8),
        Kind::Int16 => writer.put_i16(numbers.number() as i16),
        Kind::Uint16 => writer.put_u16(numbers.number() as u16),
        Kind::Int32 => writer.put_i32(numbers.number() as i32),
        Kind::Uint32 => writer.put_u32(numbers.number() as u32),
        Kind::Int64 => writer.put_i64(numbers.number()),
        Kind::Float64 => writer.put_f64(numbers.number() as f64 / 7.0),
        Kind::Uuid => writer.put_uuid(Uuid::from_bytes([numbers.number() as u8; 16])),
        Kind::String => {
            let text = "aé漢🦀".repeat(numbers.below(3) as usize);
            writer.put_str_len((!null).then_some(text.len()), version);
            writer.put_slice(if null { &[] } else { text.as_bytes() });
        }
        Kind::Bytes | Kind::Records => {
            // Some are long enough to be chunks of their own.
            let bytes = vec![numbers.next() as u8; [0, 1, 10, 3000][numbers.below(4) as usize]];
            writer.put_len((!null).then_some(bytes.len()), version);
            writer.put_slice(if null { &[] } else { &bytes });
        }
        Kind::Array(element) => {
            let len = numbers.below(4) as usize;
            writer.put_len((!null).then_some(len), version);
            for _ in 0..if null { 0 } else { len } {
                write(numbers, writer, version, *element, false);
            }
        }
        Kind::Struct(schema) => {
            if nullable {
                writer.put_i8(if null { -1 } else { 1 });
            }
            if !null {
                write_struct(numbers, writer, version, schema);
            }
        }
        Kind::Nullable(kind) => write(numbers, writer, version, *kind, true),
    }
}

/// The bytes of a random message in the version.
pub(crate) fn message(numbers: &mut Numbers, subject: &Subject, number: i16) -> bytes::Bytes {
    let mut writer = Writer::contiguous();
    write_struct(
        numbers,
        &mut writer,
        subject.version(number),
        subject.schema,
    );
    writer
        .finish_contiguous()
        .expect("everything fits its length")
}
