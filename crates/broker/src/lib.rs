//! A real, durable Kafka-compatible broker as a Rust value
