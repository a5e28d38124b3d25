//! Random messages through this codec and through the crate kafka-protocol, both ways, in every
//! version that both know.

#[expect(dead_code, reason = "other tests read the vectors")]
mod support;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};
use tidelog_protocol::{APIS, Api};

use crate::support::random::{Numbers, message};
use crate::support::{Subject, subjects};

/// What the other codec says of a version that it does not have.
const NOT_KNOWN: &str = "not supported by this message type";

/// Reads the message with the other codec and writes it again.
fn theirs(api: &Api, name: &str, bytes: &Bytes, version: i16) -> Result<Bytes, String> {
    let key = TheirKey::try_from(api.key.code()).map_err(|()| NOT_KNOWN.to_owned())?;
    let (mut rest, mut written) = (bytes.clone(), BytesMut::new());
    let done = if name.ends_with("Request") {
        RequestKind::decode(key, &mut rest, version)
            .and_then(|request| request.encode(&mut written, version))
    } else {
        ResponseKind::decode(key, &mut rest, version)
            .and_then(|response| response.encode(&mut written, version))
    };
    done.map_err(|e| format!("{e:#}"))?;
    match rest.len() {
        0 => Ok(written.freeze()),
        left => Err(format!("{left} bytes are left")),
    }
}

/// Compares a random message in every version that both know; says where they differ.
fn compare(numbers: &mut Numbers, subject: &Subject, differences: &mut Vec<String>) -> usize {
    let stem = subject.name.trim_end_matches("Request");
    let stem = stem.trim_end_matches("Response");
    let Some(api) = APIS.iter().find(|api| api.name == stem) else {
        return 0;
    };
    let mut count = 0;
    for version in subject.versions.iter() {
        let place = format!("{} {version}", subject.name);
        // Written once by us, so that tagged fields with defaults are gone.
        let bytes = message(numbers, subject, version);
        let ours = subject.recode(&bytes, version).expect(&place);
        match theirs(api, &subject.name, &ours, version) {
            Ok(theirs) => match subject.recode(&theirs, version) {
                Ok(back) if back == ours => {}
                back => differences.push(format!("{place}: {ours:?}, theirs {theirs:?}, {back:?}")),
            },
            Err(error) if error.contains(NOT_KNOWN) => continue,
            Err(error) => differences.push(format!("{place}: {ours:?}, {error}")),
        }
        count += 1;
    }
    count
}

#[test]
fn both_codecs_say_the_same() {
    let mut differences = Vec::new();
    let subjects = subjects();
    for seed in 0..16 {
        let mut numbers = Numbers(seed);
        let compare = |subject| compare(&mut numbers, subject, &mut differences);
        let count: usize = subjects.iter().map(compare).sum();
        assert!(count > 500, "only {count} were compared");
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
