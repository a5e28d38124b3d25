//! What a cluster of Kafka's has, and this version keeps without serving it.

use tidelog_metadata::bootstrap::UNSERVED_FEATURES;
use tidelog_metadata::image::Image;

/// Says what the metadata asks for that does not happen on this node, a line for each.
pub(super) fn warn_of(image: &Image) {
    for feature in UNSERVED_FEATURES {
        let level = image.feature(feature.name);
        if level > 0 {
            let (name, consequence) = (feature.name, feature.consequence);
            tracing::warn!(
                feature = name,
                level,
                "the cluster has a feature that this version has not: {consequence}"
            );
        }
    }
    let kept = [
        (
            image.access_control_entries_count(),
            "access control entries are kept, but everybody may do everything",
        ),
        (
            image.scram_credentials_count(),
            "SCRAM credentials are kept, but nobody can log in with them",
        ),
        (
            image.delegation_tokens_count(),
            "delegation tokens are kept, but nobody can log in with them",
        ),
        (
            image.quotas_count(),
            "client quotas are kept, but nobody is throttled",
        ),
    ];
    for (count, consequence) in kept {
        if count > 0 {
            tracing::warn!(count, "{consequence}");
        }
    }
}
