use std::io::Read;

use bytes::{Buf, Bytes, BytesMut};

use crate::compression::{Framing, damaged, decompress};
use crate::{BatchError, Codec, Limits};

/// How much is decompressed at a time.
const CHUNK_LEN: usize = 16 * 1024;

/// A window that moves over what a compressed payload holds, and is never more than a chunk ahead
/// of the record that is asked for.
pub(crate) struct Unpacker {
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
    pub(crate) fn new(
        codec: Codec,
        framing: Framing,
        payload: Bytes,
        limits: Limits,
    ) -> Result<Self, BatchError> {
        Ok(Self {
            codec,
            stream: decompress(codec, framing, payload, limits.batch_bytes_max)?,
            limits,
            window: BytesMut::new(),
            lent: 0,
            total: 0,
            ended: false,
        })
    }

    /// What was decompressed and not yet taken.
    pub(crate) fn window(&self) -> &[u8] {
        &self.window[self.lent..]
    }

    /// Decompresses until the window has `len` bytes; `false` if there are not so many.
    ///
    /// The window grows as bytes come, not as far as `len` says.
    pub(crate) fn fill_to(&mut self, len: usize) -> Result<bool, BatchError> {
        while self.window().len() < len {
            if !self.fill()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Refuses a record that is larger than the limit, before anything is decompressed for it.
    pub(crate) const fn check_record(&self, len: usize) -> Result<(), BatchError> {
        let limit = self.limits.record_bytes_max;
        if len > limit {
            return Err(BatchError::LimitExceeded {
                what: "record",
                limit,
            });
        }
        Ok(())
    }

    /// Drops `len` bytes off the front of the window, which has them.
    pub(crate) fn advance(&mut self, len: usize) {
        self.window.advance(std::mem::take(&mut self.lent) + len);
    }

    /// Drops `len` bytes, decompressing without keeping; `false` if there are not so many.
    pub(crate) fn skip(&mut self, mut len: usize) -> Result<bool, BatchError> {
        loop {
            let step = self.window().len().min(len);
            self.advance(step);
            len -= step;
            if len == 0 {
                return Ok(true);
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    /// Takes `len` bytes off the front of the window, which has them, sharing it.
    pub(crate) fn take(&mut self, len: usize) -> Bytes {
        self.advance(0);
        self.window.split_to(len).freeze()
    }

    /// Lends `len` bytes at the front of the window, which has them; the next call drops them.
    pub(crate) fn lend(&mut self, len: usize) -> &[u8] {
        self.advance(0);
        self.lent = len;
        &self.window[..len]
    }

    /// Whether everything was taken.
    pub(crate) fn is_at_end(&mut self) -> Result<bool, BatchError> {
        self.advance(0);
        Ok(self.window.is_empty() && !self.fill()?)
    }

    /// Decompresses some more; `false` at the end.
    fn fill(&mut self) -> Result<bool, BatchError> {
        if self.ended {
            return Ok(false);
        }
        self.advance(0);
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
