use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use flate2::{Compression, GzBuilder};

pub(super) fn compress(level: i32, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let level = u32::try_from(level).map_or_else(|_| Compression::default(), Compression::new);
    // "Unknown operating system", as newer Java versions write it.
    let mut stream = GzBuilder::new().operating_system(255).write(out, level);
    stream.write_all(input)?;
    stream.finish()?;
    Ok(())
}

/// Several members one after another are one stream, as RFC 1952 and Java have it.
pub(super) fn decompress(input: Bytes) -> impl Read + Send {
    MultiGzDecoder::new(input.reader())
}
