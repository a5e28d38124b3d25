//! Snappy in the framing of snappy-java:
//!
//! ```text
//! 0  magic 82 'S' 'N' 'A' 'P' 'P' 'Y' 00
//! 8  version i32 = 1, big endian
//! 12 compatible version i32 = 1
//! 16 blocks: length i32, raw snappy of up to 32 KiB
//! ```
//!
//! Some clients write one raw block without any framing.

use std::io::{self, Read};

use bytes::{Buf, Bytes};

use super::invalid;

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const FRAME_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// What snappy-java puts into one block.
const BLOCK_LEN: usize = 32 * 1024;
/// Snappy's densest element copies 64 bytes and takes 3, so a block cannot hold more than this many
/// times its bytes. A block that promises more is refused before anything is allocated.
const EXPANSION_MAX: usize = 22;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = snap::raw::Encoder::new();
    let mut packed = vec![0; snap::raw::max_compress_len(input.len().min(BLOCK_LEN))];
    out.extend_from_slice(&FRAME_HEADER);
    for block in input.chunks(BLOCK_LEN) {
        let len = encoder.compress(block, &mut packed)?;
        out.extend_from_slice(&(len as i32).to_be_bytes());
        out.extend_from_slice(&packed[..len]);
    }
    Ok(())
}

pub(super) struct Decompress {
    input: Bytes,
    framed: bool,
    bytes_max: usize,
    decoder: snap::raw::Decoder,
    block: Vec<u8>,
    /// How much of `block` has been handed out.
    taken: usize,
}

impl Decompress {
    pub(super) fn new(input: Bytes, bytes_max: usize) -> Self {
        let framed = input.starts_with(&MAGIC);
        let decoder = snap::raw::Decoder::new();
        Self {
            input,
            framed,
            bytes_max,
            decoder,
            block: Vec::new(),
            taken: 0,
        }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let packed = if self.framed {
            self.take_framed()?
        } else {
            std::mem::take(&mut self.input)
        };
        let len = if packed.is_empty() {
            0
        } else {
            snap::raw::decompress_len(&packed)?
        };
        if len > packed.len().saturating_mul(EXPANSION_MAX) || len > self.bytes_max {
            return Err(invalid("a block promises more than it can hold"));
        }
        self.block.resize(len, 0);
        self.taken = 0;
        if !packed.is_empty() {
            self.decoder.decompress(&packed, &mut self.block)?;
        }
        Ok(())
    }

    fn take_framed(&mut self) -> io::Result<Bytes> {
        // A frame header may come again: streams can be put one behind another.
        while self.input.starts_with(&MAGIC[..4]) {
            if self.input.len() < FRAME_HEADER.len() || !self.input.starts_with(&MAGIC) {
                return Err(invalid("a damaged frame header"));
            }
            self.input.advance(FRAME_HEADER.len());
        }
        if self.input.is_empty() {
            return Ok(Bytes::new());
        }
        let len = self
            .input
            .try_get_i32()
            .map_err(|_| invalid("a block is cut off"))?;
        let len = usize::try_from(len).map_err(|_| invalid("a block of negative length"))?;
        if len > self.input.len() {
            return Err(invalid("a block is cut off"));
        }
        Ok(self.input.split_to(len))
    }
}

impl Read for Decompress {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.block.len() {
            if self.input.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let len = out.len().min(self.block.len() - self.taken);
        out[..len].copy_from_slice(&self.block[self.taken..self.taken + len]);
        self.taken += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decompress::new(Bytes::copy_from_slice(packed), 1 << 20).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn a_raw_block_is_read() {
        let plain = vec![7; 100_000];
        let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        assert_eq!(unpack(&raw).unwrap(), plain);
    }

    #[test]
    fn streams_one_behind_another_are_one() {
        let mut packed = Vec::new();
        compress(b"one ", &mut packed).unwrap();
        compress(b"two", &mut packed).unwrap();
        assert_eq!(unpack(&packed).unwrap(), b"one two");
    }

    #[test]
    fn a_promise_beyond_what_snappy_can_do_is_refused() {
        // The length 2^31 and one literal byte.
        let error = unpack(&[0x80, 0x80, 0x80, 0x80, 0x08, 0x00, b'a']).unwrap_err();
        assert_eq!(error.to_string(), "a block promises more than it can hold");
    }
}
