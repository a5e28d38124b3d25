//! Any bytes as a response: the key of the API and the version in the first two bytes, then the
//! message. What can be read can be written, shown, and read again, also by way of JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidelog_protocol::Response;

mod common;

fuzz_target!(|bytes: &[u8]| recode!(Response, bytes));
