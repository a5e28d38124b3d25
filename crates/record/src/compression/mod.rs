//! The codecs, each behind a feature of its own. All of them read as a stream and none believes a
//! promised size.

use std::io::{self, Read};

use bytes::Bytes;

use crate::{BatchError, Codec, Compression};

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

/// How a codec frames its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As the codec's own standard says.
    Standard,
    /// As in message format v0, where the checksum of an LZ4 frame's header is wrong (KAFKA-3160).
    MagicZero,
}

/// Appends `input`, compressed, to `out`.
pub(crate) fn compress(
    compression: Compression,
    framing: Framing,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let codec = compression.codec();
    let done: io::Result<()> = match codec {
        Codec::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        #[cfg(feature = "gzip")]
        Codec::Gzip => gzip::compress(compression.level(), input, out),
        #[cfg(feature = "snappy")]
        Codec::Snappy => snappy::compress(input, out),
        #[cfg(feature = "lz4")]
        Codec::Lz4 => lz4::compress(framing, input, out),
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::compress(compression.level(), input, out),
        #[allow(
            unreachable_patterns,
            reason = "reachable when a codec's feature is off"
        )]
        _ => return Err(BatchError::CodecDisabled { codec }),
    };
    // Only LZ4 has to be told.
    let _ = framing;
    done.map_err(|error| BatchError::Compress {
        codec,
        reason: error.to_string(),
    })
}

/// A stream of what `input` holds, decompressed.
///
/// At no time does it hold more than a block of its format (at most 4 MiB), zstd's window, or, for
/// raw snappy, which is one block as a whole, `bytes_max`.
pub(crate) fn decompress(
    codec: Codec,
    framing: Framing,
    input: Bytes,
    bytes_max: usize,
) -> Result<Box<dyn Read + Send>, BatchError> {
    let stream: io::Result<Box<dyn Read + Send>> = match codec {
        Codec::None => Ok(Box::new(bytes::Buf::reader(input))),
        #[cfg(feature = "gzip")]
        Codec::Gzip => Ok(Box::new(gzip::decompress(input))),
        #[cfg(feature = "snappy")]
        Codec::Snappy => Ok(Box::new(snappy::Decompress::new(input, bytes_max))),
        #[cfg(feature = "lz4")]
        Codec::Lz4 => lz4::Decompress::new(framing, input).map(|stream| Box::new(stream) as _),
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::decompress(input).map(|stream| Box::new(stream) as _),
        #[allow(
            unreachable_patterns,
            reason = "reachable when a codec's feature is off"
        )]
        _ => return Err(BatchError::CodecDisabled { codec }),
    };
    // Only LZ4 and raw snappy have to be told.
    let _ = (framing, bytes_max);
    stream.map_err(|error| damaged(codec, &error))
}

/// The error of a decompressing stream.
pub(crate) fn damaged(codec: Codec, error: &io::Error) -> BatchError {
    BatchError::Decompress {
        codec,
        reason: error.to_string(),
    }
}

#[cfg(any(feature = "lz4", feature = "snappy"))]
fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(all(
    test,
    feature = "gzip",
    feature = "lz4",
    feature = "snappy",
    feature = "zstd"
))]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn unpack(codec: Codec, packed: Vec<u8>) -> Result<Vec<u8>, BatchError> {
        let mut out = Vec::new();
        decompress(codec, Framing::Standard, packed.into(), 1 << 20)?
            .read_to_end(&mut out)
            .map_err(|error| damaged(codec, &error))?;
        Ok(out)
    }

    fn compressible(seed: u8, len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| (i / 7) as u8 ^ seed.wrapping_mul((i / 100) as u8))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn bytes_and_back(seed: u8, len in 0..200_000_usize) {
            let plain = compressible(seed, len);
            for codec in Codec::ALL {
                let mut packed = Vec::new();
                compress(codec.into(), Framing::Standard, &plain, &mut packed).unwrap();
                prop_assert_eq!(unpack(codec, packed), Ok(plain.clone()), "{}", codec);
            }
        }

        #[test]
        fn damaged_bytes_never_panic(seed: u8, at: Index, byte: u8, cut: Index) {
            let plain = compressible(seed, 3000);
            for codec in Codec::ALL {
                let mut packed = Vec::new();
                compress(codec.into(), Framing::Standard, &plain, &mut packed).unwrap();
                let mut flipped = packed.clone();
                let at = at.index(flipped.len());
                flipped[at] ^= byte;
                let _ = unpack(codec, flipped);
                packed.truncate(cut.index(packed.len()));
                let _ = unpack(codec, packed);
            }
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            for codec in Codec::ALL {
                let _ = unpack(codec, bytes.clone());
            }
        }
    }

    #[test]
    fn every_level_at_the_edges_works() {
        let plain = compressible(3, 1000);
        for codec in Codec::ALL {
            let Some(levels) = codec.levels() else {
                continue;
            };
            for level in [*levels.start(), *levels.end()] {
                let mut packed = Vec::new();
                let compression = Compression::with_level(codec, level).unwrap();
                compress(compression, Framing::Standard, &plain, &mut packed).unwrap();
                assert_eq!(
                    unpack(codec, packed).as_ref(),
                    Ok(&plain),
                    "{codec} {level}"
                );
            }
        }
    }
}
