//! What a fresh cluster begins with, and which record formats a cluster may use.
//!
//! metadata.version is the feature whose level says which records, in which versions, all nodes of the cluster understand.
//! A fresh cluster begins with the records of [`bootstrap_records`]; whoever writes a record asks [`record_version`].

use std::fmt;
use std::str::FromStr;

use tidelog_protocol::records::metadata::{FeatureLevelRecord, MetadataRecord};
use tidelog_types::Str;

use crate::image::SupportedLevels;

/// The name of the feature that gates record formats.
pub const METADATA_VERSION: &str = "metadata.version";
/// The name of the feature that switches on consumer groups whose partitions the broker divides (KIP-848).
pub const GROUP_VERSION: &str = "group.version";
/// The level of group.version that a new cluster gets.
pub const GROUP_VERSION_LATEST: i16 = 1;
/// The name of the feature that says whether the voters of the quorum are part of its log (KIP-853). Its level is in control
/// records, not in the image.
pub const KRAFT_VERSION: &str = "kraft.version";
/// The levels of [`KRAFT_VERSION`] that this version supports; 1 means voters that are part of the log.
pub const KRAFT_VERSIONS: SupportedLevels = SupportedLevels { min: 0, max: 1 };
/// The name of the feature that switches on eligible leader replicas (KIP-966).
pub const ELIGIBLE_LEADER_REPLICAS_VERSION: &str = "eligible.leader.replicas.version";
/// The highest level of [`ELIGIBLE_LEADER_REPLICAS_VERSION`].
pub const ELIGIBLE_LEADER_REPLICAS_VERSION_LATEST: i16 = 1;
/// The metadata.version without which there are no eligible leader replicas.
pub const ELIGIBLE_LEADER_REPLICAS_SINCE: MetadataVersion = MetadataVersion(23);

/// The name of the feature that says how transactions are kept apart (KIP-890).
pub const TRANSACTION_VERSION: &str = "transaction.version";

/// A level of metadata.version that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataVersion(i16);

/// Names of the levels, from [`MetadataVersion::MINIMUM`] on.
const NAMES: [&str; 24] = [
    "3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2",
    "3.7-IV0", "3.7-IV1", "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0",
    "4.0-IV1", "4.0-IV2", "4.0-IV3", "4.1-IV0", "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0",
];

impl MetadataVersion {
    /// The oldest level, 3.3-IV3 (7).
    pub const MINIMUM: Self = Self(7);
    /// The level that a new cluster gets, 4.3-IV0 (30).
    pub const LATEST: Self = Self(30);

    /// The level of that number, if it is known.
    pub fn from_level(level: i16) -> Option<Self> {
        (Self::MINIMUM.0..=Self::LATEST.0)
            .contains(&level)
            .then_some(Self(level))
    }

    /// All known levels, the oldest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (Self::MINIMUM.0..=Self::LATEST.0).map(Self)
    }

    /// The number.
    pub const fn level(self) -> i16 {
        self.0
    }

    /// The name, such as `4.3-IV0`.
    pub const fn name(self) -> &'static str {
        NAMES[(self.0 - Self::MINIMUM.0) as usize]
    }

    /// Whether a shrunk ISR must come with a new leader epoch (before KAFKA-15021 was mended).
    pub const fn bumps_leader_epoch_on_isr_shrink(self) -> bool {
        self.0 < 12
    }

    /// Whether records may be held back until their transaction ends (KIP-868).
    pub const fn has_transactions(self) -> bool {
        self.0 >= 14
    }

    /// Whether controllers register (KIP-919).
    pub const fn has_controller_registrations(self) -> bool {
        self.0 >= 15
    }

    /// Whether partitions know the directories of their replicas (KIP-858).
    pub const fn has_directories(self) -> bool {
        self.0 >= 17
    }

    /// Whether directories can be kept from new partitions (KIP-1066).
    pub const fn has_cordoned_directories(self) -> bool {
        self.0 >= 30
    }

    /// In which version of Fetch brokers copy partitions from each other: the newest that every broker of a cluster of this
    /// level knows.
    pub const fn fetch_version(self) -> i16 {
        match self.0 {
            ..9 => 13,
            9 => 14,
            10..19 => 15,
            19..21 => 16,
            21..27 => 17,
            27.. => 18,
        }
    }

    /// The same of ListOffsets.
    pub const fn list_offsets_version(self) -> i16 {
        match self.0 {
            ..9 => 7,
            9..21 => 8,
            21..25 => 9,
            25..29 => 10,
            29.. => 11,
        }
    }

    /// Whether records, or versions of records, came with this level that the one before cannot carry.
    pub const fn changes_records(self) -> bool {
        matches!(self.0, 7 | 8 | 11 | 13 | 14 | 15 | 17 | 23 | 30)
    }
}

impl fmt::Display for MetadataVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no known level of metadata.version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a metadata.version; known are {} to {}",
    MetadataVersion::MINIMUM,
    MetadataVersion::LATEST
)]
pub struct UnknownMetadataVersion {
    text: String,
}

/// Reads a level (`30`), its name (`4.3-IV0`), or a release (`4.3`), which stands for its last level.
impl FromStr for MetadataVersion {
    type Err = UnknownMetadataVersion;

    fn from_str(text: &str) -> Result<Self, UnknownMetadataVersion> {
        let of_release = |name: &str| {
            let (release, _) = name.split_once('-').unwrap_or((name, ""));
            // Patch releases have the levels of their release.
            text == release
                || text.strip_prefix(release).is_some_and(|patch| {
                    patch
                        .strip_prefix('.')
                        .is_some_and(|p| p.parse::<u16>().is_ok())
                })
        };
        let mut versions: Vec<Self> = Self::all().collect();
        versions.reverse();
        versions
            .into_iter()
            .find(|v| v.name() == text || v.level().to_string() == text || of_release(v.name()))
            .ok_or_else(|| UnknownMetadataVersion { text: text.into() })
    }
}

/// The features that this version supports beside [`KRAFT_VERSION`], with their levels, by name.
pub const SUPPORTED_FEATURES: &[(&str, SupportedLevels)] = &[
    (
        ELIGIBLE_LEADER_REPLICAS_VERSION,
        SupportedLevels {
            min: 0,
            max: ELIGIBLE_LEADER_REPLICAS_VERSION_LATEST,
        },
    ),
    (
        GROUP_VERSION,
        SupportedLevels {
            min: 0,
            max: GROUP_VERSION_LATEST,
        },
    ),
    (
        METADATA_VERSION,
        SupportedLevels {
            min: MetadataVersion::MINIMUM.0,
            max: MetadataVersion::LATEST.0,
        },
    ),
];

/// A feature of Kafka 4.3 that a cluster may have switched on already, and that this version does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnservedFeature {
    /// The name.
    pub name: &'static str,
    /// The levels with which the records of a cluster can still be read.
    pub levels: SupportedLevels,
    /// What is different from Apache Kafka on this node.
    pub consequence: &'static str,
}

/// The features that [`SUPPORTED_FEATURES`] lacks. A node registers with them, so that it can go on where Kafka stopped:
/// the level stays finalized, and what belongs to the feature stays as it is. They are not offered to clients and not
/// switched on where a cluster begins.
pub const UNSERVED_FEATURES: &[UnservedFeature] = &[
    UnservedFeature::new(
        "share.version",
        1,
        "share groups are not served, their state is kept",
    ),
    UnservedFeature::new(
        "streams.version",
        1,
        "streams groups are not served, their state is kept",
    ),
    UnservedFeature::new(
        TRANSACTION_VERSION,
        2,
        "transactions have no coordinator here, and one that is open stays open unless another broker has it",
    ),
];

impl UnservedFeature {
    const fn new(name: &'static str, max: i16, consequence: &'static str) -> Self {
        let levels = SupportedLevels { min: 0, max };
        Self {
            name,
            levels,
            consequence,
        }
    }
}

/// The levels of all features with which a node of this version can be a member of a cluster, by name. Kafka's controllers
/// refuse a broker that does not name kraft.version, too, where voters are part of the log.
pub fn registered_features() -> impl Iterator<Item = (&'static str, SupportedLevels)> {
    let unserved = UNSERVED_FEATURES
        .iter()
        .map(|feature| (feature.name, feature.levels));
    SUPPORTED_FEATURES
        .iter()
        .copied()
        .chain(unserved)
        .chain([(KRAFT_VERSION, KRAFT_VERSIONS)])
}

/// The records with which a fresh cluster begins, in one batch: features that this version has, at the level that Kafka's
/// `format` gives them for that metadata.version.
///
/// Kafka finalizes more features. What most of those switch on is not supported yet, and a level can be raised later but hardly
/// lowered. Eligible leader replicas are left to whoever wants them: with them a replica whose broker was killed must not lead
/// before its leader has been found again, which is needless where every acknowledged record was flushed.
pub fn bootstrap_records(metadata_version: MetadataVersion) -> Vec<MetadataRecord> {
    bootstrap_records_with(metadata_version, default_group_version(metadata_version), 0)
}

/// The same with other levels of group.version and of eligible.leader.replicas.version; at level 0 they are left out.
pub fn bootstrap_records_with(
    metadata_version: MetadataVersion,
    group_version: i16,
    elr_version: i16,
) -> Vec<MetadataRecord> {
    let levels = [
        (METADATA_VERSION, metadata_version.level()),
        (ELIGIBLE_LEADER_REPLICAS_VERSION, elr_version),
        (GROUP_VERSION, group_version),
    ];
    let levels = levels.into_iter().filter(|(_, level)| *level > 0);
    levels
        .map(|(name, feature_level)| {
            let name = Str::from_static(name);
            FeatureLevelRecord {
                name,
                feature_level,
            }
            .into()
        })
        .collect()
}

/// The level of group.version that belongs to a release: Kafka has it since 4.0.
pub fn default_group_version(metadata_version: MetadataVersion) -> i16 {
    const SINCE: i16 = 22;
    if metadata_version.level() >= SINCE {
        GROUP_VERSION_LATEST
    } else {
        0
    }
}

/// In which version `record` is written in a cluster of that metadata.version.
///
/// A change of a broker's registration is written in the lowest version that can carry it, everything else in the
/// version that belongs to the level.
pub fn record_version(record: &MetadataRecord, metadata_version: MetadataVersion) -> i16 {
    let level = metadata_version.level();
    match record {
        MetadataRecord::RegisterBroker(_) => match level {
            ..8 => 1,
            8..17 => 2,
            17..30 => 3,
            30.. => 4,
        },
        MetadataRecord::Partition(_) | MetadataRecord::PartitionChange(_) => match level {
            ..17 => 0,
            17..23 => 1,
            23.. => 2,
        },
        MetadataRecord::BrokerRegistrationChange(change) => {
            if change.cordoned_log_dirs.is_some() {
                3
            } else if !change.log_dirs.is_empty() {
                2
            } else {
                i16::from(change.in_controlled_shutdown != 0)
            }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::records::metadata::{PartitionRecord, RegisterBrokerRecord};

    use super::*;

    #[test]
    fn levels_have_kafkas_names() {
        let version = |level| MetadataVersion::from_level(level).unwrap().name();
        assert_eq!(version(7), "3.3-IV3");
        assert_eq!(version(14), "3.6-IV2");
        assert_eq!(version(21), "3.9-IV0");
        assert_eq!(version(25), "4.0-IV3");
        assert_eq!(version(30), "4.3-IV0");
        assert_eq!(
            (
                MetadataVersion::from_level(6),
                MetadataVersion::from_level(31)
            ),
            (None, None)
        );
    }

    #[test]
    fn a_level_is_read_as_number_name_or_release() {
        let level = |text: &str| text.parse::<MetadataVersion>().map(MetadataVersion::level);
        assert_eq!(level("22"), Ok(22));
        assert_eq!(level("4.0-IV1"), Ok(23));
        assert_eq!(level("4.0"), Ok(25));
        assert_eq!(level("4.3.1"), Ok(30));
        assert_eq!(
            level("5.0").unwrap_err().to_string(),
            "\"5.0\" is not a metadata.version; known are 3.3-IV3 to 4.3-IV0"
        );
        assert!(level("4.3.x").is_err());
    }

    /// What a broker of Kafka 4.3.1 registers with. Its controllers refuse one that lacks a level in use, also of kraft.version.
    #[test]
    fn a_node_registers_with_the_features_of_kafka() {
        let mut registered: Vec<_> = registered_features().collect();
        registered.sort_by_key(|(name, _)| *name);
        let registered: Vec<_> = registered
            .into_iter()
            .map(|(name, levels)| (name, levels.min, levels.max))
            .collect();
        let expected = [
            ("eligible.leader.replicas.version", 0, 1),
            ("group.version", 0, 1),
            ("kraft.version", 0, 1),
            ("metadata.version", 7, 30),
            ("share.version", 0, 1),
            ("streams.version", 0, 1),
            ("transaction.version", 0, 2),
        ];
        assert_eq!(registered, expected);
    }

    /// As Kafka 4.3.1 says of each of its levels: level, RegisterBroker, Partition.
    #[test]
    fn records_are_written_in_the_versions_that_kafka_writes() {
        let broker = MetadataRecord::from(RegisterBrokerRecord::default());
        let partition = MetadataRecord::from(PartitionRecord::default());
        for version in MetadataVersion::all() {
            let expected = match version.level() {
                7 => (1, 0),
                8..=16 => (2, 0),
                17..=22 => (3, 1),
                23..=29 => (3, 2),
                _ => (4, 2),
            };
            let written = (
                record_version(&broker, version),
                record_version(&partition, version),
            );
            assert_eq!(written, expected, "{version}");
        }
    }
}
