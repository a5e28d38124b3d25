//! `docs/configuration.md` is written from the tables. `TIDELOG_BLESS=1` writes it anew.

use std::fmt::Write;
use std::path::Path;

use tidelog_metadata::configs::{
    ConfigDef, UpdateMode, Valid, broker_configs, dynamic_broker_configs, group_configs,
    topic_configs,
};

const INTRO: &str = "\
# Configuration

Written from the tables in `crates/metadata/src/configs`; to change this page, change them and run
`TIDELOG_BLESS=1 cargo test -p tidelog-metadata --test configuration_docs`.

Names, types, defaults and ranges are those of Apache Kafka 4.3.1, and a `server.properties` made for Kafka is taken as it is.
What is ours begins with `tidelog.`. Three keys that Kafka demands have defaults here, so that an empty file is a cluster of
one: `process.roles`, `node.id`, `controller.listener.names`. A key that is in no table is a warning.
";

fn valid(def: &ConfigDef) -> String {
    match def.valid {
        Valid::AtLeast(min) => format!("≥ {min}"),
        Valid::Between(min, max) => format!("{min} to {max}"),
        Valid::OneOf(values) | Valid::OneOfAnyCase(values) => values.join(", "),
        Valid::GzipLevel => "1 to 9, or -1".into(),
        Valid::ThrottledReplicas => "`*`, or `partition:broker`, ...".into(),
        Valid::ShareOffsetReset => "earliest, latest, by_duration:PnDTnHnMn.nS".into(),
        _ => String::new(),
    }
}

fn code(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("`{text}`")
    }
}

fn page() -> String {
    let mut page = INTRO.to_string();
    page.push_str(
        "\n## Topics\n\nOf a topic without a value of its own the broker config beside it counts, in the unit that is set.\n\n\
         | Config | Type | Default | Values | Broker config | |\n|---|---|---|---|---|---|\n",
    );
    row(&mut page, topic_configs(), |def| {
        code(def.synonym.unwrap_or_default())
    });
    page.push_str(
        "\n## Brokers\n\n*Changes*: `cluster` while the broker runs, for all brokers or for one; `broker` for one: in Kafka \
         while it runs, here at its start, `cordoned.log.dirs` apart; empty at its start.\n\n\
         | Config | Type | Default | Values | Changes | |\n|---|---|---|---|---|---|\n",
    );
    row(&mut page, broker_configs(), |def| match def.update_mode {
        UpdateMode::ClusterWide => "cluster".into(),
        UpdateMode::PerBroker => "broker".into(),
        _ => String::new(),
    });
    page.push_str(
        "\n### Only while a broker runs\n\nFor all brokers or for one; `server.properties` does not know these.\n\n\
         | Config | Type | Default | Values | Changes | |\n|---|---|---|---|---|---|\n",
    );
    row(&mut page, dynamic_broker_configs(), |_| "cluster".into());
    page.push_str(
        "\n## Groups\n\nOf a group without a value of its own the broker config counts.\n\n\
         | Config | Type | Default | Values | Broker config | |\n|---|---|---|---|---|---|\n",
    );
    row(&mut page, group_configs(), |def| {
        code(def.synonym.unwrap_or_default())
    });
    page
}

fn row(page: &mut String, table: &[ConfigDef], last: impl Fn(&ConfigDef) -> String) {
    for def in table {
        let kind = def.kind.to_string().to_lowercase();
        let default = code(def.default.unwrap_or_default());
        let (name, doc) = (def.name, def.doc);
        writeln!(
            page,
            "| `{name}` | {kind} | {default} | {} | {} | {doc} |",
            valid(def),
            last(def)
        )
        .expect("a String takes everything");
    }
}

#[test]
fn the_page_says_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = page();
    if std::env::var_os("TIDELOG_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/configuration.md is out of date; TIDELOG_BLESS=1 writes it anew"
    );
}
