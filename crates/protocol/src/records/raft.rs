//! What a voter of the metadata quorum must not forget, as it lies in the file `quorum-state`.

use tidelog_types::{LeaderEpoch, NodeId, Offset, Str, Uuid};

use crate::{Wire, message};

/// The epoch of a voter, and its vote (KIP-595). Kafka's schema is called `QuorumStateData`.
///
/// The file holds it as JSON with the version as `data_version`. Version 1 belongs to quorums whose
/// voters may change (KIP-853).
#[message(versions = 0..=1, flexible = 0..)]
pub struct QuorumState {
    /// The id of the cluster.
    #[wire(versions = ..=0)]
    pub cluster_id: Str,
    /// The leader, or -1 if unknown.
    #[wire(default = NodeId::NONE)]
    pub leader_id: NodeId,
    /// The epoch of the leader.
    #[wire(default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
    /// Whom the voter has given its vote in the epoch, or -1.
    #[wire(default = NodeId::NONE)]
    pub voted_id: NodeId,
    /// The directory of that candidate's metadata log (KIP-853).
    #[wire(versions = 1..)]
    pub voted_directory_id: Uuid,
    /// Not used.
    #[wire(versions = ..=0)]
    pub applied_offset: Offset,
    /// The voters, or null.
    #[wire(versions = ..=0)]
    pub current_voters: Option<Vec<Voter>>,
}

#[cfg(feature = "json")]
impl QuorumState {
    /// Reads what the file holds.
    pub fn from_file(json: &serde_json::Value) -> Result<Self, crate::json::JsonError> {
        use crate::json::{JsonErrorKind, from_json};
        let version = json.get("data_version").ok_or(JsonErrorKind::Missing);
        let number = |value: &serde_json::Value| value.as_i64().and_then(|v| v.try_into().ok());
        let version = version.and_then(|v| number(v).ok_or(JsonErrorKind::Expected("an int16")));
        from_json(json, version.map_err(|kind| kind.at("data_version"))?)
    }

    /// What the file holds in `version`.
    pub fn to_file(&self, version: i16) -> Result<serde_json::Value, crate::EncodeError> {
        let mut json = super::to_json(self, version)?;
        json["data_version"] = version.into();
        Ok(json)
    }
}

/// A voter.
#[derive(Clone, PartialEq, Wire)]
pub struct Voter {
    /// The node.
    pub voter_id: NodeId,
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_kafkas() {
        let text = "{\"leaderId\":-1,\"leaderEpoch\":4,\"votedId\":1,\
            \"votedDirectoryId\":\"8232bGpc9tdV9wlCMmfTKw\",\"data_version\":1}";
        let mut json = serde_json::from_str(text).unwrap();
        let state = QuorumState::from_file(&json).unwrap();
        assert_eq!(state.leader_epoch.value(), 4);
        assert_eq!(state.to_file(1).unwrap().to_string(), text);
        assert!(state.to_file(0).is_err());
        for (version, path) in [(9.into(), ""), ("1".into(), "data_version")] {
            json["data_version"] = version;
            assert_eq!(QuorumState::from_file(&json).unwrap_err().path(), path);
        }
    }
}
