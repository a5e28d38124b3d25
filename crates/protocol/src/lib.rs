//! The Kafka wire protocol: messages, headers, frames, in every version, byte for byte
