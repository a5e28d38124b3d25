//! Control batches of the metadata log: who leads, and who votes.

use bytes::Bytes;
use tidelog_protocol::records::control::{
    self as records, ControlRecord as _, KRaftVersionFeature, KRaftVersionRecord,
    LeaderChangeMessage, LeaderChangeVoter, VotersRecord,
};
use tidelog_record::control::ControlType;
use tidelog_record::{Batch, BatchBuilder, Compression, Record};
use tidelog_replication::quorum::{
    ControlRecord, Endpoint, LeaderChange, ReplicaKey, VersionRange, Voter, VoterSet,
};
use tidelog_types::{Offset, Timestamp};

use super::snapshot::Snapshot;

/// The records of a batch that concern the quorum.
pub fn control_records(batch: &Batch) -> Result<Vec<ControlRecord>, String> {
    let mut found = Vec::new();
    if !batch.header().attributes.is_control() {
        return Ok(found);
    }
    for record in batch.records().map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        found.extend(control_record(&record)?);
    }
    Ok(found)
}

fn control_record(record: &Record) -> Result<Option<ControlRecord>, String> {
    let offset = record.offset;
    let damaged = |error: &dyn std::fmt::Display| format!("control record {offset}: {error}");
    let key = record.key.as_deref().unwrap_or_default();
    let value: Bytes = record.value.clone().unwrap_or_default();
    let control_type = ControlType::decode_key(key).map_err(|error| damaged(&error))?;
    Ok(match control_type {
        ControlType::KRaftVersion => {
            let record = KRaftVersionRecord::decode_value(&value).map_err(|e| damaged(&e))?;
            Some(ControlRecord::KRaftVersion {
                offset,
                kraft_version: record.kraft_version,
            })
        }
        ControlType::KRaftVoters => {
            let record = VotersRecord::decode_value(&value).map_err(|e| damaged(&e))?;
            Some(ControlRecord::Voters {
                offset,
                voters: voter_set(&record),
            })
        }
        // The change of a leader says nothing that its epoch does not say, and later types are to be passed over.
        _ => None,
    })
}

/// The control records of a snapshot, as if they stood in the log at `offset`.
pub fn control_records_of(snapshot: &Snapshot, offset: Offset) -> Vec<ControlRecord> {
    let Some(voters) = &snapshot.voters else {
        return Vec::new();
    };
    vec![
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

/// The control batch that begins the epoch of a leader (KIP-595). It is of version 0, which does not name the directories of
/// voters: that is how Kafka reads it, whatever version the record says it has. Where voters are part of the log their first
/// record follows in the same batch.
pub fn leader_change(change: &LeaderChange, now: Timestamp) -> Result<Batch, String> {
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
    let mut values = vec![(ControlType::LeaderChange, message.encode_value())];
    if let Some((kraft_version, voters)) = &change.first_voters {
        let version = KRaftVersionRecord {
            version: 0,
            kraft_version: *kraft_version,
        };
        values.push((ControlType::KRaftVersion, version.encode_value()));
        let voters = voters_record(voters);
        values.push((ControlType::KRaftVoters, voters.encode_value()));
    }
    control_batch(values, now)
}

/// The control batch with which the voters change (KIP-853), and with them perhaps the version of the quorum.
pub fn voters_change(
    kraft_version: Option<i16>,
    voters: &VoterSet,
    now: Timestamp,
) -> Result<Batch, String> {
    let mut values = Vec::new();
    if let Some(kraft_version) = kraft_version {
        let version = KRaftVersionRecord {
            version: 0,
            kraft_version,
        };
        values.push((ControlType::KRaftVersion, version.encode_value()));
    }
    let record = voters_record(voters);
    values.push((ControlType::KRaftVoters, record.encode_value()));
    control_batch(values, now)
}

fn control_batch(
    values: Vec<(ControlType, Result<Bytes, tidelog_protocol::EncodeError>)>,
    now: Timestamp,
) -> Result<Batch, String> {
    let mut builder = BatchBuilder::new(Compression::NONE).control(true);
    for (control_type, value) in values {
        let value = value.map_err(|error| error.to_string())?;
        builder.push(now, Some(&control_type.key()), Some(&value), &[]);
    }
    builder.build().map_err(|error| error.to_string())
}

/// The voters as the log has them.
pub fn voters_record(voters: &VoterSet) -> VotersRecord {
    let endpoint = |endpoint: &Endpoint| records::Endpoint {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
    };
    let voters = voters.iter().map(|voter| records::Voter {
        voter_id: voter.key.id,
        voter_directory_id: voter.key.directory_id,
        endpoints: voter.endpoints.iter().map(endpoint).collect(),
        kraft_version_feature: KRaftVersionFeature {
            min_supported_version: voter.kraft_versions.min,
            max_supported_version: voter.kraft_versions.max,
        },
    });
    VotersRecord {
        version: 0,
        voters: voters.collect(),
    }
}

/// The voters as the machine knows them.
pub fn voter_set(record: &VotersRecord) -> VoterSet {
    let endpoint = |endpoint: &records::Endpoint| Endpoint {
        listener: endpoint.name.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
    };
    let voters = record.voters.iter().map(|voter| Voter {
        key: ReplicaKey {
            id: voter.voter_id,
            directory_id: voter.voter_directory_id,
        },
        endpoints: voter.endpoints.iter().map(endpoint).collect(),
        kraft_versions: VersionRange {
            min: voter.kraft_version_feature.min_supported_version,
            max: voter.kraft_version_feature.max_supported_version,
        },
    });
    VoterSet::new(voters.collect())
}
