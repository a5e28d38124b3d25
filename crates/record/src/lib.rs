//! Kafka record batches: view, builder, validation, compression, control records
