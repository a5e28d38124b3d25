use std::io;

use tidelog_record::legacy::LegacyHeader;
use tidelog_record::{AnyHeader, Attributes, BatchError, BatchHeader};
use tidelog_types::{LeaderEpoch, ProducerEpoch, ProducerId};

use crate::dir::File;

/// Enough for the headers between two entries of the offset index.
pub(crate) const HEADERS_CHUNK: usize = 8 << 10;
/// Large reads, for going through whole segments.
pub(crate) const WHOLE_CHUNK: usize = 1 << 20;

/// Walks over the batches of a segment, with few reads.
///
/// It checks that a batch can be one: magic, length, offsets that rise. The CRC is the caller's choice. A message of format
/// 0 or 1 counts as a batch too, see [`as_batch`].
pub(crate) struct Scanner<'a> {
    file: &'a dyn File,
    /// Where the next batch begins.
    position: u64,
    /// Where the last batch began.
    last: u64,
    end: u64,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    buffer_at: u64,
    chunk: usize,
    next_offset: i64,
}

/// One step of a [`Scanner`].
pub(crate) enum Scanned {
    /// The batch that begins at the position.
    Batch(u64, BatchHeader),
    /// The segment ends.
    End,
    /// No batch begins where one should, or it is damaged.
    Broken(BatchError),
}

impl<'a> Scanner<'a> {
    /// Starts at `position`, where a batch begins, and ends at `end`. Reads `chunk` bytes at a time.
    pub(crate) fn new(file: &'a dyn File, position: u64, end: u64, chunk: usize) -> Self {
        Self {
            file,
            position,
            last: position,
            end,
            buffer: Vec::new(),
            buffer_at: position,
            chunk,
            next_offset: 0,
        }
    }

    /// Where the next batch begins, or what is broken does.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// Goes on to the next batch; looks at its header only.
    pub(crate) fn next_header(&mut self) -> io::Result<Scanned> {
        self.step(false)
    }

    /// Goes on to the next batch and checks its CRC.
    pub(crate) fn next_batch(&mut self) -> io::Result<Scanned> {
        self.step(true)
    }

    /// The bytes of the batch that [`next_batch`](Self::next_batch) returned last.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
            [(self.last - self.buffer_at) as usize..(self.position - self.buffer_at) as usize]
    }

    /// Whether all bytes from here to the end are zero: space that was prepared and not used.
    pub(crate) fn rest_is_zero(&mut self) -> io::Result<bool> {
        while self.position < self.end {
            let len = self.chunk.min((self.end - self.position) as usize);
            self.fill(len)?;
            let at = (self.position - self.buffer_at) as usize;
            if self.buffer[at..at + len].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            self.position += len as u64;
        }
        Ok(true)
    }

    fn step(&mut self, whole: bool) -> io::Result<Scanned> {
        let left = self.end - self.position;
        if left == 0 {
            return Ok(Scanned::End);
        }
        let header_len = (AnyHeader::LEN_MAX as u64).min(left) as usize;
        self.fill(header_len)?;
        let at = (self.position - self.buffer_at) as usize;
        let stored = match AnyHeader::decode(&self.buffer[at..at + header_len]) {
            Ok(header) => header,
            Err(error) => return Ok(Scanned::Broken(error)),
        };
        let header = match stored {
            AnyHeader::V2(header) => header,
            AnyHeader::Legacy(header) => as_batch(&header),
        };
        if let Err(error) = self.check(&header, left) {
            return Ok(Scanned::Broken(error));
        }
        if whole {
            self.fill(header.size())?;
            let at = (self.position - self.buffer_at) as usize;
            if let Err(error) = stored.verify_crc(&self.buffer[at..at + header.size()]) {
                return Ok(Scanned::Broken(error));
            }
        }
        self.last = self.position;
        self.position += header.size() as u64;
        self.next_offset = header.next_offset().value();
        Ok(Scanned::Batch(self.last, header))
    }

    fn check(&self, header: &BatchHeader, left: u64) -> Result<(), BatchError> {
        header.check_offsets()?;
        if header.base_offset.value() < self.next_offset {
            return Err(BatchError::InvalidOffsets {
                base_offset: header.base_offset.value(),
                last_offset_delta: header.last_offset_delta,
            });
        }
        if header.size() as u64 > left {
            let available = usize::try_from(left).unwrap_or(usize::MAX);
            return Err(BatchError::Truncated {
                needed: header.size(),
                available,
            });
        }
        Ok(())
    }

    /// Sees to it that `needed` bytes from the position on are in the buffer. They are within the end, so a claimed size
    /// never makes the buffer larger than the file.
    fn fill(&mut self, needed: usize) -> io::Result<()> {
        let held = self.buffer_at + self.buffer.len() as u64;
        if self.position >= self.buffer_at && self.position + needed as u64 <= held {
            return Ok(());
        }
        let len = needed.max(self.chunk.min((self.end - self.position) as usize));
        let keep_from = (self.position.max(self.buffer_at) - self.buffer_at) as usize;
        let kept = if self.position >= self.buffer_at && keep_from < self.buffer.len() {
            self.buffer.copy_within(keep_from.., 0);
            self.buffer.len() - keep_from
        } else {
            0
        };
        self.buffer.resize(len, 0);
        self.buffer_at = self.position;
        self.file
            .read_exact_at(&mut self.buffer[kept..], self.position + kept as u64)
    }
}

/// The header that a message of format 0 or 1 would have as a batch, as far as a log goes by it: size, last offset and
/// largest timestamp. Where a wrapper begins stands inside of it only; its last offset is taken for that.
pub(crate) const fn as_batch(message: &LegacyHeader) -> BatchHeader {
    /// Codec and timestamp type; the other bits have a meaning in later formats only.
    const ATTRIBUTES: i16 = 0b1111;
    BatchHeader {
        base_offset: message.offset,
        batch_length: message.message_size,
        partition_leader_epoch: LeaderEpoch::NONE,
        magic: message.magic.id(),
        crc: message.crc,
        attributes: Attributes::from_bits(message.attributes.bits() & ATTRIBUTES),
        last_offset_delta: 0,
        base_timestamp: message.timestamp,
        max_timestamp: message.timestamp,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: -1,
        records_count: 1,
    }
}
