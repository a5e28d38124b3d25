//! The tables beside the declarations of Apache Kafka 4.3.1 (testdata/kafka-4.3.1-configs.tsv).

use tidelog_metadata::configs::{
    ConfigDef, UpdateMode, broker_configs, group_configs, topic_configs,
};

const DECLARED: &str = include_str!("../testdata/kafka-4.3.1-configs.tsv");

/// Keys for which an empty `server.properties` means a cluster of one here, and nothing in Kafka.
const OURS: [&str; 3] = ["process.roles", "node.id", "controller.listener.names"];

struct Declared {
    kind: String,
    default: Option<String>,
    update_mode: String,
}

fn declared(resource: &str, name: &str) -> Option<Declared> {
    let line = DECLARED.lines().find(|line| {
        let mut columns = line.split('\t');
        columns.next() == Some(resource) && columns.next() == Some(name)
    })?;
    let columns: Vec<&str> = line.split('\t').collect();
    let default = columns[3]
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''));
    let update_mode = columns.get(5).copied().unwrap_or_default().into();
    Some(Declared {
        kind: columns[2].into(),
        default: default.map(Into::into),
        update_mode,
    })
}

fn compare(resource: &str, table: &[ConfigDef]) {
    for def in table.iter().filter(|def| !def.name.starts_with("tidelog.")) {
        let Some(kafka) = declared(resource, def.name) else {
            panic!("Kafka has no {resource} config {}", def.name);
        };
        assert_eq!(def.kind.to_string(), kafka.kind, "{}", def.name);
        if !OURS.contains(&def.name) {
            assert_eq!(def.default, kafka.default.as_deref(), "{}", def.name);
        }
        if resource == "broker" {
            let mode = match def.update_mode {
                UpdateMode::ClusterWide => "cluster-wide",
                UpdateMode::PerBroker => "per-broker",
                _ => "read-only",
            };
            assert_eq!(mode, kafka.update_mode, "{}", def.name);
        }
    }
}

#[test]
fn types_defaults_and_update_modes_are_kafkas() {
    compare("broker", broker_configs());
    compare("topic", topic_configs());
    compare("group", group_configs());
}

#[test]
fn no_topic_or_group_config_is_missing() {
    for line in DECLARED.lines() {
        let mut columns = line.split('\t');
        let (resource, name) = (columns.next().unwrap(), columns.next().unwrap_or_default());
        let table = match resource {
            "topic" => topic_configs(),
            "group" => group_configs(),
            _ => continue,
        };
        assert!(
            table.iter().any(|def| def.name == name),
            "{resource} config {name}"
        );
    }
}

#[test]
fn defaults_satisfy_their_own_rules() {
    for def in [broker_configs(), topic_configs(), group_configs()].concat() {
        if let Some(default) = def.default {
            def.parse(default).unwrap();
        }
    }
}
