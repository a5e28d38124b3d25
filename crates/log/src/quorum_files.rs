//! What the folder of the metadata log holds besides segments: the vote of this node, and snapshots.

use std::io::{self, IoSlice};
use std::path::Path;
use std::str::FromStr;

use tidelog_types::{NodeId, Offset, Uuid};

use crate::dir::{Access, remove_if_exists};
use crate::directory::{DirectoryError, LogDirectory};
use crate::error::Context;
use crate::json;

const QUORUM_STATE: &str = "quorum-state";
pub(crate) const LOST_LOG: &str = "lost-log";
/// What the name of a snapshot ends with that is not whole.
const PART: &str = ".part";
/// What the name of a snapshot ends with that cannot be read.
pub(crate) const DAMAGED: &str = ".damaged";

impl LogDirectory {
    /// Reads `quorum-state` in the folder of the metadata log; `None` if there is none.
    pub fn read_quorum_state(&self, folder: &str) -> Result<Option<QuorumState>, DirectoryError> {
        let path = Path::new(folder).join(QUORUM_STATE);
        let Some(bytes) = self.read(&path)? else {
            return Ok(None);
        };
        let state = QuorumState::parse(&String::from_utf8_lossy(&bytes));
        state.map(Some).map_err(|reason| DirectoryError::Damaged {
            path,
            reason,
            mend: "restore it from a copy; without it this node could vote twice in one epoch",
        })
    }

    /// Replaces `quorum-state` in the folder of the metadata log, durably, also the folder if it is new.
    pub fn write_quorum_state(
        &self,
        folder: &str,
        state: &QuorumState,
    ) -> Result<(), DirectoryError> {
        let path = Path::new(folder).join(QUORUM_STATE);
        // A file that is there has a folder that is durable.
        let is_new = self.read(&path)?.is_none();
        if is_new {
            let folder = Path::new(folder);
            self.dir.create_dir(folder).context("create", folder)?;
        }
        self.replace(&path, state.encode().as_bytes())?;
        if is_new {
            let root = Path::new("");
            self.dir.sync_dir(root).context("sync", root)?;
        }
        Ok(())
    }

    /// Reads where the metadata log ended before a part of it was lost; `None` if nothing was, or all of it is back.
    pub fn read_lost_log(&self, folder: &str) -> Result<Option<LostLog>, DirectoryError> {
        let path = Path::new(folder).join(LOST_LOG);
        let Some(bytes) = self.read(&path)? else {
            return Ok(None);
        };
        let lost = LostLog::parse(&String::from_utf8_lossy(&bytes));
        lost.map(Some).map_err(|reason| DirectoryError::Damaged {
            path,
            reason,
            mend: "restore it from a copy; without it this node could vote as if it had never had what it lost",
        })
    }

    /// Writes where the metadata log ended, durably, before a part of it is removed.
    pub fn write_lost_log(&self, folder: &str, lost: LostLog) -> Result<(), DirectoryError> {
        let path = Path::new(folder).join(LOST_LOG);
        Ok(self.replace(&path, lost.encode().as_bytes())?)
    }

    /// Forgets that a part of the metadata log was lost: all of it is back.
    pub fn remove_lost_log(&self, folder: &str) -> Result<(), DirectoryError> {
        let path = Path::new(folder).join(LOST_LOG);
        Ok(remove_if_exists(&*self.dir, &path).context("remove", &path)?)
    }

    /// Gives a snapshot that cannot be read another name, durably, so that nobody takes it for one.
    pub fn set_aside_snapshot(&self, folder: &str, id: SnapshotId) -> Result<(), DirectoryError> {
        let path = Path::new(folder).join(id.file_name());
        let aside = Path::new(folder).join(id.file_name() + DAMAGED);
        let set_aside = || {
            self.dir.rename(&path, &aside)?;
            self.dir.sync_dir(Path::new(folder))
        };
        Ok(set_aside().context("rename", &path)?)
    }

    /// The snapshots in the folder of the metadata log, oldest first.
    pub fn snapshots(&self, folder: &str) -> Result<Vec<SnapshotId>, DirectoryError> {
        let entries = match self.dir.list(Path::new(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("list", Path::new(folder))?,
        };
        let ids = entries
            .iter()
            .filter_map(|entry| SnapshotId::parse(&entry.name));
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Reads a snapshot: batches, back to back. `None` if it does not exist.
    pub fn read_snapshot(
        &self,
        folder: &str,
        id: SnapshotId,
    ) -> Result<Option<bytes::Bytes>, DirectoryError> {
        Ok(self.read(&Path::new(folder).join(id.file_name()))?)
    }

    /// Writes a snapshot, durably and as a whole.
    pub fn write_snapshot(
        &self,
        folder: &str,
        id: SnapshotId,
        content: &[u8],
    ) -> Result<(), DirectoryError> {
        Ok(self.replace(&Path::new(folder).join(id.file_name()), content)?)
    }

    /// The size of a snapshot in bytes; `None` if it does not exist.
    pub fn snapshot_size(
        &self,
        folder: &str,
        id: SnapshotId,
    ) -> Result<Option<u64>, DirectoryError> {
        let path = Path::new(folder).join(id.file_name());
        let len = match self.dir.open(&path, Access::Read) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        };
        Ok(Some(len.context("read", &path)?))
    }

    /// Reads up to `max_bytes` of a snapshot from `position` on; `None` if it does not exist.
    pub fn read_snapshot_at(
        &self,
        folder: &str,
        id: SnapshotId,
        position: u64,
        max_bytes: usize,
    ) -> Result<Option<bytes::Bytes>, DirectoryError> {
        let path = Path::new(folder).join(id.file_name());
        let read = || {
            let file = self.dir.open(&path, Access::Read)?;
            let left = file.len()?.saturating_sub(position);
            let mut bytes = vec![0; max_bytes.min(usize::try_from(left).unwrap_or(max_bytes))];
            let n = file.read_full_at(&mut bytes, position)?;
            bytes.truncate(n);
            Ok::<bytes::Bytes, io::Error>(bytes.into())
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("read", &path)?,
        }
    }

    /// Writes a piece of a snapshot that comes in pieces, and cuts off what its unfinished file may have beyond. Position 0
    /// begins the file anew, and the folder if need be.
    pub fn write_snapshot_part(
        &self,
        folder: &str,
        id: SnapshotId,
        position: u64,
        bytes: &[u8],
    ) -> Result<(), DirectoryError> {
        let path = Path::new(folder).join(id.part_name());
        let write = || {
            if position == 0 {
                self.dir.create_dir(Path::new(folder))?;
                self.dir.sync_dir(Path::new(""))?;
            }
            let file = self.dir.open(&path, Access::Create)?;
            file.set_len(position)?;
            file.write_all_at(&mut [IoSlice::new(bytes)], position)
        };
        Ok(write().context("write", &path)?)
    }

    /// Reads what there is of a snapshot that comes in pieces.
    pub fn read_snapshot_part(
        &self,
        folder: &str,
        id: SnapshotId,
    ) -> Result<Option<bytes::Bytes>, DirectoryError> {
        Ok(self.read(&Path::new(folder).join(id.part_name()))?)
    }

    /// Makes a snapshot durable of which all pieces are there, and gives it its name.
    pub fn finish_snapshot_part(&self, folder: &str, id: SnapshotId) -> Result<(), DirectoryError> {
        let part = Path::new(folder).join(id.part_name());
        let finish = || {
            self.dir.open(&part, Access::Write)?.sync_all()?;
            let path = Path::new(folder).join(id.file_name());
            self.dir.rename(&part, &path)?;
            self.dir.sync_dir(Path::new(folder))
        };
        Ok(finish().context("write", &part)?)
    }

    /// Removes the unfinished files of snapshots, all but that of `except`.
    pub fn remove_snapshot_parts(
        &self,
        folder: &str,
        except: Option<SnapshotId>,
    ) -> Result<(), DirectoryError> {
        let entries = match self.dir.list(Path::new(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).context("list", Path::new(folder))?,
        };
        let kept = except.map(|id| id.part_name());
        let parts = entries.iter().filter(|entry| {
            let is_part = entry.name.strip_suffix(PART).and_then(SnapshotId::parse);
            is_part.is_some() && Some(&entry.name) != kept.as_ref()
        });
        for part in parts {
            let path = Path::new(folder).join(&part.name);
            remove_if_exists(&*self.dir, &path).context("remove", &path)?;
        }
        Ok(())
    }

    /// Removes a snapshot.
    pub fn remove_snapshot(&self, folder: &str, id: SnapshotId) -> Result<(), DirectoryError> {
        let path = Path::new(folder).join(id.file_name());
        Ok(remove_if_exists(&*self.dir, &path).context("remove", &path)?)
    }
}

/// Whom a voter of the metadata quorum follows or voted for: what it must not forget (KIP-595).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumState {
    /// The leader of the epoch, if known.
    pub leader_id: Option<NodeId>,
    /// The epoch.
    pub leader_epoch: i32,
    /// Whom the voter voted for in this epoch.
    pub voted_id: Option<NodeId>,
    /// The directory of that candidate; zero if unknown.
    pub voted_directory_id: Uuid,
}

impl QuorumState {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let number = |name: &str| number::<i32>(text, name);
        match number("data_version")? {
            0 | 1 => {}
            version => return Err(format!("data_version is {version}, expected 0 or 1")),
        }
        let node = |id: i32| (id >= 0).then(|| NodeId::new(id));
        let directory = json::field(text, "votedDirectoryId").map_or(Ok(Uuid::ZERO), str::parse);
        Ok(Self {
            leader_id: node(number("leaderId")?),
            leader_epoch: number("leaderEpoch")?,
            voted_id: node(number("votedId")?),
            voted_directory_id: directory.map_err(|error| format!("votedDirectoryId: {error}"))?,
        })
    }

    /// Version 1 of the file (KIP-853).
    fn encode(&self) -> String {
        format!(
            "{{\"leaderId\":{},\"leaderEpoch\":{},\"votedId\":{},\"votedDirectoryId\":\"{}\",\"data_version\":1}}",
            self.leader_id.unwrap_or(NodeId::NONE),
            self.leader_epoch,
            self.voted_id.unwrap_or(NodeId::NONE),
            self.voted_directory_id,
        )
    }
}

/// Where the metadata log ended before a part of it was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostLog {
    /// The log end offset.
    pub end_offset: Offset,
    /// The leader epoch of the last record.
    pub leader_epoch: i32,
}

impl LostLog {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self {
            end_offset: Offset::new(number(text, "endOffset")?),
            leader_epoch: number(text, "leaderEpoch")?,
        })
    }

    fn encode(self) -> String {
        format!(
            "{{\"endOffset\":{},\"leaderEpoch\":{},\"data_version\":0}}",
            self.end_offset, self.leader_epoch
        )
    }
}

fn number<T: FromStr>(text: &str, name: &str) -> Result<T, String> {
    let value = json::field(text, name);
    let value = value.ok_or_else(|| format!("the field {name} is missing"))?;
    let parsed = value.parse();
    parsed.map_err(|_| format!("{name} is {value:?}, expected a number"))
}

/// Which part of the metadata log a snapshot replaces (KIP-630).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId {
    /// The offset behind the last record that the snapshot reflects.
    pub end_offset: Offset,
    /// The leader epoch of that record.
    pub epoch: i32,
}

impl SnapshotId {
    /// The name of the file: 20 digits of offset, 10 of epoch.
    pub fn file_name(&self) -> String {
        format!(
            "{:020}-{:010}.checkpoint",
            self.end_offset.value(),
            self.epoch
        )
    }

    /// The name of the file while it is not whole.
    fn part_name(&self) -> String {
        self.file_name() + PART
    }

    /// Reads the name of a file; unfinished ones have others.
    pub fn parse(name: &str) -> Option<Self> {
        let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
        let is_right = offset.len() == 20 && epoch.len() == 10;
        is_right.then_some(())?;
        Some(Self {
            end_offset: Offset::new(offset.parse().ok()?),
            epoch: epoch.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{Crash, FaultDir};

    #[test]
    fn quorum_state_is_kafkas() {
        let text = "{\"leaderId\":1,\"leaderEpoch\":4,\"votedId\":-1,\
                    \"votedDirectoryId\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"data_version\":1}";
        let state = QuorumState::parse(text).unwrap();
        assert_eq!(state.leader_id, Some(NodeId::new(1)));
        assert_eq!(state.voted_id, None);
        assert_eq!(state.encode(), text);
        let old = "{\"clusterId\":\"\",\"leaderId\":-1,\"leaderEpoch\":2,\"votedId\":3,\
                   \"appliedOffset\":0,\"currentVoters\":[{\"voterId\":3}],\"data_version\":0}";
        assert_eq!(
            QuorumState::parse(old).unwrap().voted_id,
            Some(NodeId::new(3))
        );
        assert_eq!(
            QuorumState::parse("{}").unwrap_err(),
            "the field data_version is missing"
        );
    }

    #[test]
    fn snapshots_are_named_by_offset_and_epoch() {
        let id = SnapshotId {
            end_offset: Offset::new(178),
            epoch: 1,
        };
        assert_eq!(id.file_name(), "00000000000000000178-0000000001.checkpoint");
        assert_eq!(SnapshotId::parse(&id.file_name()), Some(id));
        assert_eq!(SnapshotId::parse("bootstrap.checkpoint"), None);
        assert_eq!(SnapshotId::parse(&format!("{}.part", id.file_name())), None);
    }

    #[test]
    fn what_was_lost_is_remembered_until_it_is_back() {
        let dir = FaultDir::new();
        let directory = LogDirectory::open(Arc::new(dir.clone())).unwrap();
        let id = SnapshotId {
            end_offset: Offset::new(90),
            epoch: 3,
        };
        let state = QuorumState::parse(
            "{\"leaderId\":-1,\"leaderEpoch\":4,\"votedId\":-1,\"data_version\":1}",
        );
        directory
            .write_quorum_state("meta", &state.unwrap())
            .unwrap();
        directory.write_snapshot("meta", id, b"bad").unwrap();
        assert_eq!(directory.read_lost_log("meta").unwrap(), None);
        let lost = LostLog {
            end_offset: Offset::new(120),
            leader_epoch: 4,
        };
        directory.write_lost_log("meta", lost).unwrap();
        directory.set_aside_snapshot("meta", id).unwrap();
        dir.crash(Crash::LoseUnsynced);
        let directory = LogDirectory::open(Arc::new(dir)).unwrap();
        assert_eq!(directory.snapshots("meta").unwrap(), []);
        assert_eq!(directory.read_lost_log("meta").unwrap(), Some(lost));
        directory.remove_lost_log("meta").unwrap();
        assert_eq!(directory.read_lost_log("meta").unwrap(), None);
    }

    #[test]
    fn a_snapshot_comes_in_pieces() {
        let dir = FaultDir::new();
        let directory = LogDirectory::open(Arc::new(dir.clone())).unwrap();
        let id = |offset| SnapshotId {
            end_offset: Offset::new(offset),
            epoch: 2,
        };
        let write = |position, bytes: &[u8]| {
            directory
                .write_snapshot_part("meta", id(7), position, bytes)
                .unwrap();
        };
        write(0, b"abcd");
        write(4, b"efgh");
        // Once more, since the answer to the last piece was lost.
        write(4, b"ef");
        assert_eq!(directory.snapshots("meta").unwrap(), []);
        let part = directory.read_snapshot_part("meta", id(7)).unwrap();
        assert_eq!(part.unwrap(), &b"abcdef"[..]);
        directory.finish_snapshot_part("meta", id(7)).unwrap();
        dir.crash(Crash::LoseUnsynced);
        let directory = LogDirectory::open(Arc::new(dir)).unwrap();
        assert_eq!(directory.snapshots("meta").unwrap(), [id(7)]);
        assert_eq!(directory.snapshot_size("meta", id(7)).unwrap(), Some(6));
        assert_eq!(directory.snapshot_size("meta", id(8)).unwrap(), None);
        let piece = |position| directory.read_snapshot_at("meta", id(7), position, 4);
        assert_eq!(piece(4).unwrap().unwrap(), &b"ef"[..]);
        assert_eq!(piece(9).unwrap().unwrap(), &b""[..]);
        directory
            .write_snapshot_part("meta", id(9), 0, b"x")
            .unwrap();
        directory
            .remove_snapshot_parts("meta", Some(id(9)))
            .unwrap();
        assert!(
            directory
                .read_snapshot_part("meta", id(9))
                .unwrap()
                .is_some()
        );
        directory.remove_snapshot_parts("meta", None).unwrap();
        assert_eq!(directory.read_snapshot_part("meta", id(9)).unwrap(), None);
    }
}
