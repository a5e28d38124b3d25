//! Reads the batches of a closed segment.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tidelog_record::{AnyBatch, AnyHeader, BatchError};
use tidelog_types::Offset;

use crate::dir::File;
use crate::error::{CleanError, Context, LogError};
use crate::scan::as_batch;
use crate::segment::Segment;

/// The batches of a segment from one position on, each checked as a whole.
pub(super) struct Source {
    file: Arc<dyn File>,
    path: PathBuf,
    /// Where the next batch begins.
    position: u64,
    end: u64,
    /// Bytes from the position on.
    buffer: Bytes,
    /// All that was read last, of which the buffer is the end.
    whole: Bytes,
    chunk: usize,
    next_offset: Offset,
    /// Bytes read from the file that were not accounted for yet.
    read: u64,
}

impl Source {
    pub(super) fn new(segment: &Segment, position: u32, chunk: usize) -> Result<Self, LogError> {
        Ok(Self {
            file: segment.file()?,
            path: segment.log_path(),
            position: u64::from(position),
            end: u64::from(segment.len()),
            buffer: Bytes::new(),
            whole: Bytes::new(),
            chunk,
            next_offset: segment.base_offset(),
            read: 0,
        })
    }

    /// Bytes that were read from the file since the last call.
    pub(super) fn take_read(&mut self) -> u64 {
        std::mem::take(&mut self.read)
    }

    /// The next batch, or `None` at the end of the segment.
    pub(super) fn next_batch(&mut self) -> Result<Option<AnyBatch>, CleanError> {
        let mut wanted = self.chunk as u64;
        loop {
            match AnyBatch::split_from(&mut self.buffer) {
                Ok(Some(batch)) => {
                    self.check(&batch).map_err(|error| self.damaged(error))?;
                    let header = batch.header();
                    self.next_offset = header.next_offset();
                    self.position += header.size() as u64;
                    return Ok(Some(batch));
                }
                Ok(None) => {}
                Err(error) => return Err(self.damaged(error)),
            }
            let left = self.end - self.position;
            if left == 0 {
                return Ok(None);
            }
            let held = self.buffer.len() as u64;
            if held == left {
                return Err(self.damaged(BatchError::Truncated {
                    needed: self.buffer.len() + 1,
                    available: self.buffer.len(),
                }));
            }
            if held >= wanted {
                // A batch that is larger than a piece. It doubles, so that a length that is wrong costs no memory.
                wanted = held.saturating_mul(2);
            }
            self.fill(wanted.min(left) as usize)?;
        }
    }

    /// Whether the batch is as it was written. What is compacted gets a CRC that is right, so it must have been right before.
    fn check(&self, batch: &AnyBatch) -> Result<(), BatchError> {
        batch.verify_crc()?;
        let header = match batch.header() {
            AnyHeader::V2(header) => header,
            AnyHeader::Legacy(header) => as_batch(&header),
        };
        header.check_offsets()?;
        if header.base_offset < self.next_offset {
            return Err(BatchError::InvalidOffsets {
                base_offset: header.base_offset.value(),
                last_offset_delta: header.last_offset_delta,
            });
        }
        Ok(())
    }

    fn fill(&mut self, len: usize) -> Result<(), LogError> {
        let held = self.buffer.len();
        let from = self.whole.len() - held;
        let rest = std::mem::take(&mut self.buffer);
        let whole = std::mem::take(&mut self.whole);
        let mut buffer = if whole.len() >= len {
            // Without another handle on it, the memory is taken over.
            drop(rest);
            let mut buffer = whole
                .try_into_mut()
                .unwrap_or_else(|whole| whole[..].into());
            buffer.copy_within(from.., 0);
            buffer.truncate(len);
            buffer
        } else {
            let mut buffer = BytesMut::zeroed(len);
            buffer[..held].copy_from_slice(&rest);
            buffer
        };
        self.file
            .read_exact_at(&mut buffer[held..], self.position + held as u64)
            .context("read", &self.path)?;
        self.read += (len - held) as u64;
        self.whole = buffer.freeze();
        self.buffer = self.whole.clone();
        Ok(())
    }

    /// What is wrong with the batch at the position.
    pub(super) fn damaged(&self, error: BatchError) -> CleanError {
        CleanError::Log(LogError::Corrupt {
            path: self.path.clone(),
            position: self.position,
            reason: error.to_string(),
        })
    }
}
