//! What holds for a message of either direction.

use bytes::Bytes;
use tidelog_protocol::{APIS, ApiKey, Writer};

/// The API and the version that the first two bytes choose, and what is left.
pub fn split(bytes: &[u8]) -> Option<(ApiKey, i16, Bytes)> {
    let [key, version, body @ ..] = bytes else {
        return None;
    };
    let api = &APIS[usize::from(*key) % APIS.len()];
    let version = i16::from(*version) % (api.versions.max + 1);
    Some((api.key, version, Bytes::copy_from_slice(body)))
}

/// All that was written.
pub fn take(writer: &mut Writer) -> Bytes {
    writer.finish_contiguous().expect("it is all there")
}

/// What can be read can be written, shown, and read again, also by way of JSON.
#[macro_export]
macro_rules! recode {
    ($any:ident, $bytes:expr) => {{
        use tidelog_protocol::json::RecordsAs;
        use tidelog_protocol::{Reader, Writer};

        let Some((key, version, body)) = common::split($bytes) else {
            return;
        };
        let len = body.len();
        let message = match $any::read(&mut Reader::new(body), key, version) {
            Ok(message) => message,
            Err(error) => {
                assert!(!error.field().1.is_empty() && error.position() <= len, "{error}");
                return;
            }
        };
        assert!(message.to_string().len() < 1000);
        let mut writer = Writer::contiguous();
        message.write(&mut writer, version).expect("what was read can be written");
        let written = common::take(&mut writer);
        let again = $any::read(&mut Reader::new(written.clone()), key, version);
        let again = again.expect("what was written can be read");
        again.write(&mut writer, version).expect("and written again");
        assert_eq!(common::take(&mut writer), written);
        let json = message.to_json(version, RecordsAs::Base64).expect("it can be shown");
        let back = $any::from_json(&json, key, version).expect("and read from there");
        back.write(&mut writer, version).expect("and written");
        let by_way_of_json = common::take(&mut writer);
        // There are many NaNs, and JSON has one.
        if !json.to_string().contains("NaN") {
            assert_eq!(by_way_of_json, written);
        }
        let shown_again = back.to_json(version, RecordsAs::Base64).expect("it can be shown");
        assert_eq!(shown_again, json);
    }};
}
