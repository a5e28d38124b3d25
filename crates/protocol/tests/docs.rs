//! `docs/protocol.md` is written from the tables. `TIDELOG_BLESS=1` writes it anew.

use std::fmt::Write;
use std::path::Path;

use tidelog_protocol::{APIS, Listener, RETIRED};
use tidelog_types::ErrorCode;

const INTRO: &str = "\
# The protocol

Written from the tables in `crates/protocol/src/api.rs` and `crates/types/src/error_code.rs`; to change this page, change them
and run `TIDELOG_BLESS=1 cargo test -p tidelog-protocol --test docs`. `tidelog protocol` prints the same.

## APIs

*Versions*: every version that was ever released, and the unstable one, all of which the codec reads and writes. *Kafka 4.3.1*:
the versions that it understands; 4.0 dropped those before (KIP-896). *Advertised*: what it lists, where that differs.
*Unstable*: the version that may still change. *Flexible*: the versions with compact lengths and tagged fields (KIP-482).
*Headers*: their versions, request/response, before the flexible versions and from there on; responses of ApiVersions always
have 0, since who asks does not know yet what is understood. *Listeners*: whom one may ask. What a Tidelog broker serves is in
its ApiVersions response. Kafka 4.3.1 has no API with a key above 92; version 0 of the APIs 76 to 79, a preview, it has no more.

| Key | API | Versions | Kafka 4.3.1 | Advertised | Unstable | Flexible | Headers | Listeners |
|---|---|---|---|---|---|---|---|---|
";

fn page() -> String {
    let mut page = INTRO.to_owned();
    for api in APIS {
        let listeners: Vec<_> = api.listeners.iter().map(Listener::to_string).collect();
        let advertised = match api.advertised == api.supported {
            true => String::new(),
            false => api.advertised.to_string(),
        };
        let unstable = api.unstable().map(|version| version.to_string());
        let unstable = unstable.unwrap_or_default();
        writeln!(
            page,
            "| {} | {} | {} | {} | {advertised} | {unstable} | {} | {} | {} |",
            api.key.code(),
            api.name,
            api.versions,
            api.supported,
            api.flexible,
            api.headers(),
            listeners.join(", "),
        )
        .expect("a String takes everything");
    }
    let retired = RETIRED
        .iter()
        .map(|(key, name)| format!("{} {name}", key.code()));
    let retired: Vec<_> = retired.collect();
    writeln!(page, "\nRetired with ZooKeeper: {}.", retired.join(", "))
        .expect("a String takes everything");
    page.push_str("\n## Error codes\n\n| Code | Name | Retriable | |\n|---|---|---|---|\n");
    for error in ErrorCode::ALL {
        let retriable = if error.is_retriable() { "yes" } else { "" };
        let name = error.name().unwrap_or_default();
        let (code, text) = (error.code(), error.text());
        writeln!(page, "| {code} | {name} | {retriable} | {text} |")
            .expect("a String takes everything");
    }
    page
}

#[test]
fn the_page_says_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let page = page();
    if std::env::var_os("TIDELOG_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/protocol.md is out of date; TIDELOG_BLESS=1 writes it anew"
    );
}

/// The definitions are to be read by people: all messages and records of Kafka, without the tests below them, in fewer lines
/// than this.
#[test]
fn the_definitions_stay_short() {
    const LINES_MAX: usize = 8000;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lines = lines_below(&source.join("messages")) + lines_below(&source.join("records"));
    assert!((5000..LINES_MAX).contains(&lines), "{lines} lines");
}

fn lines_below(path: &Path) -> usize {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        return entries
            .map(|entry| lines_below(&entry.unwrap().path()))
            .sum();
    }
    let content = std::fs::read_to_string(path).unwrap();
    let is_definition = |line: &&str| *line != "#[cfg(test)]";
    content.lines().take_while(is_definition).count()
}
