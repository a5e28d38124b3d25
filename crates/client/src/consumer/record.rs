use bytes::Bytes;
use tidelog_record::{
    AnyBatch, AnyHeader, BatchError, Record, RecordHeader, RecordRef, TimestampType,
};
use tidelog_types::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicName};

/// A record as it stands in its partition. Key, value and headers share the bytes in which they came: a small record that is kept for
/// long keeps the whole answer alive. Copy what is to stay.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerRecord {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The place of the record in its partition.
    pub offset: Offset,
    /// When the record was made, or appended, as `timestamp_type` says.
    pub timestamp: Timestamp,
    /// Whose clock the timestamp is from; `None` if the record has none (before Kafka 0.10).
    pub timestamp_type: Option<TimestampType>,
    /// The leader that appended the record; [`LeaderEpoch::NONE`] if that is not known.
    pub leader_epoch: LeaderEpoch,
    /// What compaction and partitioning go by.
    pub key: Option<Bytes>,
    /// The content; `None` is a tombstone for compaction.
    pub value: Option<Bytes>,
    /// Further pairs, in their order; a key may come twice.
    pub headers: Vec<RecordHeader>,
}

impl ConsumerRecord {
    pub(super) fn new(
        topic: TopicName,
        partition: PartitionIndex,
        header: &AnyHeader,
        record: Record,
    ) -> Self {
        Self {
            topic,
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            timestamp_type: header.timestamp_type(),
            leader_epoch: header.partition_leader_epoch(),
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }

    /// The value of the last header of this key.
    pub fn header(&self, key: &str) -> Option<&Bytes> {
        let mut headers = self.headers.iter().rev();
        let header = headers.find(|header| header.key == key.as_bytes());
        header.and_then(|header| header.value.as_ref())
    }
}

/// Neighbouring records of a partition, as they were produced together: what comes without a cost per record.
#[derive(Clone, Debug)]
pub struct ConsumerBatch {
    pub(super) topic: TopicName,
    pub(super) partition: PartitionIndex,
    pub(super) from: Offset,
    pub(super) batch: AnyBatch,
}

impl ConsumerBatch {
    /// The topic.
    pub const fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The partition.
    pub const fn partition(&self) -> PartitionIndex {
        self.partition
    }

    /// The offset that follows the batch. Offsets in it may be missing.
    pub const fn next_offset(&self) -> Offset {
        self.batch.header().next_offset()
    }

    /// The batch as it is in the log. It may begin with records in front of the position, which the methods here leave out.
    pub const fn batch(&self) -> &AnyBatch {
        &self.batch
    }

    /// The records, decompressed as they are asked for. The first error is the last item.
    pub fn records(
        &self,
    ) -> Result<impl Iterator<Item = Result<ConsumerRecord, BatchError>>, BatchError> {
        let header = self.batch.header();
        let (topic, partition, from) = (self.topic.clone(), self.partition, self.from);
        let records = self.batch.records()?;
        Ok(records
            .filter(move |record| record.as_ref().map_or(true, |it| it.offset >= from))
            .map(move |record| {
                Ok(ConsumerRecord::new(
                    topic.clone(),
                    partition,
                    &header,
                    record?,
                ))
            }))
    }

    /// Calls `visit` for each record, borrowed: the fastest way to see them all.
    ///
    /// ```no_run
    /// # fn count(batch: &tidelog_client::ConsumerBatch) -> Result<usize, tidelog_client::BatchError> {
    /// let mut bytes = 0;
    /// batch.visit(|record| bytes += record.value.map_or(0, <[u8]>::len))?;
    /// # Ok(bytes)
    /// # }
    /// ```
    pub fn visit(&self, mut visit: impl FnMut(RecordRef<'_>)) -> Result<(), BatchError> {
        let mut walk = self.batch.walk()?;
        while let Some(record) = walk.next_record()? {
            if record.offset >= self.from {
                visit(record);
            }
        }
        Ok(())
    }
}
