//! As much JSON as two small files of flat objects need.

/// The text of a field's value: a number as it stands, a string without its quotes. Escapes are not undone; no value
/// that is read this way has any.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let after = text.split_once(&format!("\"{name}\""))?.1.trim_start();
    let value = after.strip_prefix(':')?.trim_start();
    match value.strip_prefix('"') {
        Some(string) => string.split_once('"').map(|(value, _)| value),
        None => Some(value.split([',', '}', ']']).next()?.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_found_with_and_without_space() {
        let text = "{ \"a\" : \"x\",\"b\":-1 }";
        assert_eq!(field(text, "a"), Some("x"));
        assert_eq!(field(text, "b"), Some("-1"));
        assert_eq!(field(text, "c"), None);
        assert_eq!(field("{\"a\"", "a"), None);
    }
}
