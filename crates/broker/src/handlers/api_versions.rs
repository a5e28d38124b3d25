//! ApiVersions: what this broker understands (KIP-35, KIP-511).

use std::sync::atomic::Ordering;

use tidelog_metadata::bootstrap::SUPPORTED_FEATURES;
use tidelog_protocol::ApiKey;
use tidelog_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use tidelog_types::{ErrorCode, Str};

use super::{Answer, Context, SERVED};

/// Clients before this version cannot read a feature whose lowest level is 0.
const FEATURES_FROM_ZERO_VERSION: i16 = 4;
/// From this version on the client says what it is.
const SOFTWARE_FROM_VERSION: i16 = 3;

pub(super) async fn handle(context: Context, request: ApiVersionsRequest) -> Answer {
    let version = context.header.api_version;
    let named = is_software_name(&request.client_software_name)
        && is_software_name(&request.client_software_version);
    if version >= SOFTWARE_FROM_VERSION && !named {
        let error_code = ErrorCode::INVALID_REQUEST;
        return context.answer(&ApiVersionsResponse {
            error_code,
            ..Default::default()
        });
    }
    let image = context.node.image.load();
    let supported = SUPPORTED_FEATURES
        .iter()
        .filter(|(_, levels)| levels.min > 0 || version >= FEATURES_FROM_ZERO_VERSION);
    context.answer(&ApiVersionsResponse {
        api_keys: api_keys(),
        supported_features: supported
            .map(|(name, levels)| SupportedFeatureKey {
                name: Str::from_static(name),
                min_version: levels.min,
                max_version: levels.max,
            })
            .collect(),
        finalized_features_epoch: context.node.metadata_offset.load(Ordering::Acquire),
        finalized_features: image
            .features()
            .iter()
            .filter(|(_, level)| **level > 0)
            .map(|(name, level)| FinalizedFeatureKey {
                name: name.clone(),
                max_version_level: *level,
                min_version_level: *level,
            })
            .collect(),
        ..Default::default()
    })
}

/// Answers a version that this broker does not know: in version 0, with what it knows.
pub(super) async fn refuse_version(context: Context) -> Answer {
    let own = api_keys()
        .into_iter()
        .filter(|api| api.api_key == ApiKey::ApiVersions);
    context.answer(&ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: own.collect(),
        ..Default::default()
    })
}

fn api_keys() -> Vec<ApiVersion> {
    SERVED
        .iter()
        .filter_map(|key| key.api())
        .map(|api| ApiVersion {
            api_key: api.key,
            min_version: api.advertised.min,
            max_version: api.advertised.max,
        })
        .collect()
}

/// KIP-511: letters, digits, dots and dashes, with a letter or digit at both ends.
fn is_software_name(name: &str) -> bool {
    let at_an_end = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(at_an_end)
        && name.ends_with(at_an_end)
        && name.chars().all(|c| at_an_end(c) || matches!(c, '.' | '-'))
}
