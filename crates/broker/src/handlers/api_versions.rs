//! ApiVersions: what this broker understands (KIP-35, KIP-511).

use tidelog_metadata::bootstrap::{KRAFT_VERSION, KRAFT_VERSIONS, SUPPORTED_FEATURES};
use tidelog_protocol::ApiKey;
use tidelog_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use tidelog_types::{ErrorCode, Str};

use super::{Answer, Context, Role};

/// Clients before this version cannot read a feature whose lowest level is 0.
const FEATURES_FROM_ZERO_VERSION: i16 = 4;
/// From this version on the client says what it is.
const SOFTWARE_FROM_VERSION: i16 = 3;

pub(super) async fn handle<R: Role>(context: Context<R>, request: ApiVersionsRequest) -> Answer {
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
    context.peer.names_itself(&request.client_software_name);
    let image = context.node.image();
    let kraft_version = (
        Str::from_static(KRAFT_VERSION),
        context.node.kraft_version(),
    );
    let supported = SUPPORTED_FEATURES.iter().copied();
    let supported = supported
        .chain([(KRAFT_VERSION, KRAFT_VERSIONS)])
        .filter(|(_, levels)| levels.min > 0 || version >= FEATURES_FROM_ZERO_VERSION)
        .map(|(name, levels)| SupportedFeatureKey {
            name: Str::from_static(name),
            min_version: levels.min,
            max_version: levels.max,
        });
    let finalized = image.features().iter();
    let finalized = finalized.map(|(name, level)| (name.clone(), *level));
    let finalized = finalized
        .chain([kraft_version])
        .filter(|(_, level)| *level > 0)
        .map(|(name, level)| FinalizedFeatureKey {
            name,
            max_version_level: level,
            min_version_level: level,
        });
    context.answer(&ApiVersionsResponse {
        api_keys: api_keys::<R>(),
        supported_features: supported.collect(),
        finalized_features_epoch: context.node.metadata_offset().value(),
        finalized_features: finalized.collect(),
        ..Default::default()
    })
}

/// Answers a version that this broker does not know: in version 0, with what it knows.
pub(super) async fn refuse_version<R: Role>(context: Context<R>) -> Answer {
    let own = api_keys::<R>()
        .into_iter()
        .filter(|api| api.api_key == ApiKey::ApiVersions);
    context.answer(&ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: own.collect(),
        ..Default::default()
    })
}

fn api_keys<R: Role>() -> Vec<ApiVersion> {
    R::SERVED
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
