//! The directories that Apache Kafka 4.3.1 has left, and what Kafka's own readers say is in them.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use serde_json::Value;
use tidelog_record::{Batch, Record};
use tidelog_types::{Offset, ProducerId};

/// The end of a partition of which a consumer has read nothing.
const NO_POSITION: i64 = -1001;

fn read(name: &str) -> Vec<u8> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../log/testdata");
    let compressed = std::fs::read(testdata.join(name)).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(&compressed[..])
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// The unpacked archives, which many tests want.
static CLEAN: LazyLock<Vec<u8>> = LazyLock::new(|| read("kafka-4.3.1-clean.tar.gz"));
static KILLED: LazyLock<Vec<u8>> = LazyLock::new(|| read("kafka-4.3.1-killed.tar.gz"));

/// Calls `file` with the path and the content of each file of a directory, `clean` or `killed`.
pub(crate) fn unpack(which: &str, mut file: impl FnMut(&Path, &[u8])) {
    let archive = match which {
        "clean" => &*CLEAN,
        _ => &*KILLED,
    };
    let mut at = 0;
    // A block of zeros ends a tar archive. 0 name, 124 size in octal, 156 type; the content follows in blocks.
    while archive.get(at).is_some_and(|byte| *byte != 0) {
        let field = |from: usize, len: usize| {
            let field = &archive[at + from..at + from + len];
            std::str::from_utf8(field)
                .unwrap()
                .trim_end_matches(['\0', ' '])
        };
        let octal = |from| usize::from_str_radix(field(from, 12), 8).unwrap();
        let size = octal(124);
        let content = &archive[at + 512..at + 512 + size];
        let path = || Path::new(field(0, 100).strip_prefix("data/").unwrap());
        match archive[at + 156] {
            b'0' => file(path(), content),
            // Sparse. 386 four pairs of position and length, 482 whether more follow, 483 the real size.
            b'S' => {
                assert_eq!(archive[at + 482], 0, "more than four pieces");
                let mut whole = vec![0; octal(483)];
                let mut rest = content;
                for pair in 0..4 {
                    let pair = 386 + 24 * pair;
                    if !field(pair, 12).is_empty() {
                        let (piece, behind) = rest.split_at(octal(pair + 12));
                        whole[octal(pair)..][..piece.len()].copy_from_slice(piece);
                        rest = behind;
                    }
                }
                file(path(), &whole);
            }
            _ => {}
        }
        at += 512 + size.div_ceil(512) * 512;
    }
}

/// What Kafka's tools and consumers say of a directory.
pub(crate) struct Expected(pub(crate) Value);

/// One partition as consumers see it.
pub(crate) struct ExpectedPartition<'a> {
    pub(crate) log_start_offset: i64,
    pub(crate) high_watermark: i64,
    /// The position after the last record, in each isolation level; `None` if there was none.
    pub(crate) end_position: Option<i64>,
    pub(crate) committed_end_position: Option<i64>,
    /// `[offset, timestamp, key, value, headers]`
    pub(crate) records: &'a [Value],
    /// The offsets of the records that are committed.
    pub(crate) committed: Vec<i64>,
}

impl Expected {
    pub(crate) fn of(which: &str) -> Self {
        let json = read(&format!("expected-{which}.json.gz"));
        Self(serde_json::from_slice(&json).unwrap())
    }

    /// All partitions, by the name of their folder.
    pub(crate) fn partitions(&self) -> BTreeMap<&str, ExpectedPartition<'_>> {
        let number = |value: &Value| value.as_i64().unwrap();
        let position = |value: &Value| Some(number(value)).filter(|at| *at != NO_POSITION);
        let all = self.0["read_uncommitted"].as_object().unwrap();
        all.iter()
            .map(|(name, all)| {
                let committed = &self.0["read_committed"][name];
                let offsets = committed["offsets"].as_array().unwrap();
                let partition = ExpectedPartition {
                    log_start_offset: number(&all["log_start_offset"]),
                    high_watermark: number(&all["high_watermark"]),
                    end_position: position(&all["end_position"]),
                    committed_end_position: position(&committed["end_position"]),
                    records: all["records"].as_array().unwrap(),
                    committed: offsets.iter().map(number).collect(),
                };
                (name.as_str(), partition)
            })
            .collect()
    }

    /// The lines that a tool has printed.
    pub(crate) fn lines(&self, of: &str) -> Vec<&str> {
        let lines = self.0[of].as_array().unwrap();
        lines.iter().map(|line| line.as_str().unwrap()).collect()
    }
}

impl ExpectedPartition<'_> {
    /// Compares everything that a consumer reads, in both isolation levels.
    pub(crate) fn check(&self, name: &str, all: &[Record], committed: &[Record]) {
        let offsets = |records: &[Record]| {
            let offsets = records.iter().map(|record| record.offset.value());
            offsets.collect::<Vec<_>>()
        };
        assert_eq!(offsets(committed), self.committed, "{name}, committed");
        let expected: Vec<_> = self
            .records
            .iter()
            .map(|r| r[0].as_i64().unwrap())
            .collect();
        assert_eq!(offsets(all), expected, "{name}");
        for (record, expected) in all.iter().zip(self.records) {
            let at = record.offset;
            assert_eq!(record.timestamp.as_millis(), expected[1], "{name} {at}");
            assert_eq!(text(record.key.as_deref()), expected[2], "{name} {at}");
            // Where values are long, the file has their length.
            let value = match &expected[3] {
                Value::Number(_) => record.value.as_ref().map(bytes::Bytes::len).into(),
                _ => text(record.value.as_deref()),
            };
            assert_eq!(value, expected[3], "{name} {at}");
            let headers = record.headers.iter().map(|header| {
                Value::Array(vec![text(Some(&header.key)), text(header.value.as_deref())])
            });
            assert_eq!(Value::Array(headers.collect()), expected[4], "{name} {at}");
        }
    }
}

fn text(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| {
        std::str::from_utf8(bytes).unwrap().into()
    })
}

/// What a consumer hands out of these batches, from its position on. With the list of aborted transactions, which has
/// producers and first offsets, it leaves out what they have written (KIP-98).
pub(crate) fn consume(
    batches: impl IntoIterator<Item = Batch>,
    from: Offset,
    aborted: &[(ProducerId, Offset)],
) -> Vec<Record> {
    let mut upcoming: BTreeSet<(Offset, ProducerId)> =
        aborted.iter().map(|(id, first)| (*first, *id)).collect();
    let mut aborting = BTreeSet::new();
    let mut records = Vec::new();
    for batch in batches {
        let header = batch.header();
        let id = header.producer_id;
        while let Some((_, id)) = upcoming
            .first()
            .copied()
            .filter(|(first, _)| *first <= header.last_offset())
        {
            upcoming.pop_first();
            aborting.insert(id);
        }
        if header.attributes.is_control() {
            // Whatever marker it is, the transaction has ended.
            aborting.remove(&id);
        } else if !(header.attributes.is_transactional() && aborting.contains(&id)) {
            let all = batch.records().unwrap().map(Result::unwrap);
            records.extend(all.filter(|record| record.offset >= from));
        }
    }
    records
}
