//! CRC-32C (Castagnoli), the checksum of record batches. Not the CRC-32 of gzip, nor of message
//! formats v0 and v1.

/// The CRC-32C of `bytes`.
///
/// ```
/// assert_eq!(tidelog_record::crc::crc32c(b"123456789"), 0xe306_9283);
/// ```
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}
