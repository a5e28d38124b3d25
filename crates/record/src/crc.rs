//! The checksums of record batches: CRC-32C (Castagnoli) since message format v2, CRC-32 (the one of
//! gzip) before.

use crate::BatchError;

/// Compares the checksum that stands in a batch with that of its bytes.
pub(crate) const fn check(stored: u32, computed: u32) -> Result<(), BatchError> {
    if stored == computed {
        Ok(())
    } else {
        Err(BatchError::CrcMismatch { stored, computed })
    }
}

/// The CRC-32C of `bytes`.
///
/// ```
/// assert_eq!(tidelog_record::crc::crc32c(b"123456789"), 0xe306_9283);
/// ```
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32 of `bytes`, for message formats v0 and v1.
///
/// ```
/// assert_eq!(tidelog_record::crc::crc32(b"123456789"), 0xcbf4_3926);
/// ```
pub fn crc32(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iso_hdlc(bytes)
}
