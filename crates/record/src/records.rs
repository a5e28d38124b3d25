use std::io::Read;

use bytes::{Buf, Bytes, BytesMut};

use crate::compression::{damaged, decompress};
use crate::header::HEADER_LEN;
use crate::record::{Base, take_body};
use crate::varint::{VarintError, take_varint};
use crate::{Batch, BatchError, Codec, Record, RecordError, RecordRef};

/// How far compressed records may unfold.
///
/// A kilobyte can hold gigabytes of zeros. Records are decompressed piece by piece and held one at
/// a time, so `batch_bytes_max` bounds the work and `record_bytes_max` the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that the records of one batch may have, decompressed.
    pub batch_bytes_max: usize,
    /// The most bytes that one record may have, decompressed.
    pub record_bytes_max: usize,
}

impl Limits {
    /// 1 GiB a batch, and 100 MiB a record: what Kafka accepts as the size of a request, in which
    /// the record once fitted.
    pub const DEFAULT: Self = Self {
        batch_bytes_max: 1 << 30,
        record_bytes_max: 100 << 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Batch {
    /// The records, one after another, decompressed as they are asked for.
    pub fn records(&self) -> Result<Records, BatchError> {
        self.records_within(Limits::DEFAULT)
    }

    /// [`records`](Self::records) with other limits.
    pub fn records_within(&self, limits: Limits) -> Result<Records, BatchError> {
        let records_count = self.checked_count()?;
        let source = match self.header().attributes.codec()? {
            _ if records_count == 0 => Source::Plain(Bytes::new()),
            Codec::None => Source::Plain(self.payload()),
            codec => Source::Packed(Box::new(Unpacker::new(codec, self.payload(), limits)?)),
        };
        Ok(Records {
            source,
            base: Base::of(self.header()),
            index: 0,
            records_count,
            ended: false,
        })
    }

    /// The records, borrowed one at a time: no allocation and no shared ownership per record.
    pub fn walk(&self) -> Result<Walk<'_>, BatchError> {
        self.walk_within(Limits::DEFAULT)
    }

    /// [`walk`](Self::walk) with other limits.
    pub fn walk_within(&self, limits: Limits) -> Result<Walk<'_>, BatchError> {
        let records_count = self.checked_count()?;
        let source = match self.header().attributes.codec()? {
            _ if records_count == 0 => Source::Plain(&[][..]),
            Codec::None => Source::Plain(&self.bytes()[HEADER_LEN..]),
            codec => Source::Packed(Box::new(Unpacker::new(codec, self.payload(), limits)?)),
        };
        Ok(Walk {
            source,
            base: Base::of(self.header()),
            index: 0,
            records_count,
            ended: false,
        })
    }

    const fn checked_count(&self) -> Result<i32, BatchError> {
        match self.header().records_count {
            records_count @ 0.. => Ok(records_count),
            records_count => Err(BatchError::InvalidCount { records_count }),
        }
    }
}

/// Where the bytes of records come from.
enum Source<T> {
    /// They lie there.
    Plain(T),
    /// They are compressed.
    Packed(Box<Unpacker>),
}

/// The records of a batch. Ends after the first error.
pub struct Records {
    source: Source<Bytes>,
    base: Base,
    index: i32,
    records_count: i32,
    /// Whether the end, or an error, was reached.
    ended: bool,
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Records {
    fn read(&mut self) -> Result<Option<Record>, BatchError> {
        let index = self.index;
        let wrong = |source| BatchError::Record { index, source };
        if index == self.records_count {
            let left_over = match &mut self.source {
                Source::Plain(rest) => !rest.is_empty(),
                Source::Packed(unpacker) => !unpacker.is_at_end()?,
            };
            return check_end(left_over, self.records_count).map(|()| None);
        }
        let body = match &mut self.source {
            Source::Plain(rest) => {
                let mut after = &rest[..];
                let body = rest.slice_ref(take_body(&mut after).map_err(wrong)?);
                rest.advance(rest.len() - after.len());
                body
            }
            Source::Packed(unpacker) => unpacker.take_body(index)?,
        };
        let record = self.base.read_shared(&body).map_err(wrong)?;
        self.index += 1;
        Ok(Some(record))
    }
}

/// The records of a batch, borrowed one at a time. Ends after the first error.
pub struct Walk<'a> {
    source: Source<&'a [u8]>,
    base: Base,
    index: i32,
    records_count: i32,
    /// Whether the end, or an error, was reached.
    ended: bool,
}

impl Walk<'_> {
    /// The next record, or `None` after the last one.
    #[inline(always)]
    pub fn next_record(&mut self) -> Result<Option<RecordRef<'_>>, BatchError> {
        let index = self.index;
        let wrong = |source| BatchError::Record { index, source };
        if self.ended || index == self.records_count {
            return self.end().map(|()| None);
        }
        // Taken back when the record is there.
        self.ended = true;
        let record = match &mut self.source {
            Source::Plain(rest) => take_body(rest).and_then(|body| self.base.read(body)),
            Source::Packed(unpacker) => self.base.read(unpacker.borrow_body(index)?),
        };
        let record = record.map_err(wrong)?;
        self.ended = false;
        self.index = index + 1;
        Ok(Some(record))
    }

    #[cold]
    fn end(&mut self) -> Result<(), BatchError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let left_over = match &mut self.source {
            Source::Plain(rest) => !rest.is_empty(),
            Source::Packed(unpacker) => !unpacker.is_at_end()?,
        };
        check_end(left_over, self.records_count)
    }
}

const fn check_end(left_over: bool, records_count: i32) -> Result<(), BatchError> {
    if left_over {
        Err(BatchError::BytesLeftOver { records_count })
    } else {
        Ok(())
    }
}

/// How much is decompressed at a time.
const CHUNK_LEN: usize = 16 * 1024;

/// A window that moves over the decompressed records.
struct Unpacker {
    codec: Codec,
    stream: Box<dyn Read + Send>,
    limits: Limits,
    /// What was decompressed and not yet taken.
    window: BytesMut,
    /// The bytes at the front of the window that were lent out last.
    lent: usize,
    /// How much was decompressed in all.
    total: usize,
    ended: bool,
}

impl Unpacker {
    fn new(codec: Codec, payload: Bytes, limits: Limits) -> Result<Self, BatchError> {
        Ok(Self {
            codec,
            stream: decompress(codec, payload, limits.batch_bytes_max)?,
            limits,
            window: BytesMut::new(),
            lent: 0,
            total: 0,
            ended: false,
        })
    }

    /// Brings the whole body of the next record to the front of the window and says how long it is.
    fn next_body(&mut self, index: i32) -> Result<usize, BatchError> {
        let wrong = |source| BatchError::Record { index, source };
        self.window.advance(std::mem::take(&mut self.lent));
        let (length, prefix) = loop {
            let mut rest = &self.window[..];
            match take_varint(&mut rest) {
                Ok(length) => break (length, self.window.len() - rest.len()),
                Err(VarintError::Truncated) if self.fill()? => {}
                Err(error) => return Err(wrong(error.into())),
            }
        };
        self.window.advance(prefix);
        let Ok(len) = usize::try_from(length) else {
            return Err(wrong(RecordError::Length {
                length,
                available: self.window.len(),
            }));
        };
        if len > self.limits.record_bytes_max {
            let limit = self.limits.record_bytes_max;
            return Err(BatchError::LimitExceeded {
                what: "record",
                limit,
            });
        }
        // The window grows as bytes come, not as far as the length says.
        while self.window.len() < len {
            if !self.fill()? {
                return Err(wrong(RecordError::Length {
                    length,
                    available: self.window.len(),
                }));
            }
        }
        Ok(len)
    }

    /// The body of the next record, sharing the window.
    fn take_body(&mut self, index: i32) -> Result<Bytes, BatchError> {
        let len = self.next_body(index)?;
        Ok(self.window.split_to(len).freeze())
    }

    /// The body of the next record, until the following one is asked for.
    fn borrow_body(&mut self, index: i32) -> Result<&[u8], BatchError> {
        self.lent = self.next_body(index)?;
        Ok(&self.window[..self.lent])
    }

    fn is_at_end(&mut self) -> Result<bool, BatchError> {
        self.window.advance(std::mem::take(&mut self.lent));
        Ok(self.window.is_empty() && !self.fill()?)
    }

    /// Decompresses some more; `false` at the end.
    fn fill(&mut self) -> Result<bool, BatchError> {
        if self.ended {
            return Ok(false);
        }
        let held = self.window.len();
        self.window.resize(held + CHUNK_LEN, 0);
        let mut len = 0;
        // Codecs hand out small pieces; a full chunk keeps the growing of the window rare.
        while len < CHUNK_LEN && !self.ended {
            let read = self.stream.read(&mut self.window[held + len..]);
            let read = read.map_err(|error| damaged(self.codec, &error))?;
            self.ended = read == 0;
            len += read;
        }
        self.window.truncate(held + len);
        self.total += len;
        if self.total > self.limits.batch_bytes_max {
            let limit = self.limits.batch_bytes_max;
            return Err(BatchError::LimitExceeded {
                what: "batch",
                limit,
            });
        }
        Ok(len > 0)
    }
}
