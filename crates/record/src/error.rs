use tidelog_types::ErrorCode;

use crate::Codec;
use crate::varint::VarintError;

/// Why bytes are not a record batch, or its records cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the header of a batch, or than the batch declares.
    #[error("a batch needs {needed} bytes, there are {available}")]
    Truncated {
        /// The size of the batch, or of its header.
        needed: usize,
        /// The bytes that are there.
        available: usize,
    },
    /// The batch declares a length that no batch can have.
    #[error("a batch cannot have the length {batch_length}")]
    InvalidLength {
        /// The length field of the batch.
        batch_length: i32,
    },
    /// The batch is in message format v0 or v1, which was written before Kafka 0.11, where one of
    /// v2 is expected. See [`legacy`](crate::legacy).
    #[error("the batch is in message format v{magic}, expected v2")]
    OldMagic {
        /// 0 or 1.
        magic: i8,
    },
    /// The batch is in a format that does not exist.
    #[error("there is no message format v{magic}")]
    UnknownMagic {
        /// The magic byte of the batch.
        magic: i8,
    },
    /// Bytes follow where a single batch was expected.
    #[error("{extra} bytes follow the batch, expected exactly one batch")]
    MoreThanOneBatch {
        /// How many bytes follow.
        extra: usize,
    },
    /// The checksum does not fit the bytes.
    #[error("the batch is damaged: its CRC is {stored:08x}, its bytes have {computed:08x}")]
    CrcMismatch {
        /// What the header says.
        stored: u32,
        /// What the bytes have.
        computed: u32,
    },
    /// The offsets of the batch are negative, run backwards or overflow, or its count is negative.
    #[error("base offset {base_offset} and delta {last_offset_delta} are no range of offsets")]
    InvalidOffsets {
        /// The first offset.
        base_offset: i64,
        /// The distance of the last one.
        last_offset_delta: i32,
    },
    /// The batch names a codec that does not exist.
    #[error("there is no compression codec {id}")]
    UnknownCodec {
        /// Bits 0-2 of the attributes.
        id: u8,
    },
    /// The codec was left out when this program was built.
    #[error("this program was built without {codec}")]
    CodecDisabled {
        /// The codec.
        codec: Codec,
    },
    /// The codec came after the message format.
    #[error("message format v{magic} does not have {codec}")]
    CodecNotInFormat {
        /// The codec.
        codec: Codec,
        /// 0 or 1.
        magic: i8,
    },
    /// The wrapper message of format v0 or v1 has no messages in it.
    #[error("a wrapper message without messages in it")]
    EmptyWrapper,
    /// The offsets in a wrapper message of format v1 go beyond that of the wrapper.
    #[error("a wrapper message of offset {offset} cannot end with the relative offset {last}")]
    InvalidWrapperOffset {
        /// The offset of the wrapper.
        offset: i64,
        /// The offset of the last message in it.
        last: i64,
    },
    /// The offset of a record does not lie behind the one before, or too far, for a batch to hold
    /// both.
    #[error("a record of offset {offset} cannot follow one of offset {previous} in a batch")]
    UnorderedOffsets {
        /// The offset that is in front.
        previous: i64,
        /// The offset that should follow.
        offset: i64,
    },
    /// The compressed bytes are damaged.
    #[error("the {codec} data is damaged: {reason}")]
    Decompress {
        /// The codec.
        codec: Codec,
        /// The codec's own words.
        reason: String,
    },
    /// The bytes cannot be compressed.
    #[error("{codec} failed to compress: {reason}")]
    Compress {
        /// The codec.
        codec: Codec,
        /// The codec's own words.
        reason: String,
    },
    /// A record is malformed.
    #[error("record {index} of the batch: {source}")]
    Record {
        /// Which record, from 0.
        index: i32,
        /// What is wrong with it.
        source: RecordError,
    },
    /// Bytes are left over after the last record.
    #[error("bytes are left over after the {records_count} records of the batch")]
    BytesLeftOver {
        /// How many records the header declares.
        records_count: i32,
    },
    /// The header declares a negative number of records.
    #[error("a batch cannot have {records_count} records")]
    InvalidCount {
        /// How many records the header declares.
        records_count: i32,
    },
    /// Decompressing would go beyond a limit of [`Limits`](crate::Limits).
    #[error("decompressed, the {what} is larger than {limit} bytes")]
    LimitExceeded {
        /// "batch" or "record".
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The batch would be larger than 2 GiB.
    #[error("a batch of {size} bytes is larger than the format allows")]
    TooLarge {
        /// Its size.
        size: usize,
    },
}

/// What is wrong with the bytes of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A number in the record is malformed.
    #[error(transparent)]
    Varint(#[from] VarintError),
    /// The record is longer than what is left of the batch, or a part of it is longer than the
    /// record.
    #[error("a length of {length} where {available} bytes are left")]
    Length {
        /// The declared length.
        length: i32,
        /// What is left.
        available: usize,
    },
    /// The record ends before its fields do.
    #[error("the bytes end within the record")]
    Truncated,
    /// Bytes are left over after the fields of the record.
    #[error("{extra} bytes are left over after the fields of the record")]
    BytesLeftOver {
        /// How many.
        extra: usize,
    },
    /// The number of headers is negative, or more than the record has bytes for.
    #[error("a record of this size cannot have {count} headers")]
    HeaderCount {
        /// The declared number.
        count: i32,
    },
    /// A header without key.
    #[error("a header without key")]
    HeaderKey,
    /// The message is in a wrapper of format v0 or v1, but not itself of one of them.
    #[error("a message of format v{magic} in a wrapper message of an older one")]
    Magic {
        /// The magic byte.
        magic: i8,
    },
    /// The checksum of a message in a wrapper does not fit its bytes.
    #[error("its CRC is {stored:08x}, its bytes have {computed:08x}")]
    Crc {
        /// What the message says.
        stored: u32,
        /// What its bytes have.
        computed: u32,
    },
    /// A wrapper message in a wrapper message.
    #[error("wrapper messages do not nest")]
    NestedWrapper,
    /// A control record whose key or value is too short, or has a negative version.
    #[error("the key or value of a control record is malformed")]
    Control,
}

impl BatchError {
    /// What a broker answers to a producer that sent such a batch.
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. }
            | Self::InvalidLength { .. }
            | Self::UnknownMagic { .. }
            | Self::CrcMismatch { .. } => ErrorCode::CORRUPT_MESSAGE,
            Self::UnknownCodec { .. }
            | Self::CodecDisabled { .. }
            | Self::CodecNotInFormat { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            // A producer takes this one as a reason to split the batch.
            Self::LimitExceeded { .. } | Self::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            Self::Compress { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
            // The CRC was right, so sending the same batch again would not help.
            Self::Decompress { .. }
            | Self::OldMagic { .. }
            | Self::MoreThanOneBatch { .. }
            | Self::EmptyWrapper
            | Self::InvalidWrapperOffset { .. }
            | Self::UnorderedOffsets { .. }
            | Self::InvalidOffsets { .. }
            | Self::Record { .. }
            | Self::BytesLeftOver { .. }
            | Self::InvalidCount { .. } => ErrorCode::INVALID_RECORD,
        }
    }
}
