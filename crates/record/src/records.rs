use bytes::{Buf, Bytes};

use crate::compression::Framing;
use crate::header::HEADER_LEN;
use crate::record::{Base, take_body};
use crate::unpack::Unpacker;
use crate::varint::{VarintError, take_varint};
use crate::{Batch, BatchError, Codec, Record, RecordError, RecordRef};

/// How far compressed records may unfold.
///
/// A kilobyte can hold gigabytes of zeros. Records are decompressed piece by piece and held one at
/// a time, so `batch_bytes_max` bounds the work and `record_bytes_max` the memory: besides the
/// record that was asked for, a reader holds at most the next 16 KiB, and what the codec needs to go
/// on from where it is (a block, or a window).
///
/// ```
/// use tidelog_record::{BatchBuilder, BatchError, Codec, Limits};
/// use tidelog_types::Timestamp;
///
/// # fn main() -> Result<(), BatchError> {
/// let mut builder = BatchBuilder::new(Codec::Gzip.into());
/// builder.push(Timestamp::NONE, None, Some(&[0; 1 << 20]), &[]);
/// let bomb = builder.build()?;
/// assert!(bomb.size() < 2000);
///
/// let limits = Limits { record_bytes_max: 64 << 10, ..Limits::DEFAULT };
/// let error = bomb.walk_within(limits)?.next_record().unwrap_err();
/// assert_eq!(error.to_string(), "decompressed, the record is larger than 65536 bytes");
/// # Ok(())
/// # }
/// ```
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
            codec => Source::Packed(self.unpacker(codec, limits)?),
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
            codec => Source::Packed(self.unpacker(codec, limits)?),
        };
        Ok(Walk {
            source,
            base: Base::of(self.header()),
            index: 0,
            records_count,
            ended: false,
        })
    }

    fn unpacker(&self, codec: Codec, limits: Limits) -> Result<Box<Unpacker>, BatchError> {
        Unpacker::new(codec, Framing::Standard, self.payload(), limits).map(Box::new)
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
        let record = match &mut self.source {
            Source::Plain(rest) => {
                let mut after = &rest[..];
                let record = take_body(&mut after).and_then(|body| self.base.read(body));
                let record = record.map_err(wrong)?.shared(rest);
                let taken = rest.len() - after.len();
                rest.advance(taken);
                record
            }
            Source::Packed(unpacker) => {
                let len = next_body(unpacker, index)?;
                let body = unpacker.take(len);
                self.base.read(&body).map_err(wrong)?.shared(&body)
            }
        };
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
            Source::Packed(unpacker) => {
                let len = next_body(unpacker, index)?;
                self.base.read(unpacker.lend(len))
            }
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

/// Brings the whole body of the next record to the front of the window and says how long it is.
fn next_body(unpacker: &mut Unpacker, index: i32) -> Result<usize, BatchError> {
    let wrong = |source| BatchError::Record { index, source };
    let length = loop {
        let mut rest = unpacker.window();
        match take_varint(&mut rest) {
            Ok(length) => {
                let prefix = unpacker.window().len() - rest.len();
                unpacker.advance(prefix);
                break length;
            }
            Err(VarintError::Truncated) if unpacker.fill_to(unpacker.window().len() + 1)? => {}
            Err(error) => return Err(wrong(error.into())),
        }
    };
    let too_short = |unpacker: &Unpacker| {
        wrong(RecordError::Length {
            length,
            available: unpacker.window().len(),
        })
    };
    let Ok(len) = usize::try_from(length) else {
        return Err(too_short(unpacker));
    };
    unpacker.check_record(len)?;
    if !unpacker.fill_to(len)? {
        return Err(too_short(unpacker));
    }
    Ok(len)
}
