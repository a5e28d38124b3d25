//! Derives the Kafka wire format of a message from its Rust struct
