//! What belongs to the metadata log only: the vote, and snapshots.

use std::path::Path;

use tidelog_record::AnyBatch;
use tidelog_record::control::ControlType;
use tidelog_types::Offset;

use super::{Severity, Verifier};
use crate::inspect::{FileKind, StoredBatches};
use crate::quorum_files::SnapshotId;

impl Verifier<'_> {
    /// A snapshot, or `bootstrap.checkpoint`: batches between a header and a footer.
    pub(super) fn snapshot(&mut self, path: &Path) {
        let batches = match StoredBatches::open(self.dir, path) {
            Ok(batches) => batches,
            Err(error) => return self.unreadable(Severity::Damage, path, error.into()),
        };
        let mut controls = Vec::new();
        for stored in batches {
            match stored {
                Ok(stored) => {
                    let position = Some(stored.position);
                    if let Err(error) = stored.checksum {
                        self.find(Severity::Damage, path, position, error.to_string());
                        return;
                    }
                    controls.push(control_types(&stored.batch));
                }
                Err(error) => return self.unreadable(Severity::Damage, path, error),
            }
        }
        let first = controls.first().and_then(|types| types.first());
        let last = controls.last().and_then(|types| types.last());
        let missing = match (first, last) {
            (Some(ControlType::SnapshotHeader), Some(ControlType::SnapshotFooter)) => return,
            (Some(ControlType::SnapshotHeader), _) => "the footer is missing: it is not whole",
            _ => "it does not begin with the header of a snapshot",
        };
        self.find(Severity::Damage, path, None, missing.to_owned());
    }

    /// The folder of the metadata log, whose batches begin at `log_start`.
    pub(super) fn metadata_folder(&mut self, folder: &Path, names: &[String], log_start: Offset) {
        let mut newest = None;
        for name in names {
            let path = folder.join(name);
            match FileKind::of(name) {
                Some(FileKind::QuorumState) => {
                    self.read(&path);
                }
                Some(FileKind::MetadataSnapshot(id)) => {
                    self.snapshot(&path);
                    newest = newest.max(Some(id));
                }
                _ => {}
            }
        }
        let reach = newest.map_or(Offset::ZERO, |id: SnapshotId| id.end_offset);
        if log_start > reach {
            let text = format!("it begins at offset {log_start}, and no snapshot reaches so far");
            self.find(Severity::Damage, folder, None, text);
        }
    }
}

/// The types of the control records in a batch; none if it is another batch.
fn control_types(batch: &AnyBatch) -> Vec<ControlType> {
    let AnyBatch::V2(batch) = batch else {
        return Vec::new();
    };
    if !batch.header().attributes.is_control() {
        return Vec::new();
    }
    let keys = batch.records().into_iter().flatten().flatten();
    keys.filter_map(|record| ControlType::decode_key(&record.key.unwrap_or_default()).ok())
        .collect()
}
