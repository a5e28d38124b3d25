use std::io::{self, Read};

use bytes::{Buf, Bytes};

/// The largest window that is accepted: 128 MiB, what the highest level (22) writes and what
/// Kafka's clients accept. The memory is reserved, but only touched as far as data comes.
const WINDOW_LOG_MAX: u32 = 27;

pub(super) fn compress(level: i32, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.resize(start + zstd::zstd_safe::compress_bound(input.len()), 0);
    let len = zstd::bulk::compress_to_buffer(input, &mut out[start..], level)?;
    out.truncate(start + len);
    Ok(())
}

pub(super) fn decompress(input: Bytes) -> io::Result<impl Read + Send> {
    let mut stream = zstd::stream::read::Decoder::with_buffer(input.reader())?;
    stream.window_log_max(WINDOW_LOG_MAX)?;
    Ok(stream)
}
