//! LZ4 as Kafka has it: one standard frame of independent blocks.
//!
//! In message format v0 the checksum of the frame's header covers the magic number too, which it
//! should not (KAFKA-3160); it is written like that and not looked at.

use std::io::{self, Read, Write};

use bytes::buf::{Chain, Reader};
use bytes::{Buf, Bytes};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{Framing, invalid};

/// The magic number 0x184D2204, little endian.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The version, in bits 6-7 of the frame's flags, and the flag of independent blocks. Kafka's
/// clients read no others.
const VERSION_AND_INDEPENDENT: u8 = 0b0110_0000;
const VERSION_AND_INDEPENDENT_MASK: u8 = 0b1110_0000;
/// The header carries the size of the content: 8 bytes.
const CONTENT_SIZE: u8 = 0b1000;
/// The header names a dictionary: 4 bytes. Kafka's clients do not know it.
const DICTIONARY: u8 = 0b1;
/// Magic number, flags, block size: what the header has at least in front of its checksum.
const HEADER_LEN_MIN: usize = 6;

pub(super) fn compress(framing: Framing, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut stream = FrameEncoder::with_frame_info(info, &mut *out);
    stream.write_all(input)?;
    stream.finish()?;
    if framing == Framing::MagicZero {
        let end = start + HEADER_LEN_MIN;
        out[end] = header_checksum(&out[start..end]);
    }
    Ok(())
}

/// Reads one frame, and ignores what follows it, as Kafka does.
pub(super) struct Decompress {
    frame: FrameDecoder<Reader<Chain<Bytes, Bytes>>>,
    ended: bool,
}

impl Decompress {
    pub(super) fn new(framing: Framing, mut input: Bytes) -> io::Result<Self> {
        if !input.starts_with(&MAGIC) {
            return Err(invalid("not an LZ4 frame"));
        }
        let flags = match input.get(MAGIC.len()) {
            Some(flags) if flags & VERSION_AND_INDEPENDENT_MASK == VERSION_AND_INDEPENDENT => {
                *flags
            }
            _ => return Err(invalid("not a version 1 frame of independent blocks")),
        };
        let header = match framing {
            Framing::Standard => Bytes::new(),
            Framing::MagicZero => repair_header(flags, &mut input)?,
        };
        Ok(Self {
            frame: FrameDecoder::new(header.chain(input).reader()),
            ended: false,
        })
    }
}

/// Takes the header of a frame off `input` and gives it with the right checksum.
fn repair_header(flags: u8, input: &mut Bytes) -> io::Result<Bytes> {
    if flags & DICTIONARY != 0 {
        return Err(invalid("a frame with a dictionary"));
    }
    let checksum_at = HEADER_LEN_MIN + if flags & CONTENT_SIZE == 0 { 0 } else { 8 };
    if input.len() <= checksum_at {
        return Err(invalid("the header of the frame is cut off"));
    }
    let mut header = input.split_to(checksum_at + 1).to_vec();
    header[checksum_at] = header_checksum(&header[MAGIC.len()..checksum_at]);
    Ok(header.into())
}

/// The second byte of the XXH32 of `header`, of which there are fewer than 16 bytes: no stripes.
fn header_checksum(header: &[u8]) -> u8 {
    const PRIME_1: u32 = 0x9e37_79b1;
    const PRIME_2: u32 = 0x85eb_ca77;
    const PRIME_3: u32 = 0xc2b2_ae3d;
    const PRIME_4: u32 = 0x27d4_eb2f;
    const PRIME_5: u32 = 0x1656_67b1;
    assert!(header.len() < 16, "a header is shorter than a stripe");
    let mut hash = PRIME_5.wrapping_add(header.len() as u32);
    let (words, bytes) = header.as_chunks();
    for word in words {
        hash = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_3));
        hash = hash.rotate_left(17).wrapping_mul(PRIME_4);
    }
    for byte in bytes {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(PRIME_5));
        hash = hash.rotate_left(11).wrapping_mul(PRIME_1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIME_3);
    hash ^= hash >> 16;
    (hash >> 8) as u8
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

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(framing: Framing, packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decompress::new(framing, Bytes::copy_from_slice(packed))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn message_format_v0_has_the_wrong_checksum_and_reads_any() {
        let mut packed = Vec::new();
        compress(Framing::MagicZero, b"tide", &mut packed).unwrap();
        // What Kafka's own clients wrote.
        assert_eq!(packed[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x1a]);
        assert!(unpack(Framing::Standard, &packed).is_err());
        for checksum in [0x1a, 0x82, 0x00] {
            packed[6] = checksum;
            assert_eq!(unpack(Framing::MagicZero, &packed).unwrap(), b"tide");
        }
    }

    #[test]
    fn a_header_with_the_size_of_the_content_is_repaired_too() {
        let mut packed = Vec::new();
        let info = FrameInfo::new()
            .block_mode(BlockMode::Independent)
            .content_size(Some(4));
        let mut stream = FrameEncoder::with_frame_info(info, &mut packed);
        stream.write_all(b"tide").unwrap();
        stream.finish().unwrap();
        packed[14] ^= 0xff;
        assert!(unpack(Framing::Standard, &packed).is_err());
        assert_eq!(unpack(Framing::MagicZero, &packed).unwrap(), b"tide");
    }
}
