//! Frames: every request and response has its length before it, in four bytes.

use bytes::{Bytes, BytesMut};

/// The length of a frame's length.
const PREFIX_LEN: usize = 4;
/// How many bytes are reserved at least for a frame that has not arrived yet.
const STEP_MIN: usize = 16 * 1024;

/// A length that no frame may have. The connection is beyond rescue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is negative.
    #[error("a frame of {length} bytes")]
    Negative {
        /// The length that was read.
        length: i32,
    },
    /// The frame is larger than allowed (`socket.request.max.bytes`).
    #[error("a frame of {length} bytes, where {max} are allowed")]
    TooLarge {
        /// The length that was read.
        length: usize,
        /// The allowed length.
        max: usize,
    },
}

/// Takes the next whole frame off the front of `buf`, without its length; `None` if more bytes must
/// arrive first.
///
/// The frame is a slice of the buffer. Room for a frame that is still arriving grows with what has
/// arrived: never more than as much again is reserved, whatever the length promises.
///
/// ```
/// use bytes::BytesMut;
/// use tidelog_protocol::frame::next_frame;
///
/// let mut buf = BytesMut::from(&[0, 0, 0, 2, b'a', b'b', 0, 0][..]);
/// assert_eq!(next_frame(&mut buf, 100)?.as_deref(), Some(&b"ab"[..]));
/// assert_eq!(next_frame(&mut buf, 100)?, None);
/// # Ok::<(), tidelog_protocol::frame::FrameError>(())
/// ```
pub fn next_frame(buf: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = buf.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*prefix);
    let Ok(length) = usize::try_from(length) else {
        return Err(FrameError::Negative { length });
    };
    if length > max {
        return Err(FrameError::TooLarge { length, max });
    }
    let missing = (PREFIX_LEN + length).saturating_sub(buf.len());
    if missing > 0 {
        buf.reserve(missing.min(buf.len().max(STEP_MIN)));
        return Ok(None);
    }
    let frame = buf.split_to(PREFIX_LEN + length).freeze();
    Ok(Some(frame.slice(PREFIX_LEN..)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let next = |prefix: i32| next_frame(&mut BytesMut::from(&prefix.to_be_bytes()[..]), 1000);
        assert_eq!(next(-1), Err(FrameError::Negative { length: -1 }));
        assert_eq!(
            next(1001),
            Err(FrameError::TooLarge {
                length: 1001,
                max: 1000
            })
        );
        assert_eq!(next(1000), Ok(None));
        assert_eq!(next(0), Ok(Some(Bytes::new())));
    }

    #[test]
    fn a_promise_reserves_no_more_than_a_step() {
        let mut buf = BytesMut::from(&100_000_000_i32.to_be_bytes()[..]);
        assert_eq!(next_frame(&mut buf, usize::MAX), Ok(None));
        assert!(buf.capacity() <= 2 * STEP_MIN, "{}", buf.capacity());
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..10),
            step in 1_usize..40,
        ) {
            let mut stream = Vec::new();
            for frame in &frames {
                stream.extend_from_slice(&(frame.len() as u32).to_be_bytes());
                stream.extend_from_slice(frame);
            }
            let mut buf = BytesMut::new();
            let mut seen = Vec::new();
            for piece in stream.chunks(step) {
                buf.extend_from_slice(piece);
                while let Some(frame) = next_frame(&mut buf, 100).unwrap() {
                    seen.push(frame.to_vec());
                }
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(buf.is_empty());
        }
    }
}
