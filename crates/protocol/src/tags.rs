use std::collections::VecDeque;

use bytes::Bytes;

/// The tagged fields of a message that this version does not know, aside from the message.
///
/// Nobody needs them, so by default they are dropped, and no struct carries a place for them.
/// Whoever must hand a message on unchanged reads it with
/// [`Reader::keep_unknown_tags`](crate::Reader::keep_unknown_tags) and writes it with
/// [`Writer::emit_unknown_tags`](crate::Writer::emit_unknown_tags). There is one entry for every
/// struct with tagged fields, in the order in which they are read; the message must not be changed
/// in between.
///
/// ```
/// use tidelog_protocol::messages::heartbeat::HeartbeatResponse;
/// use tidelog_protocol::{Message, Reader, Writer};
///
/// // No throttle time, no error, and a field with tag 9 that holds one byte.
/// let bytes = bytes::Bytes::from_static(&[0, 0, 0, 0, 0, 0, 1, 9, 1, 42]);
/// let mut reader = Reader::new(bytes.clone()).keep_unknown_tags();
/// let beat = HeartbeatResponse::read(&mut reader, 4)?;
/// let unknown = reader.take_unknown_tags();
/// assert!(!unknown.is_empty());
///
/// let mut writer = Writer::new().emit_unknown_tags(unknown);
/// beat.write(&mut writer, 4)?;
/// assert_eq!(writer.finish_contiguous()?, bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownTags {
    pub(crate) structs: VecDeque<Vec<(u32, Bytes)>>,
}

impl UnknownTags {
    /// Whether every tagged field was known.
    pub fn is_empty(&self) -> bool {
        self.structs.iter().all(Vec::is_empty)
    }
}
