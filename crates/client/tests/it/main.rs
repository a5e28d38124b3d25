//! The client against a broker: an embedded one, or, with `TIDELOG_TEST_BOOTSTRAP=host:port`, whatever listens there. Tests that
//! restart their broker or set its properties pass over that one.

mod consumer;
mod errors;
mod faults;
mod group;
mod producer;
mod sasl;
mod server;
mod tls;
mod versions;
