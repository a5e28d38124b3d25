//! Snapshots of the metadata log in Kafka's format (KIP-630), read and written.
//!
//! ```text
//! control batch          SnapshotHeader; of a quorum with dynamic voters also KRaftVersion and Voters
//! batches, any number    metadata records
//! control batch          SnapshotFooter: the snapshot is whole
//! ```
//!
//! Offsets count from 0 and mean nothing; which part of the log is replaced stands in the name of the file. What `format`
//! leaves for the first start, `bootstrap.checkpoint`, has the same format.

use bytes::Bytes;
use tidelog_metadata::bootstrap::{MetadataVersion, record_version};
use tidelog_protocol::records::control::{
    ControlRecord, KRaftVersionRecord, SnapshotFooterRecord, SnapshotHeaderRecord, VotersRecord,
};
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_protocol::{DecodeError, EncodeError};
use tidelog_record::control::ControlType;
use tidelog_record::{Batch, BatchBuilder, BatchError, Compression, Record, RecordError};
use tidelog_types::{LeaderEpoch, Offset, Timestamp};

/// From what size on a batch of metadata records is followed by another.
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// What a snapshot says.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When the last batch was appended that the snapshot reflects.
    pub last_contained_log_timestamp: Timestamp,
    /// The voters of the quorum, where they are part of the log (kraft.version 1, KIP-853).
    pub voters: Option<VotersRecord>,
    /// The metadata, in the order in which it is to be replayed.
    pub records: Vec<MetadataRecord>,
}

/// Why a snapshot cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A batch is damaged.
    #[error("the batch at offset {offset} is damaged: {source}")]
    Batch {
        /// Where it begins.
        offset: Offset,
        /// Why.
        source: BatchError,
    },
    /// A control record is damaged.
    #[error("the control record at offset {offset} is damaged: {source}")]
    Control {
        /// Its offset.
        offset: Offset,
        /// Why.
        source: RecordError,
    },
    /// A record is damaged, or of a later version.
    #[error("the record at offset {offset} is not understood: {source}")]
    Record {
        /// Its offset.
        offset: Offset,
        /// Why.
        source: DecodeError,
    },
    /// A record cannot be written.
    #[error("{0}")]
    Encode(#[from] EncodeError),
    /// The records do not come in the order of a snapshot.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Reads a snapshot. It must be whole: a footer is its end.
pub fn read_snapshot(mut bytes: Bytes) -> Result<Snapshot, SnapshotError> {
    let mut reader = Reader::default();
    let mut offset = Offset::ZERO;
    loop {
        let damaged = |source| SnapshotError::Batch { offset, source };
        let Some(batch) = Batch::split_from(&mut bytes).map_err(damaged)? else {
            break;
        };
        batch.verify_crc().map_err(damaged)?;
        let is_control = batch.header().attributes.is_control();
        for record in batch.records().map_err(damaged)? {
            let record = record.map_err(damaged)?;
            match is_control {
                true => reader.control(&record)?,
                false => reader.metadata(&record)?,
            }
        }
        offset = batch.header().next_offset();
    }
    match bytes.is_empty() {
        true => reader.finish(),
        false => Err(SnapshotError::Malformed("the snapshot ends within a batch")),
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    header: Option<SnapshotHeaderRecord>,
    voters: Option<VotersRecord>,
    records: Vec<MetadataRecord>,
    ended: bool,
}

impl Reader {
    fn control(&mut self, record: &Record) -> Result<(), SnapshotError> {
        let offset = record.offset;
        let key = record.key.as_deref().unwrap_or_default();
        let control_type = ControlType::decode_key(key)
            .map_err(|source| SnapshotError::Control { offset, source })?;
        let value = record.value.clone().unwrap_or_default();
        let misread = |source| SnapshotError::Record { offset, source };
        if control_type == ControlType::SnapshotHeader && self.header.is_none() && !self.ended {
            self.header = Some(ControlRecord::decode_value(&value).map_err(misread)?);
            return Ok(());
        }
        self.expect_inside()?;
        match control_type {
            ControlType::SnapshotFooter => self.ended = true,
            ControlType::KRaftVoters => {
                self.voters = Some(ControlRecord::decode_value(&value).map_err(misread)?);
            }
            // kraft.version says no more than whether there are voters, and later types are to be skipped.
            _ => {}
        }
        Ok(())
    }

    fn metadata(&mut self, record: &Record) -> Result<(), SnapshotError> {
        self.expect_inside()?;
        let value = record.value.clone().unwrap_or_default();
        let record = MetadataRecord::decode(&value).map_err(|source| SnapshotError::Record {
            offset: record.offset,
            source,
        })?;
        self.records.push(record);
        Ok(())
    }

    /// Checks that the header has come and the footer has not.
    fn expect_inside(&self) -> Result<(), SnapshotError> {
        match (&self.header, self.ended) {
            (None, _) => Err(SnapshotError::Malformed(
                "the snapshot does not begin with a header",
            )),
            (_, true) => Err(SnapshotError::Malformed(
                "something follows the snapshot's footer",
            )),
            (Some(_), false) => Ok(()),
        }
    }

    fn finish(self) -> Result<Snapshot, SnapshotError> {
        match (self.header, self.ended) {
            (Some(header), true) => Ok(Snapshot {
                last_contained_log_timestamp: header.last_contained_log_timestamp,
                voters: self.voters,
                records: self.records,
            }),
            _ => Err(SnapshotError::Malformed(
                "the snapshot has no footer, so its end is missing",
            )),
        }
    }
}

impl Snapshot {
    /// Writes the snapshot, with records in the versions of `metadata_version`. The epoch is that in the file's name.
    pub fn encode(
        &self,
        epoch: LeaderEpoch,
        metadata_version: MetadataVersion,
        now: Timestamp,
    ) -> Result<Bytes, SnapshotError> {
        let mut writer = Writer {
            epoch,
            now,
            next_offset: Offset::ZERO,
            bytes: Vec::new(),
        };
        let header = SnapshotHeaderRecord {
            version: 0,
            last_contained_log_timestamp: self.last_contained_log_timestamp,
        };
        let mut head = vec![(ControlType::SnapshotHeader, header.encode_value()?)];
        if let Some(voters) = &self.voters {
            let version = KRaftVersionRecord {
                version: 0,
                kraft_version: 1,
            };
            head.push((ControlType::KRaftVersion, version.encode_value()?));
            head.push((ControlType::KRaftVoters, voters.encode_value()?));
        }
        writer.put_control(&head)?;
        writer.put_metadata(&self.records, metadata_version)?;
        let footer = SnapshotFooterRecord { version: 0 };
        writer.put_control(&[(ControlType::SnapshotFooter, footer.encode_value()?)])?;
        Ok(writer.bytes.into())
    }
}

struct Writer {
    epoch: LeaderEpoch,
    now: Timestamp,
    next_offset: Offset,
    bytes: Vec<u8>,
}

impl Writer {
    fn put_control(&mut self, records: &[(ControlType, Bytes)]) -> Result<(), SnapshotError> {
        let mut builder = self.builder().control(true);
        for (control_type, value) in records {
            builder.push(self.now, Some(&control_type.key()), Some(value), &[]);
        }
        self.put(builder)
    }

    fn put_metadata(
        &mut self,
        records: &[MetadataRecord],
        metadata_version: MetadataVersion,
    ) -> Result<(), SnapshotError> {
        let mut builder = self.builder();
        let mut batch_bytes = 0;
        for record in records {
            let value = record.encode(record_version(record, metadata_version))?;
            if batch_bytes >= BATCH_BYTES_MAX {
                self.put(builder)?;
                builder = self.builder();
                batch_bytes = 0;
            }
            batch_bytes += value.len();
            builder.push(self.now, None, Some(&value), &[]);
        }
        if batch_bytes > 0 {
            self.put(builder)
        } else {
            Ok(())
        }
    }

    fn builder(&self) -> BatchBuilder {
        BatchBuilder::new(Compression::NONE)
            .base_offset(self.next_offset)
            .partition_leader_epoch(self.epoch)
    }

    fn put(&mut self, builder: BatchBuilder) -> Result<(), SnapshotError> {
        let offset = self.next_offset;
        let batch = builder
            .build()
            .map_err(|source| SnapshotError::Batch { offset, source })?;
        self.next_offset = batch.header().next_offset();
        self.bytes.extend_from_slice(batch.bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidelog_protocol::records::metadata::{FeatureLevelRecord, NoOpRecord, TopicRecord};
    use tidelog_types::{TopicName, Uuid};

    use super::*;

    /// All three were written by Kafka 4.3.1: by `format --standalone`, and by the controller of a cluster of one.
    const BOOTSTRAP: &[u8] = include_bytes!("../../testdata/kafka-4.3.1-bootstrap.checkpoint");
    const STANDALONE: &[u8] = include_bytes!("../../testdata/kafka-4.3.1-standalone.checkpoint");
    const CLUSTER: &[u8] = include_bytes!("../../testdata/kafka-4.3.1-cluster.checkpoint");

    fn read(bytes: &'static [u8]) -> Snapshot {
        read_snapshot(Bytes::from_static(bytes)).unwrap()
    }

    #[test]
    fn the_first_records_that_kafka_leaves_are_read() {
        let snapshot = read(BOOTSTRAP);
        assert_eq!(snapshot.voters, None);
        let levels = snapshot.records.iter().map(|record| match record {
            MetadataRecord::FeatureLevel(FeatureLevelRecord {
                name,
                feature_level,
            }) => (name.as_str(), *feature_level),
            other => panic!("{other:?}"),
        });
        let expected = [
            ("metadata.version", 30),
            ("eligible.leader.replicas.version", 1),
            ("group.version", 1),
            ("share.version", 1),
            ("streams.version", 1),
            ("transaction.version", 2),
        ];
        assert_eq!(levels.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_voters_that_kafka_leaves_are_read() {
        let snapshot = read(STANDALONE);
        assert_eq!(snapshot.records, []);
        let voters = snapshot.voters.unwrap().voters;
        assert_eq!(voters.len(), 1);
        assert_eq!(voters[0].voter_id.value(), 1);
        let endpoint = &voters[0].endpoints[0];
        assert_eq!(
            (endpoint.name.as_str(), endpoint.host.as_str()),
            ("CONTROLLER", "127.0.0.1")
        );
    }

    #[test]
    fn the_metadata_of_a_cluster_is_read() {
        let snapshot = read(CLUSTER);
        assert!(snapshot.voters.is_some());
        assert_eq!(snapshot.records.len(), 95);
        let topics = snapshot.records.iter().filter_map(|record| match record {
            MetadataRecord::Topic(topic) => Some(topic.name.as_str()),
            _ => None,
        });
        assert!(topics.collect::<Vec<_>>().contains(&"deleted-records"));
    }

    /// The bytes of a snapshot of Kafka's come out as they went in, up to the time that each batch was written.
    #[test]
    fn kafkas_bytes_are_written_again() {
        for bytes in [BOOTSTRAP, STANDALONE, CLUSTER] {
            let mut rest = Bytes::from_static(bytes);
            let mut first_batch = None;
            let mut blank = Vec::new();
            while let Some(batch) = Batch::split_from(&mut rest).unwrap() {
                blank.extend_from_slice(&without_times(batch.bytes()));
                first_batch.get_or_insert(batch);
            }
            let epoch = first_batch.unwrap().header().partition_leader_epoch;
            let now = Timestamp::from_millis(1);
            let encoded = read(bytes)
                .encode(epoch, MetadataVersion::LATEST, now)
                .unwrap();
            let mut rest = encoded;
            let mut ours = Vec::new();
            while let Some(batch) = Batch::split_from(&mut rest).unwrap() {
                ours.extend_from_slice(&without_times(batch.bytes()));
            }
            assert_eq!(ours, blank);
        }
    }

    /// Blanks CRC and the two timestamps of the batch.
    fn without_times(batch: &[u8]) -> Vec<u8> {
        let mut batch = batch.to_vec();
        batch[17..21].fill(0);
        batch[27..43].fill(0);
        batch
    }

    #[test]
    fn a_snapshot_without_its_end_is_refused() {
        let whole = read_snapshot(Bytes::from_static(CLUSTER)).unwrap();
        assert!(!whole.records.is_empty());
        for len in 0..CLUSTER.len() {
            let error = read_snapshot(Bytes::from_static(&CLUSTER[..len])).unwrap_err();
            assert!(
                matches!(error, SnapshotError::Malformed(_)),
                "{len}: {error}"
            );
        }
        let twice = [BOOTSTRAP, BOOTSTRAP].concat();
        let error = read_snapshot(twice.into()).unwrap_err();
        assert_eq!(error.to_string(), "something follows the snapshot's footer");
    }

    #[test]
    fn a_damaged_byte_is_found() {
        // Behind the leader's fields, which the checksum does not cover.
        for position in [30, 110, 200, 390] {
            let mut bytes = BOOTSTRAP.to_vec();
            bytes[position] ^= 1;
            assert!(read_snapshot(bytes.into()).is_err(), "{position}");
        }
    }

    #[test]
    fn many_records_take_several_batches() {
        let name = TopicName::from("t".repeat(200));
        let topic = TopicRecord {
            name,
            topic_id: Uuid::from_bytes([1; 16]),
        };
        let snapshot = Snapshot {
            last_contained_log_timestamp: Timestamp::from_millis(7),
            voters: None,
            records: vec![topic.into(); 6000],
        };
        let now = Timestamp::from_millis(9);
        let encoded = snapshot
            .encode(LeaderEpoch::new(3), MetadataVersion::LATEST, now)
            .unwrap();
        let mut rest = encoded.clone();
        let mut batches_count = 0;
        while let Some(batch) = Batch::split_from(&mut rest).unwrap() {
            assert!(batch.size() < BATCH_BYTES_MAX * 9 / 8);
            batches_count += 1;
        }
        assert_eq!(batches_count, 2 + 3);
        assert_eq!(read_snapshot(encoded).unwrap(), snapshot);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn hostile_bytes_are_an_error(bytes: Vec<u8>, cut in 0_usize..400, at in 0_usize..400) {
            let _ = read_snapshot(bytes.clone().into());
            let mut spliced = BOOTSTRAP[..cut.min(BOOTSTRAP.len())].to_vec();
            spliced.extend_from_slice(&bytes);
            spliced.extend_from_slice(&BOOTSTRAP[at..]);
            let _ = read_snapshot(spliced.into());
        }

        #[test]
        fn what_was_written_is_read(count in 0_usize..20, epoch in 0_i32..9) {
            let snapshot = Snapshot {
                last_contained_log_timestamp: Timestamp::from_millis(count as i64),
                voters: None,
                records: vec![NoOpRecord {}.into(); count],
            };
            let now = Timestamp::from_millis(5);
            let encoded = snapshot.encode(LeaderEpoch::new(epoch), MetadataVersion::LATEST, now);
            prop_assert_eq!(read_snapshot(encoded.unwrap()).unwrap(), snapshot);
        }
    }
}
