//! The control batches of the metadata log (KIP-595, KIP-853), between the log and the quorum machine.

use tidelog_protocol::records::control::{
    ControlRecord as _, Endpoint as EndpointRecord, KRaftVersionFeature, KRaftVersionRecord,
    LeaderChangeMessage, LeaderChangeVoter, Voter as VoterRecord, VotersRecord,
};
use tidelog_record::control::ControlType;
use tidelog_record::{Batch, BatchBuilder, Codec};
use tidelog_replication::quorum::{
    ControlRecord, Endpoint, LeaderChange, ReplicaKey, VersionRange, Voter, VoterSet,
};
use tidelog_types::{Offset, Timestamp};

/// The control records of a batch that concern the quorum.
pub(super) fn control_records(batch: &Batch) -> Result<Vec<ControlRecord>, String> {
    let mut records = Vec::new();
    if !batch.header().attributes.is_control() {
        return Ok(records);
    }
    for record in batch.records().map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        let key = record.key.unwrap_or_default();
        let value = record.value.unwrap_or_default();
        let misread = |error: &dyn std::fmt::Display| format!("record {}: {error}", record.offset);
        match ControlType::decode_key(&key).map_err(|error| misread(&error))? {
            ControlType::KRaftVersion => {
                let version = KRaftVersionRecord::decode_value(&value);
                records.push(ControlRecord::KRaftVersion {
                    offset: record.offset,
                    kraft_version: version.map_err(|error| misread(&error))?.kraft_version,
                });
            }
            ControlType::KRaftVoters => {
                let voters = VotersRecord::decode_value(&value).map_err(|error| misread(&error))?;
                records.push(ControlRecord::Voters {
                    offset: record.offset,
                    voters: voter_set(voters),
                });
            }
            _ => {}
        }
    }
    Ok(records)
}

/// What a snapshot that ends at `end` says of the voters.
pub(super) fn snapshot_records(voters: Option<VotersRecord>, end: Offset) -> Vec<ControlRecord> {
    let offset = end + -1;
    let Some(voters) = voters else {
        return Vec::new();
    };
    vec![
        // Voters are part of a snapshot from this version on.
        ControlRecord::KRaftVersion {
            offset,
            kraft_version: 1,
        },
        ControlRecord::Voters {
            offset,
            voters: voter_set(voters),
        },
    ]
}

fn voter_set(record: VotersRecord) -> VoterSet {
    let endpoint = |endpoint: EndpointRecord| Endpoint {
        listener: endpoint.name,
        host: endpoint.host,
        port: endpoint.port,
    };
    let voter = |voter: VoterRecord| Voter {
        key: ReplicaKey {
            id: voter.voter_id,
            directory_id: voter.voter_directory_id,
        },
        endpoints: voter.endpoints.into_iter().map(endpoint).collect(),
        kraft_versions: VersionRange {
            min: voter.kraft_version_feature.min_supported_version,
            max: voter.kraft_version_feature.max_supported_version,
        },
    };
    VoterSet::new(record.voters.into_iter().map(voter).collect())
}

fn voters_record(voters: &VoterSet) -> VotersRecord {
    let endpoint = |endpoint: &Endpoint| EndpointRecord {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
    };
    let voter = |voter: &Voter| VoterRecord {
        voter_id: voter.key.id,
        voter_directory_id: voter.key.directory_id,
        endpoints: voter.endpoints.iter().map(endpoint).collect(),
        kraft_version_feature: KRaftVersionFeature {
            min_supported_version: voter.kraft_versions.min,
            max_supported_version: voter.kraft_versions.max,
        },
    };
    VotersRecord {
        version: 0,
        voters: voters.iter().map(voter).collect(),
    }
}

/// The control batch that begins the epoch of a leader. Kafka writes version 0, which does not name directories, with every
/// `kraft.version`.
pub(super) fn leader_change(change: &LeaderChange, now: Timestamp) -> Result<Batch, String> {
    let list = |voters: &[ReplicaKey]| {
        let voters = voters.iter().map(|voter| LeaderChangeVoter {
            voter_id: voter.id,
            ..Default::default()
        });
        voters.collect()
    };
    let message = LeaderChangeMessage {
        version: 0,
        leader_id: change.leader_id,
        voters: list(&change.voters),
        granting_voters: list(&change.granting_voters),
    };
    let mut builder = BatchBuilder::new(Codec::None.into()).control(true);
    let mut push = |control_type: ControlType, value: Result<bytes::Bytes, _>| {
        let value = value.map_err(|error: tidelog_protocol::EncodeError| error.to_string())?;
        builder.push(now, Some(&control_type.key()), Some(&value), &[]);
        Ok::<(), String>(())
    };
    push(ControlType::LeaderChange, message.encode_value())?;
    if let Some((kraft_version, voters)) = &change.first_voters {
        let version = KRaftVersionRecord {
            version: 0,
            kraft_version: *kraft_version,
        };
        push(ControlType::KRaftVersion, version.encode_value())?;
        push(
            ControlType::KRaftVoters,
            voters_record(voters).encode_value(),
        )?;
    }
    builder.build().map_err(|error| error.to_string())
}

/// The control batch that changes the voters.
pub(super) fn voters_batch(voters: &VoterSet, now: Timestamp) -> Result<Batch, String> {
    let value = voters_record(voters).encode_value();
    let value = value.map_err(|error| error.to_string())?;
    let builder = BatchBuilder::new(Codec::None.into());
    let batch = ControlType::KRaftVoters.batch(builder, now, &value);
    batch.map_err(|error| error.to_string())
}
