use crate::configs::ConfigMap;
use crate::configs::broker::BrokerConfig;
use crate::configs::def::{ConfigDef, ConfigError, Valid, boolean, int, string};
use crate::configs::value::Value;

#[rustfmt::skip]
static TABLE: &[ConfigDef] = &[
    int("consumer.assignment.interval.ms").default("1000").at_least(0).defaults_to("group.consumer.assignment.interval.ms")
        .doc("Time between two assignments of the group."),
    int("consumer.heartbeat.interval.ms").default("5000").at_least(1).defaults_to("group.consumer.heartbeat.interval.ms")
        .doc("Heartbeat interval that members are told."),
    int("consumer.session.timeout.ms").default("45000").at_least(1).defaults_to("group.consumer.session.timeout.ms")
        .doc("A member that sends no heartbeat for this long is removed."),
    int("share.assignment.interval.ms").default("1000").at_least(0).defaults_to("group.share.assignment.interval.ms")
        .doc("Time between two assignments of the share group."),
    string("share.auto.offset.reset").default("latest").valid(Valid::ShareOffsetReset)
        .doc("Where a share group begins: `earliest`, `latest`, or `by_duration:` and how far back."),
    int("share.delivery.count.limit").default("5").at_least(2).defaults_to("group.share.delivery.count.limit")
        .doc("How often a record is delivered before it counts as undeliverable."),
    int("share.heartbeat.interval.ms").default("5000").at_least(1).defaults_to("group.share.heartbeat.interval.ms")
        .doc("Heartbeat interval that members of the share group are told."),
    string("share.isolation.level").default("read_uncommitted").one_of(&["read_committed", "read_uncommitted"])
        .doc("Whether records of open and aborted transactions are delivered."),
    int("share.partition.max.record.locks").default("2000").at_least(100).defaults_to("group.share.partition.max.record.locks")
        .doc("Records of one partition that may be in flight."),
    int("share.record.lock.duration.ms").default("30000").at_least(1000).defaults_to("group.share.record.lock.duration.ms")
        .doc("How long a consumer holds a record."),
    boolean("share.renew.acknowledge.enable").default("true")
        .doc("Whether consumers may ask to hold a record for longer."),
    int("share.session.timeout.ms").default("45000").at_least(1).defaults_to("group.share.session.timeout.ms")
        .doc("A member of the share group that sends no heartbeat for this long is removed."),
    int("streams.assignment.interval.ms").default("1000").at_least(0).defaults_to("group.streams.assignment.interval.ms")
        .doc("Time between two assignments of the streams group."),
    int("streams.heartbeat.interval.ms").default("5000").at_least(1).defaults_to("group.streams.heartbeat.interval.ms")
        .doc("Heartbeat interval that members of the streams group are told."),
    int("streams.initial.rebalance.delay.ms").default("3000").at_least(0).defaults_to("group.streams.initial.rebalance.delay.ms")
        .doc("How long a new streams group waits for more members before its first assignment."),
    int("streams.num.standby.replicas").default("0").at_least(0).defaults_to("group.streams.num.standby.replicas")
        .doc("Standby copies of each task."),
    int("streams.session.timeout.ms").default("45000").at_least(1).defaults_to("group.streams.session.timeout.ms")
        .doc("A member of the streams group that sends no heartbeat for this long is removed."),
];

/// The broker configs that bound a group config: the smallest and the largest value.
#[rustfmt::skip]
const BOUNDS: &[(&str, Option<&str>, Option<&str>)] = &[
    ("consumer.assignment.interval.ms", Some("group.consumer.min.assignment.interval.ms"), Some("group.consumer.max.assignment.interval.ms")),
    ("consumer.heartbeat.interval.ms", Some("group.consumer.min.heartbeat.interval.ms"), Some("group.consumer.max.heartbeat.interval.ms")),
    ("consumer.session.timeout.ms", Some("group.consumer.min.session.timeout.ms"), Some("group.consumer.max.session.timeout.ms")),
    ("share.assignment.interval.ms", Some("group.share.min.assignment.interval.ms"), Some("group.share.max.assignment.interval.ms")),
    ("share.delivery.count.limit", Some("group.share.min.delivery.count.limit"), Some("group.share.max.delivery.count.limit")),
    ("share.heartbeat.interval.ms", Some("group.share.min.heartbeat.interval.ms"), Some("group.share.max.heartbeat.interval.ms")),
    ("share.partition.max.record.locks", Some("group.share.min.partition.max.record.locks"), Some("group.share.max.partition.max.record.locks")),
    ("share.record.lock.duration.ms", Some("group.share.min.record.lock.duration.ms"), Some("group.share.max.record.lock.duration.ms")),
    ("share.session.timeout.ms", Some("group.share.min.session.timeout.ms"), Some("group.share.max.session.timeout.ms")),
    ("streams.assignment.interval.ms", Some("group.streams.min.assignment.interval.ms"), Some("group.streams.max.assignment.interval.ms")),
    ("streams.heartbeat.interval.ms", Some("group.streams.min.heartbeat.interval.ms"), Some("group.streams.max.heartbeat.interval.ms")),
    ("streams.num.standby.replicas", None, Some("group.streams.max.standby.replicas")),
    ("streams.session.timeout.ms", Some("group.streams.min.session.timeout.ms"), Some("group.streams.max.session.timeout.ms")),
];

/// Every group config, by name.
pub fn group_configs() -> &'static [ConfigDef] {
    TABLE
}

/// The group config of that name.
pub fn group_config(name: &str) -> Option<&'static ConfigDef> {
    TABLE
        .binary_search_by(|def| def.name.cmp(name))
        .ok()
        .map(|i| &TABLE[i])
}

/// The value of a group config that counts: the group's own, else the broker's, else the default.
pub(crate) fn effective(def: &ConfigDef, overrides: &ConfigMap, broker: &BrokerConfig) -> Value {
    let own = overrides
        .get(def.name)
        .and_then(|text| def.parse(text).ok());
    let inherited = || {
        def.synonym
            .and_then(|synonym| broker.value(synonym))
            .cloned()
    };
    own.or_else(inherited)
        .unwrap_or_else(|| def.default_value())
}

/// The number that a group has set for itself, brought within the bounds that the broker has by now; `None` if it has set
/// none, and the broker's own counts.
pub fn group_override(name: &str, overrides: &ConfigMap, broker: &BrokerConfig) -> Option<i32> {
    let Value::Int(number) = group_config(name)?.parse(overrides.get(name)?).ok()? else {
        return None;
    };
    let bound = |bound: Option<&str>, otherwise| match bound.and_then(|name| broker.value(name)) {
        Some(Value::Int(bound)) => *bound,
        _ => otherwise,
    };
    let (_, min, max) = BOUNDS.iter().find(|(bounded, ..)| *bounded == name)?;
    let (min, max) = (bound(*min, i64::MIN), bound(*max, i64::MAX));
    i32::try_from(number.min(max).max(min)).ok()
}

/// Whether a group may have these overrides.
pub(crate) fn validate_group_configs(
    overrides: &ConfigMap,
    broker: &BrokerConfig,
) -> Result<(), ConfigError> {
    for (name, text) in overrides {
        let Some(def) = group_config(name) else {
            return Err(ConfigError::Conflict(format!(
                "Unknown group config name: {name}"
            )));
        };
        def.parse(text)?;
    }
    let number = |name: &str| match group_config(name) {
        Some(def) => match effective(def, overrides, broker) {
            Value::Int(n) => n,
            _ => 0,
        },
        None => 0,
    };
    let bound = |name: &str| match broker.value(name) {
        Some(Value::Int(n)) => *n,
        _ => 0,
    };
    for (name, min, max) in BOUNDS
        .iter()
        .filter(|(name, ..)| overrides.contains_key(*name))
    {
        if let Some(min) = min.filter(|min| number(name) < bound(min)) {
            let text = format!("{name} must be greater than or equal to {min}");
            return Err(ConfigError::Conflict(text));
        }
        if let Some(max) = max.filter(|max| number(name) > bound(max)) {
            let text = format!("{name} must be less than or equal to {max}");
            return Err(ConfigError::Conflict(text));
        }
    }
    for kind in ["consumer", "share", "streams"] {
        let session = format!("{kind}.session.timeout.ms");
        let heartbeat = format!("{kind}.heartbeat.interval.ms");
        if number(&session) <= number(&heartbeat) {
            let text = format!("{session} must be greater than {heartbeat}");
            return Err(ConfigError::Conflict(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_bounds_exist() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        let broker = BrokerConfig::default();
        for (name, min, max) in BOUNDS {
            assert!(group_config(name).is_some(), "{name}");
            for bound in [min, max].into_iter().flatten() {
                assert!(
                    matches!(broker.value(bound), Some(Value::Int(_))),
                    "{bound}"
                );
            }
        }
        let synonyms = TABLE.iter().filter_map(|def| def.synonym);
        assert!(
            synonyms
                .into_iter()
                .all(|synonym| broker.value(synonym).is_some())
        );
    }

    #[test]
    fn values_lie_inside_the_brokers_bounds() {
        let check = |name: &str, value: &str| {
            let overrides = ConfigMap::from([(name.into(), value.into())]);
            let checked = validate_group_configs(&overrides, &BrokerConfig::default());
            checked.map_err(|e| e.to_string())
        };
        assert_eq!(check("consumer.session.timeout.ms", "50000"), Ok(()));
        assert_eq!(
            check("consumer.session.timeout.ms", "5").unwrap_err(),
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms"
        );
        assert_eq!(
            check("consumer.session.timeout.ms", "70000").unwrap_err(),
            "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms"
        );
        assert_eq!(
            check("nope", "5").unwrap_err(),
            "Unknown group config name: nope"
        );
        assert_eq!(check("share.auto.offset.reset", "by_duration:PT1H"), Ok(()));
    }
}
