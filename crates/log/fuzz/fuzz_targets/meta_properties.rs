//! Any bytes as `meta.properties`: what is read is written and read again.

#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let directory = common::directory_with("meta.properties", bytes);
    if let Ok(Some(properties)) = directory.meta_properties() {
        directory.write_meta_properties(&properties).unwrap();
        assert_eq!(directory.meta_properties().unwrap(), Some(properties));
    }
});
