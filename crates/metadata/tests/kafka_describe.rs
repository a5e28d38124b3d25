//! DescribeConfigs beside what Apache Kafka 4.3.1 answered with the same `server.properties`, as its ConfigCommand printed it
//! (`--describe --all`). Its topic was created with `retention.ms=1000` and `cleanup.policy=compact,delete`.

use tidelog_metadata::configs::{
    BrokerConfig, ConfigEntry, ConfigMap, ConfigSource, broker_config, describe_broker,
    describe_topic,
};

fn broker() -> BrokerConfig {
    let text = include_str!("../testdata/kafka-4.3.1-server.properties");
    let (config, warnings) = BrokerConfig::parse(text).unwrap();
    assert_eq!(warnings, []);
    // What every cluster with eligible leader replicas begins with.
    let cluster = ConfigMap::from([("min.insync.replicas".into(), "1".into())]);
    config.with_dynamic(&cluster, &ConfigMap::new())
}

/// A line of ConfigCommand.
fn line(entry: &ConfigEntry) -> String {
    let or_null = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".into());
    let synonym = |synonym: &tidelog_metadata::configs::ConfigSynonym| {
        let source = match synonym.source {
            ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
            ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
            ConfigSource::Default => "DEFAULT_CONFIG",
            other => panic!("{other:?} is no source of a topic or a broker"),
        };
        format!("{source}:{}={}", synonym.name, or_null(&synonym.value))
    };
    let synonyms: Vec<String> = entry.synonyms.iter().map(synonym).collect();
    format!(
        "  {}={} sensitive={} synonyms={{{}}}",
        entry.name,
        or_null(&entry.value),
        entry.sensitive,
        synonyms.join(", ")
    )
}

fn key(line: &str) -> &str {
    line.trim().split('=').next().unwrap_or_default()
}

fn kafka(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("  "))
}

#[test]
fn a_topic_is_described_as_by_kafka() {
    let overrides = ConfigMap::from([
        ("retention.ms".into(), "1000".into()),
        ("cleanup.policy".into(), "compact,delete".into()),
    ]);
    let ours: Vec<String> = describe_topic(&overrides, &broker())
        .iter()
        .map(line)
        .filter(|line| !key(line).starts_with("tidelog."))
        .collect();
    let theirs: Vec<&str> =
        kafka(include_str!("../testdata/kafka-4.3.1-describe-topic.txt")).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn a_broker_is_described_as_by_kafka() {
    let entries = describe_broker(&broker());
    let ours = entries
        .iter()
        .map(line)
        .filter(|line| !key(line).starts_with("tidelog."));
    let theirs = kafka(include_str!("../testdata/kafka-4.3.1-describe-broker.txt"))
        .filter(|line| broker_config(key(line)).is_some());
    // Three keys that Kafka demands have defaults here, which Kafka cannot name as synonyms.
    let is_ours = |line: &str| {
        matches!(
            key(line),
            "process.roles" | "node.id" | "controller.listener.names"
        )
    };
    let ours: Vec<String> = ours.filter(|line| !is_ours(line)).collect();
    let theirs: Vec<&str> = theirs.filter(|line| !is_ours(line)).collect();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}
