//! Tests over all messages, one binary: against Kafka's bytes, damaged bytes, and random messages.

#[macro_use]
mod support;

mod hostile;
mod messages;
mod round_trip;
mod vectors;
