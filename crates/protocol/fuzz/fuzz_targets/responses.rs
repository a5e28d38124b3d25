//! Any bytes as a response: the key of the API and the version in the first two bytes, then the
//! message. What can be read can be written, shown, and read again, also by way of JSON.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidelog_protocol::json::RecordsAs;
use tidelog_protocol::{APIS, Reader, Response, Writer};

fuzz_target!(|bytes: &[u8]| {
    let [key, version, body @ ..] = bytes else {
        return;
    };
    let api = &APIS[usize::from(*key) % APIS.len()];
    let version = i16::from(*version) % (api.versions.max + 1);
    let mut reader = Reader::new(Bytes::copy_from_slice(body));
    let response = match Response::read(&mut reader, api.key, version) {
        Ok(response) => response,
        Err(error) => {
            assert!(!error.field().1.is_empty() && error.position() <= body.len(), "{error}");
            return;
        }
    };
    assert!(response.to_string().len() < 1000);
    let mut writer = Writer::contiguous();
    response.write(&mut writer, version).expect("what was read can be written");
    let written = writer.finish_contiguous().expect("it is all there");
    let again = Response::read(&mut Reader::new(written.clone()), api.key, version);
    let again = again.expect("what was written can be read");
    again.write(&mut writer, version).expect("and written again");
    assert_eq!(writer.finish_contiguous().expect("it is all there"), written);
    let json = response.to_json(version, RecordsAs::Base64).expect("it can be shown");
    let back = Response::from_json(&json, api.key, version).expect("and read from there");
    back.write(&mut writer, version).expect("and written");
    assert_eq!(writer.finish_contiguous().expect("it is all there"), written);
});
