//! The snapshots of the metadata log on the disk: made, fetched in pieces, served in pieces, and deleted when they are old.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_log::LogDirectory;
use tidelog_metadata::image::Image;
use tidelog_protocol::records::control::{ControlRecord, SnapshotHeaderRecord, VotersRecord};
use tidelog_record::Batch;
use tidelog_replication::quorum;
use tidelog_types::{LeaderEpoch, Timestamp};

use super::METADATA_FOLDER;
use super::snapshot::{Snapshot, SnapshotError, read_snapshot};

/// So much of a snapshot holds its first batch, the header, which is small.
const HEADER_BYTES: usize = 1024;

/// The snapshots in a log directory.
#[derive(Clone, Debug)]
pub struct Snapshots {
    files: Arc<LogDirectory>,
}

/// A snapshot that is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it ends, and the epoch of the last record that it replaces.
    pub id: quorum::SnapshotId,
    /// The metadata up to there.
    pub image: Image,
    /// The voters, where they are part of the log.
    pub voters: Option<VotersRecord>,
    /// When the last batch was appended that it replaces.
    pub last_contained_log_timestamp: Timestamp,
    /// What time it is.
    pub now: Timestamp,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Of the log and all snapshots together; negative for all.
    pub bytes: i64,
    /// Negative for ever.
    pub ms: i64,
}

impl Snapshots {
    /// Those in `files`.
    pub const fn new(files: Arc<LogDirectory>) -> Self {
        Self { files }
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Result<Vec<quorum::Snapshot>, String> {
        let ids = self.files.snapshots(METADATA_FOLDER).map_err(text)?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let size = self.files.snapshot_size(METADATA_FOLDER, id);
            if let Some(size) = size.map_err(text)? {
                found.push(quorum::Snapshot {
                    id: quorum::SnapshotId {
                        end_offset: id.end_offset,
                        epoch: LeaderEpoch::new(id.epoch),
                    },
                    size: i64::try_from(size).unwrap_or(i64::MAX),
                });
            }
        }
        Ok(found)
    }

    /// Up to `max_bytes` of a snapshot, nothing if it is gone.
    pub fn read_piece(
        &self,
        id: quorum::SnapshotId,
        position: i64,
        max_bytes: usize,
    ) -> Result<Bytes, String> {
        let position = u64::try_from(position).unwrap_or(0);
        let read = self
            .files
            .read_snapshot_at(METADATA_FOLDER, file(id), position, max_bytes);
        read.map(Option::unwrap_or_default).map_err(text)
    }

    /// Writes a piece of a snapshot that is being fetched; gives how many bytes of it are there.
    pub fn write_piece(
        &self,
        id: quorum::SnapshotId,
        position: i64,
        bytes: &[u8],
    ) -> Result<i64, String> {
        let start = u64::try_from(position).unwrap_or(0);
        if start == 0 {
            // What was begun before is of no use any more.
            let others = self
                .files
                .remove_snapshot_parts(METADATA_FOLDER, Some(file(id)));
            others.map_err(text)?;
        }
        let written = self
            .files
            .write_snapshot_part(METADATA_FOLDER, file(id), start, bytes);
        written.map_err(text)?;
        Ok(position + i64::try_from(bytes.len()).unwrap_or(0))
    }

    /// Checks a snapshot of which all pieces are there, and makes it durable under its name. One that is damaged is deleted.
    pub fn finish(
        &self,
        id: quorum::SnapshotId,
    ) -> Result<Result<Snapshot, SnapshotError>, String> {
        let bytes = self.files.read_snapshot_part(METADATA_FOLDER, file(id));
        let bytes = bytes.map_err(text)?.unwrap_or_default();
        let snapshot = match read_snapshot(bytes) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let removed = self.files.remove_snapshot_parts(METADATA_FOLDER, None);
                removed.map_err(text)?;
                return Ok(Err(error));
            }
        };
        let finished = self.files.finish_snapshot_part(METADATA_FOLDER, file(id));
        finished.map_err(text)?;
        Ok(Ok(snapshot))
    }

    /// Removes those that reach less far than `id`.
    pub fn remove_before(&self, id: quorum::SnapshotId) -> Result<(), String> {
        for older in self.all()? {
            if older.id < id {
                let removed = self.files.remove_snapshot(METADATA_FOLDER, file(older.id));
                removed.map_err(text)?;
            }
        }
        Ok(())
    }

    /// Writes a snapshot, which may take a while; gives its name.
    pub fn write(&self, plan: &Plan) -> Result<quorum::SnapshotId, String> {
        let snapshot = Snapshot {
            last_contained_log_timestamp: plan.last_contained_log_timestamp,
            voters: plan.voters.clone(),
            records: plan.image.records().collect(),
        };
        let version = plan.image.metadata_version();
        let bytes = snapshot.encode(plan.id.epoch, version, plan.now);
        let bytes = bytes.map_err(|error| error.to_string())?;
        let written = self
            .files
            .write_snapshot(METADATA_FOLDER, file(plan.id), &bytes);
        written.map_err(text)?;
        Ok(plan.id)
    }

    /// From which snapshot on log and snapshots are kept, if something is to go: the oldest go first, and the newest stays.
    pub fn kept_from(
        &self,
        log_bytes: u64,
        retention: Retention,
        now: Timestamp,
    ) -> Result<Option<quorum::SnapshotId>, String> {
        let all = self.all()?;
        let mut bytes = all.iter().map(|snapshot| snapshot.size).sum::<i64>();
        bytes = bytes.saturating_add(i64::try_from(log_bytes).unwrap_or(i64::MAX));
        let mut kept_from = None;
        for pair in all.windows(2) {
            let (oldest, next) = (&pair[0], &pair[1]);
            let is_too_much = retention.bytes >= 0 && bytes > retention.bytes;
            let is_too_old = retention.ms >= 0
                && self
                    .timestamp(oldest.id)
                    .is_some_and(|made| now.as_millis() - made.as_millis() > retention.ms);
            if !(is_too_much || is_too_old) {
                break;
            }
            bytes -= oldest.size;
            kept_from = Some(next.id);
        }
        Ok(kept_from)
    }

    /// The time of the last batch that a snapshot replaces.
    fn timestamp(&self, id: quorum::SnapshotId) -> Option<Timestamp> {
        let mut head = self.read_piece(id, 0, HEADER_BYTES).ok()?;
        let batch = Batch::split_from(&mut head).ok()??;
        let record = batch.records().ok()?.next()?.ok()?;
        let header = SnapshotHeaderRecord::decode_value(&record.value?).ok()?;
        Some(header.last_contained_log_timestamp)
    }
}

const fn file(id: quorum::SnapshotId) -> tidelog_log::SnapshotId {
    tidelog_log::SnapshotId {
        end_offset: id.end_offset,
        epoch: id.epoch.value(),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
