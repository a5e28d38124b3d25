//! Tests over all messages: damaged bytes, random messages, and what the derive promises.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "JSON is for the tests against Kafka's bytes")]
mod support;

mod hostile;
mod messages;
mod round_trip;
