//! DescribeConfigs: the settings of topics, brokers and groups, and where each comes from.

use tidelog_metadata::configs::{
    ConfigEntry, ConfigSource, ConfigType, ResourceKind, describe_broker,
    describe_cluster_defaults, describe_group, describe_topic,
};
use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use tidelog_types::{ErrorCode, Str, TopicName};

use super::{Answer, Context};

/// The name under which the coordinator of a group tells why it rebalanced.
const GROUP_REBALANCES: &str = "tidelog.group.rebalances";

pub(super) async fn handle(context: Context, request: DescribeConfigsRequest) -> Answer {
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        match entries(&context, resource) {
            Ok(entries) => DescribeConfigsResult {
                configs: entries
                    .into_iter()
                    .filter(|entry| is_wanted(resource, &entry.name))
                    .map(|entry| answer(entry, &request))
                    .chain(rebalances(&context, resource))
                    .collect(),
                ..result
            },
            Err((error_code, message)) => DescribeConfigsResult {
                error_code,
                error_message: Some(message.into()),
                ..result
            },
        }
    });
    let results = results.collect();
    context.answer(&DescribeConfigsResponse {
        results,
        ..Default::default()
    })
}

fn entries(
    context: &Context,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, (ErrorCode, String)> {
    let node = &context.node;
    let name = &resource.resource_name;
    let config = node.broker_config.load();
    let image = node.image.load();
    let Some(kind) = ResourceKind::from_id(resource.resource_type) else {
        let text = format!("there is no resource type {}", resource.resource_type);
        return Err((ErrorCode::INVALID_REQUEST, text));
    };
    match kind {
        ResourceKind::Topic => {
            if let Err(reason) = TopicName::from(name.clone()).validate() {
                return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, reason.to_string()));
            }
            if image.topic(name).is_none() {
                let text = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.text().to_owned();
                return Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, text));
            }
            Ok(describe_topic(&image.topic_configs(name), &config))
        }
        ResourceKind::Broker if name.is_empty() => Ok(describe_cluster_defaults(&config)),
        ResourceKind::Broker if name.parse() == Ok(node.id.value()) => Ok(describe_broker(&config)),
        ResourceKind::Broker => {
            let text = format!(
                "this is broker {}, broker {name} must be asked itself",
                node.id
            );
            Err((ErrorCode::INVALID_REQUEST, text))
        }
        ResourceKind::Group if name.is_empty() => Err((
            ErrorCode::INVALID_REQUEST,
            "the group has no name".to_owned(),
        )),
        ResourceKind::Group => {
            let overrides = image.configs(kind, name).cloned().unwrap_or_default();
            Ok(describe_group(&overrides, &config))
        }
        _ => Ok(Vec::new()),
    }
}

/// Why a group rebalanced (ADR 7): an entry that is there only for who asks for it by its name, so that nobody stumbles over
/// it. Kafka answers the same question with no entry.
fn rebalances(
    context: &Context,
    resource: &DescribeConfigsResource,
) -> Option<DescribeConfigsResourceResult> {
    let is_group = ResourceKind::from_id(resource.resource_type) == Some(ResourceKind::Group);
    let mut keys = resource.configuration_keys.iter().flatten();
    if !is_group || !keys.any(|key| *key == *GROUP_REBALANCES) {
        return None;
    }
    let history = context
        .node
        .groups
        .explain(&resource.resource_name.clone().into())?;
    Some(DescribeConfigsResourceResult {
        name: Str::from_static(GROUP_REBALANCES),
        value: Some(history.into()),
        read_only: true,
        config_source: ConfigSource::Default.id(),
        config_type: ConfigType::String.id(),
        ..Default::default()
    })
}

fn is_wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    let keys = resource.configuration_keys.as_ref();
    keys.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key == name))
}

fn answer(entry: ConfigEntry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = entry
        .synonyms
        .into_iter()
        .map(|synonym| DescribeConfigsSynonym {
            name: synonym.name.into(),
            value: synonym.value.map(Str::from),
            source: synonym.source.id(),
        });
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(Str::from),
        read_only: entry.read_only,
        config_source: entry.source.id(),
        is_sensitive: entry.sensitive,
        synonyms: if request.include_synonyms {
            synonyms.collect()
        } else {
            Vec::new()
        },
        config_type: entry.kind.id(),
        documentation: entry
            .doc
            .filter(|_| request.include_documentation)
            .map(Str::from_static),
        ..Default::default()
    }
}
