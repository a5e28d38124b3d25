//! Opens the metadata log, and starts the thread that owns it.

use std::sync::{Arc, mpsc};
use std::thread;

use tidelog_log::{Log, LogConfig, LogDirectory, SnapshotId, Start};
use tidelog_metadata::Delta;
use tidelog_metadata::bootstrap::{MetadataVersion, bootstrap_records, registered_features};
use tidelog_metadata::configs::BrokerConfig;
use tidelog_metadata::controller::{Config as ControllerConfig, ControllerRequest};
use tidelog_metadata::image::Image;
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_replication::quorum::{
    self, ControlRecord, EpochStart, Quorum, QuorumState, ReplicaKey, VersionRange, Voter, VoterSet,
};
use tidelog_types::{LeaderEpoch, Offset, TopicId, Uuid};
use tokio::sync::oneshot;

use super::control::{self, snapshot_records};
use super::log::MetadataLog;
use super::snapshot::{Snapshot, read_snapshot};
use super::thread::{MetadataThread, Setup, apply};
use super::{ControllerHandle, METADATA_FOLDER, MetadataHandle, unserved};
use crate::clock::Clock;
use crate::error::StartError;
use crate::random::{random_bytes, random_seed};
use crate::store::directories::DataDirectory;

/// Opens the metadata in `directory`, and returns when this node leads the quorum and a fresh cluster has its first
/// records.
pub(crate) async fn open(
    clock: Clock,
    config: &BrokerConfig,
    cluster_id: &str,
    directory: &DataDirectory,
) -> Result<MetadataHandle, StartError> {
    let refuse = |reason: String| StartError::Metadata {
        path: directory.path.join(METADATA_FOLDER),
        reason,
    };
    let files = &directory.files;
    let node = ReplicaKey {
        id: config.node_id(),
        directory_id: directory.id,
    };
    let Loaded {
        mut image,
        end: snapshot_end,
        mut control_records,
    } = load_snapshot(files).map_err(refuse)?;
    let log = open_log(clock, config, directory, snapshot_end).map_err(refuse)?;
    // With one voter everything in the log was, or will be, committed by this node.
    let mut applied = snapshot_end;
    for batch in log.reader().batches(snapshot_end, log.log_end_offset()) {
        let batch = batch.map_err(|error| refuse(error.to_string()))?;
        control_records.extend(control::control_records(&batch).map_err(refuse)?);
        apply(&mut image, &batch, &mut Delta::default()).map_err(refuse)?;
        applied = batch.header().next_offset();
    }
    check_voters(&control_records, node).map_err(refuse)?;
    unserved::warn_of(&image);
    let quorum = quorum(clock, files, node, &log, snapshot_end, control_records);
    let quorum = quorum.map_err(refuse)?;
    let fresh = image.features().is_empty();
    let former = image.broker(node.id).filter(|broker| !broker.fenced);
    let former_epoch = former.map(|broker| broker.epoch);
    let (commands, received) = mpsc::channel();
    let log = MetadataLog::new(log, Arc::clone(&directory.flusher), commands.clone());
    // What recovery found counts as committed once it is known to be on the disk.
    log.request_flush();
    let (leading, leads) = oneshot::channel();
    let setup = Setup {
        clock,
        log,
        directory: Arc::clone(files),
        quorum,
        controller: ControllerConfig::new(config.clone(), cluster_id.into(), random_bytes()),
        image,
        applied,
        commands: received,
        leading,
    };
    let (thread, received) = MetadataThread::new(setup);
    let thread = thread::Builder::new()
        .name("tidelog-metadata".into())
        .spawn(move || thread.run(&received))?;
    let handle = MetadataHandle {
        controller: ControllerHandle { commands },
        former_epoch,
        thread: Some(thread),
    };
    leads
        .await
        .map_err(|_| refuse("the node could not become leader of the quorum".into()))?;
    if fresh {
        let records = first_records(files).map_err(refuse)?;
        let request = ControllerRequest::Bootstrap(records);
        let answer = handle.controller.request(request).await;
        answer.map_err(|code| refuse(format!("the first records were not written: {code}")))?;
    }
    Ok(handle)
}

fn log_config(config: &BrokerConfig) -> LogConfig {
    LogConfig {
        segment_bytes: u32::try_from(config.metadata_log_segment_bytes()).unwrap_or(1 << 30),
        segment_ms: config.metadata_log_segment_ms(),
        // Nothing of this log may go before a snapshot replaces it.
        delete: false,
        ..LogConfig::default()
    }
}

/// What a snapshot replaces of the log.
#[derive(Default)]
struct Loaded {
    image: Image,
    /// The offset behind the last record that is in the image.
    end: Offset,
    /// What it says of the voters.
    control_records: Vec<ControlRecord>,
}

/// Loads the newest snapshot that is whole. An older one does as well as long as the log reaches back to it.
fn load_snapshot(files: &LogDirectory) -> Result<Loaded, String> {
    let ids = files
        .snapshots(METADATA_FOLDER)
        .map_err(|error| error.to_string())?;
    for id in ids.into_iter().rev() {
        let bytes = files
            .read_snapshot(METADATA_FOLDER, id)
            .map_err(|error| error.to_string())?;
        match read_snapshot(bytes.unwrap_or_default()) {
            Ok(snapshot) => return load(snapshot, id),
            Err(error) => {
                tracing::warn!(snapshot = id.file_name(), %error, "a damaged snapshot is passed over");
            }
        }
    }
    Ok(Loaded::default())
}

fn load(snapshot: Snapshot, id: SnapshotId) -> Result<Loaded, String> {
    let mut image = Image::default();
    for record in &snapshot.records {
        let applied = image.apply(record);
        applied.map_err(|error| format!("{}: {error}", id.file_name()))?;
    }
    Ok(Loaded {
        image,
        end: id.end_offset,
        control_records: snapshot_records(snapshot.voters, id.end_offset),
    })
}

/// Opens the log, which has to go on from where the snapshot ends. What lies before that is kept.
fn open_log(
    clock: Clock,
    config: &BrokerConfig,
    directory: &DataDirectory,
    snapshot_end: Offset,
) -> Result<Log, String> {
    let start = Start {
        log_start_offset: Offset::ZERO,
        recovery_point: Offset::ZERO,
        clean: directory.was_clean,
        topic_id: Some(TopicId::CLUSTER_METADATA),
    };
    let dir = directory.files.dir();
    let opened = Log::open(dir, METADATA_FOLDER, log_config(config), start, clock.now());
    let (mut log, _) = opened.map_err(|error| error.to_string())?;
    let (log_start, log_end) = (log.log_start_offset(), log.log_end_offset());
    if log_start > snapshot_end {
        return Err(format!(
            "the log begins at offset {log_start}, and no snapshot that can be read reaches so far; restore one from a copy"
        ));
    }
    if log_end < snapshot_end {
        // Everything in the log is in the snapshot too, which came from elsewhere or was flushed earlier.
        tracing::warn!(%log_end, %snapshot_end, "the metadata log ends before its snapshot, and is begun anew there");
        log.truncate_fully_and_start_at(snapshot_end, clock.now())
            .map_err(|error| error.to_string())?;
    }
    Ok(log)
}

/// This version leads a quorum of its own only.
fn check_voters(records: &[ControlRecord], node: ReplicaKey) -> Result<(), String> {
    for record in records {
        let ControlRecord::Voters { voters, .. } = record else {
            continue;
        };
        if let Some(other) = voters.keys().find(|voter| voter.id != node.id) {
            return Err(format!(
                "node {} is a voter of the metadata quorum; this version runs clusters of one node",
                other.id
            ));
        }
        if !voters.contains(&node) {
            return Err(format!(
                "the voter {} of the metadata quorum has another log directory than {}",
                node.id, node.directory_id
            ));
        }
    }
    Ok(())
}

fn quorum(
    clock: Clock,
    files: &LogDirectory,
    node: ReplicaKey,
    log: &Log,
    snapshot_end: Offset,
    control_records: Vec<ControlRecord>,
) -> Result<Quorum, String> {
    let state = files
        .read_quorum_state(METADATA_FOLDER)
        .map_err(|error| error.to_string())?;
    let epochs = log.leader_epochs().into_iter().map(|entry| EpochStart {
        leader_epoch: entry.epoch,
        start_offset: entry.start_offset,
    });
    let snapshots = files.snapshots(METADATA_FOLDER);
    let snapshots = snapshots.map_err(|error| error.to_string())?;
    let restored = quorum::Restored {
        quorum_state: state.map(|state| QuorumState {
            leader_epoch: LeaderEpoch::new(state.leader_epoch),
            leader_id: state.leader_id,
            voted: state.voted_id.map(|id| ReplicaKey {
                id,
                directory_id: state.voted_directory_id,
            }),
        }),
        log_start_offset: log.log_start_offset(),
        log_end_offset: log.log_end_offset(),
        durable_end_offset: log.recovery_point(),
        epochs: epochs.collect(),
        snapshots: snapshots
            .into_iter()
            .map(|id| quorum::Snapshot {
                id: quorum::SnapshotId {
                    end_offset: id.end_offset,
                    epoch: LeaderEpoch::new(id.epoch),
                },
                // Nobody fetches it.
                size: 0,
            })
            .collect(),
        control_records,
        high_watermark: snapshot_end,
    };
    let voters = VoterSet::new(vec![Voter {
        key: ReplicaKey {
            directory_id: Uuid::ZERO,
            ..node
        },
        endpoints: Vec::new(),
        kraft_versions: VersionRange { min: 0, max: 1 },
    }]);
    let config = quorum::Config::new(node, voters, random_seed());
    Ok(Quorum::new(clock.now(), config, restored))
}

/// What `format` wrote for the first start, or else what a new cluster begins with. Kafka's format switches on features that
/// this version does not have; they stay switched on for when Kafka goes on. Those that nobody knows are left out.
fn first_records(files: &LogDirectory) -> Result<Vec<MetadataRecord>, String> {
    let content = files.read_bootstrap().map_err(|error| error.to_string())?;
    let Some(content) = content else {
        return Ok(bootstrap_records(MetadataVersion::LATEST));
    };
    let mut records = read_snapshot(content)
        .map_err(|error| error.to_string())?
        .records;
    records.retain(|record| match record {
        MetadataRecord::FeatureLevel(feature) => {
            let known = registered_features().any(|(name, levels)| {
                feature.name == *name && levels.contains(feature.feature_level)
            });
            if !known {
                tracing::warn!(feature = %feature.name, level = feature.feature_level,
                    "a feature of bootstrap.checkpoint is not known and stays off");
            }
            known
        }
        _ => true,
    });
    Ok(records)
}
