//! The variable-length integers inside records: seven bits a byte, the lowest first, the top bit
//! set on all but the last byte. Signed ones are zigzag-coded, so that small negative numbers stay
//! short.
//!
//! Reading is total: it takes at most 5 bytes for 32 bits and 10 bytes for 64 bits, and never
//! panics.
//!
//! ```
//! use tidelog_record::varint::{put_varint, take_varint, varint_len};
//!
//! let mut bytes = Vec::new();
//! put_varint(&mut bytes, -300);
//! assert_eq!(bytes.len(), varint_len(-300));
//! assert_eq!(take_varint(&mut &bytes[..]), Ok(-300));
//! ```

use bytes::BufMut;

/// The most bytes that 32 bits take.
pub const VARINT_LEN_MAX: usize = 5;
/// The most bytes that 64 bits take.
pub const VARLONG_LEN_MAX: usize = 10;

/// Why bytes are not a variable-length integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// The bytes end within the number.
    #[error("the bytes end within a variable-length integer")]
    Truncated,
    /// The number goes on after its 5th (or 10th) byte.
    #[error("a variable-length integer is too long")]
    TooLong,
}

/// Takes a zigzag-coded 32-bit number off the front of `bytes`.
#[inline]
pub fn take_varint(bytes: &mut &[u8]) -> Result<i32, VarintError> {
    take_uvarint(bytes).map(unzigzag32)
}

/// Takes a zigzag-coded 64-bit number off the front of `bytes`.
#[inline]
pub fn take_varlong(bytes: &mut &[u8]) -> Result<i64, VarintError> {
    take_uvarlong(bytes).map(unzigzag64)
}

/// Takes an unsigned 32-bit number off the front of `bytes`.
#[inline]
pub fn take_uvarint(bytes: &mut &[u8]) -> Result<u32, VarintError> {
    // Lengths and deltas of most records fit into one or two bytes.
    match **bytes {
        [a, ref rest @ ..] if a < 0x80 => {
            *bytes = rest;
            Ok(u32::from(a))
        }
        [a, b, ref rest @ ..] if b < 0x80 => {
            *bytes = rest;
            Ok(u32::from(a & 0x7f) | u32::from(b) << 7)
        }
        _ => take_long(bytes, VARINT_LEN_MAX).map(|value| value as u32),
    }
}

/// Takes an unsigned 64-bit number off the front of `bytes`.
#[inline]
pub fn take_uvarlong(bytes: &mut &[u8]) -> Result<u64, VarintError> {
    match **bytes {
        [a, ref rest @ ..] if a < 0x80 => {
            *bytes = rest;
            Ok(u64::from(a))
        }
        _ => take_long(bytes, VARLONG_LEN_MAX),
    }
}

/// Bits beyond the width of the number are dropped, as Kafka drops them.
fn take_long(bytes: &mut &[u8], len_max: usize) -> Result<u64, VarintError> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(len_max).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Ok(value);
        }
    }
    Err(if bytes.len() < len_max {
        VarintError::Truncated
    } else {
        VarintError::TooLong
    })
}

/// Appends `value`, zigzag-coded.
pub fn put_varint(out: &mut impl BufMut, value: i32) {
    put_uvarint(out, zigzag32(value));
}

/// Appends `value`, zigzag-coded.
pub fn put_varlong(out: &mut impl BufMut, value: i64) {
    put_uvarlong(out, zigzag64(value));
}

/// Appends `value`.
pub fn put_uvarint(out: &mut impl BufMut, value: u32) {
    put_uvarlong(out, u64::from(value));
}

/// Appends `value`.
pub fn put_uvarlong(out: &mut impl BufMut, value: u64) {
    let mut digits = [0_u8; VARLONG_LEN_MAX];
    let len = write_uvarlong(&mut digits, 0, value);
    out.put_slice(&digits[..len]);
}

/// Writes `value` at `at` in `out` and gives where it ends.
///
/// # Panics
/// If `out` ends before that.
#[inline(always)]
pub(crate) fn write_uvarlong(out: &mut [u8], mut at: usize, mut value: u64) -> usize {
    while value >= 0x80 {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}

/// How many bytes `value` takes, zigzag-coded.
#[inline]
pub const fn varint_len(value: i32) -> usize {
    uvarlong_len(zigzag32(value) as u64)
}

/// How many bytes `value` takes, zigzag-coded.
#[inline]
pub const fn varlong_len(value: i64) -> usize {
    uvarlong_len(zigzag64(value))
}

/// How many bytes `value` takes.
#[inline]
pub const fn uvarint_len(value: u32) -> usize {
    uvarlong_len(value as u64)
}

/// How many bytes `value` takes.
#[inline]
pub const fn uvarlong_len(value: u64) -> usize {
    // Seven bits a byte: 1 + floor(bits / 7) without a division, right for every width up to 64.
    let bits = 63 - (value | 1).leading_zeros();
    ((bits * 9 + 73) / 64) as usize
}

#[inline]
pub(crate) const fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[inline]
pub(crate) const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

const fn unzigzag64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_kafkas_bytes() {
        let cases: [(i64, &[u8]); 8] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(out, expected, "{value}");
            assert_eq!(varlong_len(value), expected.len(), "{value}");
        }
    }

    #[test]
    fn a_number_that_does_not_end_is_refused() {
        assert_eq!(
            take_varint(&mut &[0x80_u8; 4][..]),
            Err(VarintError::Truncated)
        );
        assert_eq!(
            take_varint(&mut &[0x80_u8; 5][..]),
            Err(VarintError::TooLong)
        );
        assert_eq!(
            take_varlong(&mut &[0x80_u8; 9][..]),
            Err(VarintError::Truncated)
        );
        assert_eq!(
            take_varlong(&mut &[0x80_u8; 10][..]),
            Err(VarintError::TooLong)
        );
        assert_eq!(take_varint(&mut &[][..]), Err(VarintError::Truncated));
    }

    proptest! {
        #[test]
        fn numbers_and_back(short: i32, long: i64, shift in 0..64) {
            let (short, long) = (short >> (shift / 2), long >> shift);
            let mut out = Vec::new();
            put_varint(&mut out, short);
            prop_assert_eq!(out.len(), varint_len(short));
            put_varlong(&mut out, long);
            put_uvarint(&mut out, short as u32);
            put_uvarlong(&mut out, long as u64);
            let mut rest = &out[..];
            prop_assert_eq!(take_varint(&mut rest), Ok(short));
            prop_assert_eq!(take_varlong(&mut rest), Ok(long));
            prop_assert_eq!(rest.len(), uvarint_len(short as u32) + uvarlong_len(long as u64));
            prop_assert_eq!(take_uvarint(&mut rest), Ok(short as u32));
            prop_assert_eq!(take_uvarlong(&mut rest), Ok(long as u64));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut rest = &bytes[..];
            if take_varint(&mut rest).is_ok() {
                prop_assert!(bytes.len() - rest.len() <= VARINT_LEN_MAX);
            }
            let mut rest = &bytes[..];
            if take_varlong(&mut rest).is_ok() {
                prop_assert!(bytes.len() - rest.len() <= VARLONG_LEN_MAX);
            }
        }
    }
}
