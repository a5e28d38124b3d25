use tidelog_record::HeaderRef;
use tidelog_types::{PartitionIndex, Timestamp};

/// A record to be sent. It borrows everything: the producer copies it into its batch once, and that is all.
///
/// ```
/// use tidelog_client::ProducerRecord;
///
/// let record = ProducerRecord::to("orders").key(b"user-7").value(b"two apples").header("trace", b"17");
/// # assert_eq!(record.topic, "orders");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; `None` to have the [`Partitioner`](super::Partitioner) choose.
    pub partition: Option<PartitionIndex>,
    /// What partitioning and compaction go by.
    pub key: Option<&'a [u8]>,
    /// The content; `None` is a tombstone for compaction.
    pub value: Option<&'a [u8]>,
    /// Further pairs, in their order; a key may come twice.
    pub headers: Vec<HeaderRef<'a>>,
    /// When it happened; `None` for now.
    pub timestamp: Option<Timestamp>,
}

impl<'a> ProducerRecord<'a> {
    /// A record of a topic, without key and value.
    pub const fn to(topic: &'a str) -> Self {
        Self {
            topic,
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// With a key.
    #[must_use]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// With a value.
    #[must_use]
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, key: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push(HeaderRef {
            key: key.as_bytes(),
            value: Some(value.as_ref()),
        });
        self
    }

    /// For this partition.
    #[must_use]
    pub const fn partition(mut self, partition: PartitionIndex) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With a timestamp of its own.
    #[must_use]
    pub const fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// About how much it takes in a batch: its parts, and what frames them, generously.
    pub(super) fn size(&self) -> usize {
        /// Attributes, and the numbers of a record.
        const FRAME: usize = 16;
        /// The two lengths of a header.
        const HEADER_FRAME: usize = 6;
        let len = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|header| HEADER_FRAME + header.key.len() + len(header.value))
            .sum();
        FRAME + len(self.key) + len(self.value) + headers
    }
}
