//! Any bytes as `.kafka_cleanshutdown`, and as the summary that goes with it.

#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let directory = common::directory_with(".kafka_cleanshutdown", bytes);
    assert!(
        directory.take_clean_shutdown().unwrap().is_some(),
        "the mark is there"
    );
    assert!(
        directory.take_clean_shutdown().unwrap().is_none(),
        "it counts once"
    );
    let directory = common::directory_with("tidelog.summary", bytes);
    directory.write_clean_shutdown(7, []).unwrap();
    let mark = directory.take_clean_shutdown().unwrap();
    assert_eq!(mark.map(|mark| mark.broker_epoch), Some(7));
});
