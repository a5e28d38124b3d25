//! Every message in every version against bytes that Kafka's own classes wrote.
//!
//! `TIDELOG_VECTORS=DIR` runs the test over other vectors of the same layout.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;

use support::{assert_same, to_json, vectors};
use tidelog_protocol::{APIS, Message, Reader, Writer};

thread_local! {
    /// How many vectors of each message were checked.
    static CHECKED: RefCell<BTreeMap<&'static str, usize>> = const { RefCell::new(BTreeMap::new()) };
}

fn check<M: Message + std::fmt::Debug>(set: &str) {
    let vectors = vectors(set, M::NAME);
    for version in M::VERSIONS.iter() {
        assert!(
            vectors.iter().any(|v| v.version == version),
            "{} has no vector of version {version}",
            M::NAME
        );
    }
    for (i, vector) in vectors.iter().enumerate() {
        let place = format!("{} {} (vector {i})", M::NAME, vector.version);
        let mut reader = Reader::new(vector.bytes.clone()).keep_unknown_tags();
        let message =
            M::read(&mut reader, vector.version).unwrap_or_else(|e| panic!("{place}: {e}"));
        reader.finish().unwrap_or_else(|e| panic!("{place}: {e}"));

        let mut writer = Writer::new().emit_unknown_tags(reader.take_unknown_tags());
        message
            .write(&mut writer, vector.version)
            .unwrap_or_else(|e| panic!("{place}: {e}"));
        let written = writer.finish_contiguous().expect("nothing is deferred");
        assert_eq!(written, vector.bytes, "{place}: {message:?}");

        let json =
            to_json::<M>(&vector.bytes, vector.version).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_same(&json, &vector.json, &place);
    }
    CHECKED.with_borrow_mut(|checked| checked.insert(M::NAME, vectors.len()));
}

#[test]
fn every_message_is_read_and_written_as_kafka_does() {
    each_message!(check);
    CHECKED.with_borrow(|checked| {
        for api in APIS {
            for kind in ["Request", "Response"] {
                let name = format!("{}{kind}", api.name);
                assert!(checked.contains_key(name.as_str()), "{name} is not checked");
            }
        }
        let vectors: usize = checked.values().sum();
        #[allow(
            clippy::print_stdout,
            reason = "how much was checked is part of the test's answer"
        )]
        {
            println!("{} messages, {vectors} vectors", checked.len());
        }
    });
}
