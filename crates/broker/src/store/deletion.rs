//! Partitions and segments that are to be gone, and their files, which go when nobody can be reading them any more.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tidelog_log::DeletedSegment;
use tidelog_replication::partition::Leadership;
use tidelog_types::{Now, PartitionIndex, Timestamp, TopicId};

use super::Store;
use super::partition::Partition;
use super::topics::LocalTopic;

/// Files that nobody should need any more.
pub(super) enum Doomed {
    Segment(DeletedSegment),
    /// A folder of the directory of that index.
    Folder(usize, PathBuf),
}

impl Store {
    /// Takes a topic out of service; its files go when nobody can be reading them any more.
    pub(crate) fn delete_topic(&self, id: TopicId) {
        let Some(topic) = self.topics.remove(id) else {
            return;
        };
        let delay = Duration::from_millis(topic.config().file_delete_delay_ms.unsigned_abs());
        for partition in topic.partitions() {
            self.delete(&partition, delay);
        }
    }

    /// Takes a replica out of service that is not to be on this node any more.
    pub(crate) fn delete_partition(&self, id: TopicId, index: PartitionIndex) {
        let Some(topic) = self.topics.by_id(id) else {
            return;
        };
        if let Some(partition) = topic.take(index) {
            let delay = topic.config().file_delete_delay_ms.unsigned_abs();
            tracing::info!(partition = %partition.name, "a replica that is no longer assigned to this node is deleted");
            self.delete(&partition, Duration::from_millis(delay));
        }
    }

    /// The files of a deleted log go when nobody can be reading them any more.
    fn delete(&self, partition: &Partition, delay: Duration) {
        self.cancel_move(&partition.name);
        match partition.delete() {
            Ok(None) => {}
            Ok(Some(folder)) => self.doom(delay, Doomed::Folder(partition.directory(), folder)),
            Err(error) => {
                tracing::error!(partition = %partition.name, %error, "cannot delete a log");
            }
        }
        self.directories[partition.directory()].forget(&partition.name);
    }

    pub(super) fn doom(&self, delay: Duration, doomed: Doomed) {
        self.doomed
            .lock()
            .push((self.clock.now().instant + delay, doomed));
    }

    /// Has the files of segments removed when nobody can be reading them any more.
    pub(crate) fn doom_segments(&self, topic: &LocalTopic, segments: Vec<DeletedSegment>) {
        let delay = Duration::from_millis(topic.config().file_delete_delay_ms.unsigned_abs());
        for segment in segments {
            self.doom(delay, Doomed::Segment(segment));
        }
    }

    /// Applies `retention.ms` and `retention.bytes`, forgets producers that were idle for long, and puts logs to rest that
    /// nobody has used since the last time.
    pub(crate) fn delete_old_segments(&self) {
        let now = self.clock.now();
        for topic in self.topics.all() {
            for partition in topic.partitions() {
                // What is too old is for the leader to say, whose log start offset the others take over: clocks may be apart.
                let judged_at = match partition.published().leadership {
                    Leadership::Follower { .. } => Timestamp::NONE,
                    _ => now.timestamp,
                };
                let judged_at = Now {
                    timestamp: judged_at,
                    ..now
                };
                let deleted = partition.with_log(|log, marks| {
                    log.expire_producers(now);
                    log.delete_old_segments(judged_at, marks.high_watermark)
                });
                match deleted {
                    Ok(deleted) => self.doom_segments(&topic, deleted),
                    Err(error) => {
                        let partition = &partition.name;
                        tracing::error!(%partition, %error, "cannot delete old segments");
                    }
                }
                partition.rest();
            }
        }
    }

    /// Removes the files of deleted segments and topics whose time has come.
    pub(crate) fn remove_deleted_files(&self) {
        let now = self.clock.now().instant;
        let due: Vec<_> = self
            .doomed
            .lock()
            .extract_if(.., |(at, _)| *at <= now)
            .collect();
        self.remove(due);
    }

    pub(super) fn remove(&self, due: Vec<(Instant, Doomed)>) {
        for (_, doomed) in due {
            let removed = match doomed {
                Doomed::Segment(segment) => segment.remove().map_err(|error| error.to_string()),
                Doomed::Folder(directory, folder) => {
                    let directory = &self.directories[directory].files;
                    directory
                        .remove_folder(folder)
                        .map_err(|error| error.to_string())
                }
            };
            if let Err(error) = removed {
                tracing::warn!(%error, "cannot remove deleted files");
            }
        }
    }
}
