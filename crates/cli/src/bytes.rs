//! Keys and values as text and as JSON.

use bytes::Bytes;
use serde_json::{Value, json};

/// The only field of an object that stands for bytes that are no text.
const HEX: &str = "hex";

/// Text as a string, nothing as null, and what is no text as `{"hex": "00ff"}`.
pub(crate) fn to_json(bytes: Option<&Bytes>) -> Value {
    let Some(bytes) = bytes else {
        return Value::Null;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            json!({ HEX: bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    }
}

/// What [`to_json`] wrote. Any other JSON stands for its own text.
pub(crate) fn from_json(value: &Value) -> Result<Option<Vec<u8>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone().into_bytes())),
        Value::Object(object) if object.len() == 1 && object.contains_key(HEX) => {
            let text = object[HEX].as_str().unwrap_or("?");
            from_hex(text).map(Some)
        }
        value => Ok(Some(value.to_string().into_bytes())),
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{text:?} is no hexadecimal number of whole bytes");
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for bytes in [&b""[..], b"text", b"\x00\xff", "ä".as_bytes()] {
            let json = to_json(Some(&Bytes::copy_from_slice(bytes)));
            assert_eq!(from_json(&json), Ok(Some(bytes.to_vec())), "{json}");
        }
        assert_eq!(from_json(&to_json(None)), Ok(None));
        assert_eq!(from_json(&json!({"a": 1})), Ok(Some(b"{\"a\":1}".to_vec())));
        assert!(from_json(&json!({"hex": "0g"})).is_err());
    }
}
