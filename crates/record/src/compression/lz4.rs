//! LZ4 as Kafka has it since message format v1: one standard frame of independent blocks.

use std::io::{self, Read, Write};

use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::invalid;

/// The magic number 0x184D2204, little endian.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The version, in bits 6-7 of the frame's flags, and the flag of independent blocks. Kafka's
/// clients read no others.
const VERSION_AND_INDEPENDENT: u8 = 0b0110_0000;
const VERSION_AND_INDEPENDENT_MASK: u8 = 0b1110_0000;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut stream = FrameEncoder::with_frame_info(info, out);
    stream.write_all(input)?;
    stream.finish()?;
    Ok(())
}

/// Reads one frame, and ignores what follows it, as Kafka does.
pub(super) struct Decompress {
    frame: FrameDecoder<Reader<Bytes>>,
    ended: bool,
}

impl Decompress {
    pub(super) fn new(input: Bytes) -> io::Result<Self> {
        if !input.starts_with(&MAGIC) {
            return Err(invalid("not an LZ4 frame"));
        }
        match input.get(MAGIC.len()) {
            Some(flags) if flags & VERSION_AND_INDEPENDENT_MASK == VERSION_AND_INDEPENDENT => {}
            _ => return Err(invalid("not a version 1 frame of independent blocks")),
        }
        Ok(Self {
            frame: FrameDecoder::new(input.reader()),
            ended: false,
        })
    }
}

impl Read for Decompress {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        let len = self.frame.read(out)?;
        // Asked again, the decoder would go on with another frame.
        self.ended = len == 0;
        Ok(len)
    }
}
