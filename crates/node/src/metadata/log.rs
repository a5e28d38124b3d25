//! The log, and what is applied of it.

use std::sync::Arc;

use tidelog_log::{Log, LogConfig, LogDirectory, LogReader, LostLog, SnapshotId, Start};
use tidelog_metadata::Delta;
use tidelog_metadata::bootstrap::{MetadataVersion, record_version};
use tidelog_metadata::image::Image;
use tidelog_protocol::records::control::VotersRecord;
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_record::{Batch, BatchBuilder, Codec};
use tidelog_replication::quorum::{
    self, Appended, ControlRecord, EpochStart, Input, LogEnd, QuorumState, ReplicaKey, Restored,
};
use tidelog_types::{LeaderEpoch, Now, Offset, Timestamp, TopicId};

use super::{
    METADATA_FOLDER, Retention, Snapshot, SnapshotError, Snapshots, control, read_snapshot,
};

/// Up to where the log is in the image, and what else a snapshot of it must say.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Everything below it is in the image.
    pub offset: Offset,
    /// The epoch of the last record below.
    pub epoch: LeaderEpoch,
    /// When the batch with that record was appended.
    pub timestamp: Timestamp,
    /// The voters, where they are part of the log.
    pub voters: Option<VotersRecord>,
    /// How many bytes of the log were applied since the last snapshot.
    pub bytes: i64,
}

/// What was found on the disk.
#[derive(Debug)]
pub struct Opened {
    /// The log. What it holds and is not known to be flushed is to be flushed.
    pub log: Log,
    /// The metadata as the newest snapshot has it.
    pub image: Image,
    /// Where that snapshot ends.
    pub applied: Applied,
    /// What the machine begins with.
    pub restored: Restored,
}

/// Opens the log behind the newest snapshot that is whole. An older one does as well as long as the log reaches back to it.
/// If it does not, what there is of the log is of no use, and it is begun anew for the leader to fill, which
/// [`Restored::lost`] tells; without others in the quorum (`has_others`) nothing is touched, and it is an error. `clean` says
/// that the last stop was in order.
pub fn open(
    files: &Arc<LogDirectory>,
    config: LogConfig,
    clean: bool,
    has_others: bool,
    now: Now,
) -> Result<Opened, String> {
    let Loaded {
        image,
        applied,
        mut control_records,
        damaged,
    } = load_snapshot(files)?;
    let snapshot_end = applied.offset;
    let mut log = open_log(files, config, clean, &applied, now)?;
    let lost = lost_log(files, &log, &applied, &damaged)?;
    if let Some(lost) = lost {
        if !has_others {
            return Err(format!(
                "the log begins at offset {}, and no snapshot that can be read reaches so far; restore one from a copy",
                log.log_start_offset()
            ));
        }
        begin_anew(files, &mut log, snapshot_end, lost, now)?;
    }
    for id in damaged {
        let set_aside = files.set_aside_snapshot(METADATA_FOLDER, id);
        set_aside.map_err(text)?;
    }
    for batch in log.reader().batches(snapshot_end, log.log_end_offset()) {
        let batch = batch.map_err(text)?;
        control_records.extend(control::control_records(&batch)?);
    }
    // What was being fetched when the node stopped is fetched anew.
    let removed = files.remove_snapshot_parts(METADATA_FOLDER, None);
    removed.map_err(text)?;
    let restored = Restored {
        quorum_state: quorum_state(files)?,
        log_start_offset: log.log_start_offset(),
        log_end_offset: log.log_end_offset(),
        durable_end_offset: log.recovery_point(),
        epochs: epochs(&log),
        snapshots: Snapshots::new(Arc::clone(files)).all()?,
        control_records,
        high_watermark: snapshot_end,
        lost,
    };
    Ok(Opened {
        log,
        image,
        applied,
        restored,
    })
}

/// What a snapshot replaces of the log.
struct Loaded {
    image: Image,
    applied: Applied,
    control_records: Vec<ControlRecord>,
    /// Later ones that cannot be read.
    damaged: Vec<SnapshotId>,
}

fn load_snapshot(files: &LogDirectory) -> Result<Loaded, String> {
    let ids = files.snapshots(METADATA_FOLDER).map_err(text)?;
    let mut damaged = Vec::new();
    for id in ids.into_iter().rev() {
        let bytes = files.read_snapshot(METADATA_FOLDER, id).map_err(text)?;
        match read_snapshot(bytes.unwrap_or_default()) {
            Ok(snapshot) => return load(&snapshot, id, damaged),
            Err(error) => {
                tracing::warn!(snapshot = id.file_name(), %error, "a damaged snapshot is set aside");
                damaged.push(id);
            }
        }
    }
    Ok(Loaded {
        image: Image::default(),
        applied: Applied {
            offset: Offset::ZERO,
            epoch: LeaderEpoch::NONE,
            timestamp: Timestamp::NONE,
            voters: None,
            bytes: 0,
        },
        control_records: Vec::new(),
        damaged,
    })
}

fn load(snapshot: &Snapshot, id: SnapshotId, damaged: Vec<SnapshotId>) -> Result<Loaded, String> {
    Ok(Loaded {
        image: image_of(snapshot).map_err(|error| format!("{}: {error}", id.file_name()))?,
        control_records: control::control_records_of(snapshot, id.end_offset + -1),
        applied: applied_by(snapshot, id.end_offset, LeaderEpoch::new(id.epoch)),
        damaged,
    })
}

fn image_of(snapshot: &Snapshot) -> Result<Image, String> {
    let mut image = Image::default();
    for record in &snapshot.records {
        image.apply(record).map_err(text)?;
    }
    Ok(image)
}

fn applied_by(snapshot: &Snapshot, offset: Offset, epoch: LeaderEpoch) -> Applied {
    Applied {
        offset,
        epoch,
        timestamp: snapshot.last_contained_log_timestamp,
        voters: snapshot.voters.clone(),
        bytes: 0,
    }
}

/// Opens the log, which has to go on from where the snapshot ends. What lies before that is kept.
fn open_log(
    files: &LogDirectory,
    config: LogConfig,
    clean: bool,
    applied: &Applied,
    now: Now,
) -> Result<Log, String> {
    let start = Start {
        log_start_offset: Offset::ZERO,
        recovery_point: Offset::ZERO,
        clean,
        topic_id: Some(TopicId::CLUSTER_METADATA),
    };
    let opened = Log::open(files.dir(), METADATA_FOLDER, config, start, now);
    let (mut log, _) = opened.map_err(text)?;
    let (log_end, snapshot_end) = (log.log_end_offset(), applied.offset);
    if log_end < snapshot_end {
        // Everything in the log is in the snapshot too, which came from elsewhere or was flushed earlier.
        tracing::warn!(%log_end, %snapshot_end, "the metadata log ends before its snapshot, and is begun anew there");
        log.truncate_fully_and_start_at(snapshot_end, now)
            .map_err(text)?;
    }
    Ok(log)
}

/// Where the log ended that this node once had, if it can no longer vouch for having all of that.
fn lost_log(
    files: &LogDirectory,
    log: &Log,
    applied: &Applied,
    damaged: &[SnapshotId],
) -> Result<Option<LogEnd>, String> {
    let remembered = files.read_lost_log(METADATA_FOLDER).map_err(text)?;
    let remembered = remembered.map(|lost| LogEnd {
        epoch: LeaderEpoch::new(lost.leader_epoch),
        offset: lost.end_offset,
    });
    let replaced = damaged.iter().map(|id| LogEnd {
        epoch: LeaderEpoch::new(id.epoch),
        offset: id.end_offset,
    });
    let last = log.leader_epochs().last().map(|entry| entry.epoch);
    let end = LogEnd {
        epoch: last.unwrap_or(applied.epoch),
        offset: log.log_end_offset(),
    };
    let is_of_use = log.log_start_offset() <= applied.offset;
    let had = remembered.into_iter().chain(replaced).chain([end]).max();
    Ok(had.filter(|had| !is_of_use || *had > end))
}

/// Keeps in mind, on the disk, where the log ended, and removes what is of no use of it: all of it, if it does not reach
/// back to where the snapshot ends.
fn begin_anew(
    files: &LogDirectory,
    log: &mut Log,
    snapshot_end: Offset,
    lost: LogEnd,
    now: Now,
) -> Result<(), String> {
    let remembered = LostLog {
        end_offset: lost.offset,
        leader_epoch: lost.epoch.value(),
    };
    let written = files.write_lost_log(METADATA_FOLDER, remembered);
    written.map_err(text)?;
    tracing::error!(
        end_offset = %lost.offset, leader_epoch = %lost.epoch,
        "a part of the metadata was lost from this disk; it is fetched from the leader of the quorum, and until all of it is \
         back this node votes for nobody who may have less, and does not stand for election"
    );
    if log.log_start_offset() > snapshot_end {
        log.truncate_fully_and_start_at(snapshot_end, now)
            .map_err(text)?;
    }
    Ok(())
}

/// All that was lost is there again ([`Restored::lost`]): it need not be kept in mind any more.
pub fn forget_lost_log(files: &LogDirectory) -> Result<(), String> {
    files.remove_lost_log(METADATA_FOLDER).map_err(text)
}

fn epochs(log: &Log) -> Vec<EpochStart> {
    let epochs = log.leader_epochs().into_iter();
    epochs
        .map(|entry| EpochStart {
            leader_epoch: entry.epoch,
            start_offset: entry.start_offset,
        })
        .collect()
}

fn quorum_state(files: &LogDirectory) -> Result<Option<QuorumState>, String> {
    let state = files.read_quorum_state(METADATA_FOLDER).map_err(text)?;
    Ok(state.map(|state| QuorumState {
        leader_epoch: LeaderEpoch::new(state.leader_epoch),
        leader_id: state.leader_id,
        voted: state.voted_id.map(|id| ReplicaKey {
            id,
            directory_id: state.voted_directory_id,
        }),
    }))
}

/// Writes `quorum-state`, durably.
pub fn store_quorum_state(files: &LogDirectory, state: QuorumState) -> Result<(), String> {
    let voted = state.voted;
    let state = tidelog_log::QuorumState {
        leader_id: state.leader_id,
        leader_epoch: state.leader_epoch.value(),
        voted_id: voted.map(|voter| voter.id),
        voted_directory_id: voted.map_or_else(Default::default, |voter| voter.directory_id),
    };
    files
        .write_quorum_state(METADATA_FOLDER, &state)
        .map_err(text)
}

/// Appends a control batch of this leader. A flush is to follow.
pub fn append_control(
    log: &mut Log,
    batch: &Batch,
    leader_epoch: LeaderEpoch,
    now: Timestamp,
) -> Result<Appended, String> {
    let start_offset = log.log_end_offset();
    let appended = log.append_as_leader(batch, leader_epoch, now);
    let placed = batch.clone().with_leader_fields(start_offset, leader_epoch);
    Ok(Appended {
        end: appended.map_err(text)?.end.offset,
        epochs: vec![EpochStart {
            leader_epoch,
            start_offset,
        }],
        control_records: control::control_records(&placed)?,
    })
}

/// Appends what the leader has sent, as it is. A flush is to follow.
pub fn append_fetched(
    log: &mut Log,
    batches: &[Batch],
    now: Timestamp,
) -> Result<Appended, String> {
    let mut appended = Appended {
        end: log.log_end_offset(),
        epochs: Vec::new(),
        control_records: Vec::new(),
    };
    for batch in batches {
        let header = batch.header();
        if header.next_offset() <= appended.end {
            // It is here already, and was not known to be on the disk when it was asked for.
            continue;
        }
        let done = log.append_as_follower(batch, now);
        appended.end = done.map_err(text)?.end.offset;
        appended.epochs.push(EpochStart {
            leader_epoch: header.partition_leader_epoch,
            start_offset: header.base_offset,
        });
        appended
            .control_records
            .extend(control::control_records(batch)?);
    }
    Ok(appended)
}

/// The batch with which a controller writes its records, in the versions that go with `version`.
pub fn batch_of(
    records: &[MetadataRecord],
    version: MetadataVersion,
    now: Timestamp,
) -> Result<Batch, String> {
    let mut batch = BatchBuilder::new(Codec::None.into());
    for record in records {
        let value = record.encode(record_version(record, version));
        batch.push(now, None, Some(&value.map_err(text)?), &[]);
    }
    batch.build().map_err(text)
}

/// Applies what was committed since the last time, up to `offset`, batch by batch; gives what has changed.
pub fn apply_committed(
    reader: &LogReader,
    image: &mut Image,
    applied: &mut Applied,
    offset: Offset,
) -> Result<Delta, String> {
    let mut delta = Delta::default();
    for batch in reader.batches(applied.offset, offset) {
        let batch = batch.map_err(text)?;
        apply(image, &batch, &mut delta)?;
        let header = batch.header();
        applied.offset = header.next_offset();
        applied.epoch = header.partition_leader_epoch;
        applied.timestamp = header.max_timestamp;
        applied.bytes += i64::try_from(batch.size()).unwrap_or(i64::MAX);
        for record in control::control_records(&batch)? {
            if let ControlRecord::Voters { voters, .. } = record {
                applied.voters = Some(control::voters_record(&voters));
            }
        }
    }
    Ok(delta)
}

/// Applies the records of a batch of the metadata log.
fn apply(image: &mut Image, batch: &Batch, delta: &mut Delta) -> Result<(), String> {
    if batch.header().attributes.is_control() {
        return Ok(());
    }
    for record in batch.records().map_err(text)? {
        let record = record.map_err(text)?;
        let value = record.value.unwrap_or_default();
        let at = |error: &dyn std::fmt::Display| format!("record {}: {error}", record.offset);
        let record = MetadataRecord::decode(&value).map_err(|error| at(&error))?;
        image.apply_to(&record, delta).map_err(|error| at(&error))?;
    }
    Ok(())
}

/// Checks a snapshot of which all pieces have come, and begins log and image anew where it ends. Gives what has changed, or
/// why the snapshot was deleted instead; and what to tell the machine. A flush is to follow.
pub fn install_snapshot(
    snapshots: &Snapshots,
    log: &mut Log,
    image: &mut Image,
    applied: &mut Applied,
    snapshot_id: quorum::SnapshotId,
    now: Now,
) -> Result<(Result<Delta, SnapshotError>, Input), String> {
    let snapshot = match snapshots.finish(snapshot_id)? {
        Ok(snapshot) => snapshot,
        Err(error) => return Ok((Err(error), Input::SnapshotRefused { snapshot_id })),
    };
    let renewed =
        image_of(&snapshot).map_err(|error| format!("snapshot {snapshot_id:?}: {error}"))?;
    let end = snapshot_id.end_offset;
    log.truncate_fully_and_start_at(end, now).map_err(text)?;
    snapshots.remove_before(snapshot_id)?;
    let mut delta = everything(&renewed);
    let gone = image.topics();
    let gone = gone.filter(|topic| renewed.topic_by_id(topic.id).is_none());
    delta
        .topics_deleted
        .extend(gone.map(|topic| (topic.id, Arc::clone(topic))));
    let configured = image.configured().map(|(resource, _)| resource);
    delta.configs.extend(configured);
    *image = renewed;
    *applied = applied_by(&snapshot, end, snapshot_id.epoch);
    let installed = snapshots.all()?;
    let installed = installed.into_iter().find(|found| found.id == snapshot_id);
    let input = Input::SnapshotInstalled {
        snapshot: installed.ok_or("a snapshot is gone that was just written")?,
        control_records: control::control_records_of(&snapshot, end + -1),
    };
    Ok((Ok(delta), input))
}

/// Deletes what a new snapshot makes superfluous, as far as the retention wants that; gives what to tell the machine.
pub fn trim(
    snapshots: &Snapshots,
    log: &mut Log,
    retention: Retention,
    now: Now,
) -> Result<Input, String> {
    let kept_from = snapshots.kept_from(log.size(), retention, now.timestamp)?;
    if let Some(kept_from) = kept_from {
        let start = kept_from.end_offset;
        log.advance_log_start(start).map_err(text)?;
        for segment in log.delete_old_segments(now, start).map_err(text)? {
            segment.remove().map_err(text)?;
        }
        snapshots.remove_before(kept_from)?;
    }
    Ok(Input::SnapshotsChanged {
        snapshots: snapshots.all()?,
        log_start_offset: log.log_start_offset(),
    })
}

/// What a node that knows nothing yet must hear of an image.
pub fn everything(image: &Image) -> Delta {
    let mut delta = Delta::default();
    for topic in image.topics() {
        delta.topics_created.insert(topic.id);
        delta
            .partitions
            .insert(topic.id, topic.partitions.keys().copied().collect());
    }
    delta
        .configs
        .extend(image.configured().map(|(resource, _)| resource));
    delta
        .brokers
        .extend(image.brokers().map(|broker| broker.id));
    let controllers = image
        .controllers()
        .map(|controller| controller.controller_id);
    delta.controllers.extend(controllers);
    delta.features.extend(image.features().keys().cloned());
    delta
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
