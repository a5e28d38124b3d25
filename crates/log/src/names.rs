//! The names of the files of a partition.

use tidelog_types::Offset;

pub(crate) const LOG: &str = "log";
pub(crate) const OFFSET_INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const TXN_INDEX: &str = "txnindex";
pub(crate) const SNAPSHOT: &str = "snapshot";
pub(crate) const EPOCHS: &str = "leader-epoch-checkpoint";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";

/// The files that belong to one segment.
pub(crate) const OF_SEGMENT: [&str; 4] = [LOG, OFFSET_INDEX, TIME_INDEX, TXN_INDEX];

/// The file of batches that begins at `base_offset`.
pub(crate) fn segment(base_offset: Offset) -> String {
    of_segment(base_offset, LOG)
}

/// A file that belongs to an offset: 20 digits and what it is.
pub(crate) fn of_segment(offset: Offset, suffix: &str) -> String {
    format!("{:020}.{suffix}", offset.value())
}

/// The offset and the rest of a name such as [`of_segment`] makes.
pub(crate) fn parse(name: &str) -> Option<(Offset, &str)> {
    let (digits, suffix) = name.split_once('.')?;
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| digits.parse().ok())
        .flatten()
        .map(|offset| (Offset::new(offset), suffix))
}
