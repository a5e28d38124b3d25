//! Kafka's text files: a version, a count, and that many lines of numbers.

use std::collections::BTreeMap;
use std::fmt::Write;

use tidelog_types::{LeaderEpoch, Offset, TopicId, TopicPartition};

use crate::epochs::EpochEntry;

/// A text file says something else than its format allows; the text tells what and where.
pub(crate) type Damage = String;

/// The lines behind version and count, which must be right.
fn lines(text: &str) -> Result<impl Iterator<Item = (usize, &str)>, Damage> {
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    match lines.next() {
        Some((_, version)) if version.trim() == "0" => {}
        Some((_, version)) => return Err(format!("line 1: version {version:?}, expected 0")),
        None => return Err("the file is empty".to_owned()),
    }
    let count: usize = match lines.next().map(|(_, count)| count.trim().parse()) {
        Some(Ok(count)) => count,
        _ => return Err("line 2: expected the number of entries".to_owned()),
    };
    let found = text
        .lines()
        .skip(2)
        .filter(|line| !line.trim().is_empty())
        .count();
    if found != count {
        return Err(format!(
            "line 2 promises {count} entries, there are {found}"
        ));
    }
    Ok(lines.filter(|(_, line)| !line.trim().is_empty()))
}

fn as_text(bytes: &[u8]) -> Result<&str, Damage> {
    std::str::from_utf8(bytes).map_err(|_| "the file is not text".to_owned())
}

/// `recovery-point-offset-checkpoint` and its siblings: lines of `topic partition offset`.
pub(crate) fn read_offsets(bytes: &[u8]) -> Result<BTreeMap<TopicPartition, Offset>, Damage> {
    let mut offsets = BTreeMap::new();
    // Kafka creates the files empty, and writes them for the first time a minute later.
    if bytes.is_empty() {
        return Ok(offsets);
    }
    for (number, line) in lines(as_text(bytes)?)? {
        let fields: Vec<_> = line.split_whitespace().collect();
        let entry = match fields[..] {
            [topic, partition, offset] => {
                partition
                    .parse()
                    .ok()
                    .zip(offset.parse().ok())
                    .map(|(partition, offset)| {
                        (TopicPartition::new(topic, partition), Offset::new(offset))
                    })
            }
            _ => None,
        };
        let (partition, offset) =
            entry.ok_or_else(|| format!("line {number}: expected `topic partition offset`"))?;
        offsets.insert(partition, offset);
    }
    Ok(offsets)
}

pub(crate) fn write_offsets<'a>(
    offsets: impl IntoIterator<Item = (&'a TopicPartition, Offset)>,
) -> Vec<u8> {
    let mut lines = String::new();
    let mut count = 0;
    for (partition, offset) in offsets {
        let _ = writeln!(
            lines,
            "{} {} {offset}",
            partition.topic, partition.partition
        );
        count += 1;
    }
    format!("0\n{count}\n{lines}").into_bytes()
}

/// `leader-epoch-checkpoint`: lines of `epoch start_offset`.
pub(crate) fn read_epochs(bytes: &[u8]) -> Result<Vec<EpochEntry>, Damage> {
    let mut epochs = Vec::new();
    for (number, line) in lines(as_text(bytes)?)? {
        let entry = line.split_once(' ').and_then(|(epoch, start)| {
            Some(EpochEntry {
                epoch: LeaderEpoch::new(epoch.parse().ok()?),
                start_offset: Offset::new(start.trim().parse().ok()?),
            })
        });
        epochs.push(entry.ok_or_else(|| format!("line {number}: expected `epoch offset`"))?);
    }
    Ok(epochs)
}

pub(crate) fn write_epochs(epochs: &[EpochEntry]) -> Vec<u8> {
    let mut text = format!("0\n{}\n", epochs.len());
    for entry in epochs {
        let _ = writeln!(text, "{} {}", entry.epoch, entry.start_offset);
    }
    text.into_bytes()
}

/// `partition.metadata`: which incarnation of the topic the folder belongs to (KIP-516).
pub(crate) fn read_partition_metadata(bytes: &[u8]) -> Result<TopicId, Damage> {
    let field = |name| {
        as_text(bytes)?
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
            .ok_or_else(|| format!("the line `{name}: ...` is missing"))
    };
    match field("version")? {
        "0" => {}
        version => return Err(format!("version {version:?}, expected 0")),
    }
    field("topic_id")?
        .parse()
        .map_err(|error| format!("topic_id: {error}"))
}

pub(crate) fn write_partition_metadata(topic_id: TopicId) -> Vec<u8> {
    format!("version: 0\ntopic_id: {topic_id}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_kafka_reads_them() {
        let offsets = [
            (TopicPartition::new("orders", 0), Offset::new(21)),
            (TopicPartition::new("orders", 1), Offset::new(0)),
        ];
        let text = write_offsets(offsets.iter().map(|(p, o)| (p, *o)));
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            "0\n2\norders 0 21\norders 1 0\n"
        );
        assert_eq!(read_offsets(&text).unwrap(), BTreeMap::from(offsets));
    }

    #[test]
    fn damage_is_named() {
        let read = |text: &str| read_offsets(text.as_bytes()).unwrap_err();
        assert_eq!(read_offsets(b""), Ok(BTreeMap::new()));
        assert_eq!(read_epochs(b"").unwrap_err(), "the file is empty");
        assert_eq!(read("1\n0\n"), "line 1: version \"1\", expected 0");
        assert_eq!(
            read("0\n2\na 0 1\n"),
            "line 2 promises 2 entries, there are 1"
        );
        assert_eq!(
            read("0\n1\na 0\n"),
            "line 3: expected `topic partition offset`"
        );
        let error = read_partition_metadata(b"version: 0\ntopic_id: x").unwrap_err();
        assert_eq!(
            error,
            "topic_id: expected a uuid as 22 characters of base64url"
        );
    }

    #[test]
    fn partition_metadata_is_kafkas() {
        let bytes = b"version: 0\ntopic_id: QUgKcGHIQkSe4B-cdldixQ";
        let topic_id = read_partition_metadata(bytes).unwrap();
        assert_eq!(write_partition_metadata(topic_id), bytes);
    }
}
