//! Any bytes as a request: the key of the API and the version in the first two bytes, then the
//! message. What can be read can be written, shown, and read again, also by way of JSON.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidelog_protocol::json::RecordsAs;
use tidelog_protocol::{APIS, Reader, Request, Writer};

fuzz_target!(|bytes: &[u8]| {
    let [key, version, body @ ..] = bytes else {
        return;
    };
    let api = &APIS[usize::from(*key) % APIS.len()];
    let version = i16::from(*version) % (api.versions.max + 1);
    let mut reader = Reader::new(Bytes::copy_from_slice(body));
    let request = match Request::read(&mut reader, api.key, version) {
        Ok(request) => request,
        Err(error) => {
            assert!(!error.field().1.is_empty() && error.position() <= body.len(), "{error}");
            return;
        }
    };
    assert!(request.to_string().len() < 1000);
    let mut writer = Writer::contiguous();
    request.write(&mut writer, version).expect("what was read can be written");
    let written = writer.finish_contiguous().expect("it is all there");
    let again = Request::read(&mut Reader::new(written.clone()), api.key, version);
    let again = again.expect("what was written can be read");
    again.write(&mut writer, version).expect("and written again");
    assert_eq!(writer.finish_contiguous().expect("it is all there"), written);
    let json = request.to_json(version, RecordsAs::Base64).expect("it can be shown");
    let back = Request::from_json(&json, api.key, version).expect("and read from there");
    back.write(&mut writer, version).expect("and written");
    assert_eq!(writer.finish_contiguous().expect("it is all there"), written);
});
