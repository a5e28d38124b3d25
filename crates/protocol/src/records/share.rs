//! Records of `__share_group_state`: how far share groups are in their partitions (KIP-932).

use tidelog_types::{GroupId, LeaderEpoch, Offset, Timestamp, Uuid};

use crate::message;
pub use crate::messages::read_share_group_state::StateBatch;

coordinator_records! {
    ShareRecordKey, ShareRecordValue;
    ShareSnapshot = 0: ShareSnapshotKey, ShareSnapshotValue;
    ShareUpdate = 1: ShareUpdateKey, ShareUpdateValue;
}

/// Key of the state of a share partition.
#[message(versions = 0..=0)]
pub struct ShareSnapshotKey {
    /// The group.
    pub group_id: GroupId,
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
}

/// The whole state of a share partition.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ShareSnapshotValue {
    /// The number of this snapshot of the share partition.
    pub snapshot_epoch: i32,
    /// The epoch of the share partition; grows when its state is set anew.
    pub state_epoch: i32,
    /// The epoch of the leader that wrote last.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is still to be delivered, or -1 if it is not set yet.
    pub start_offset: Offset,
    /// How many of the records from the start offset on are done with, or -1 if unknown (KIP-1226).
    #[wire(tag = 0, default = -1)]
    pub delivery_complete_count: i32,
    /// When the share partition was set up.
    pub create_timestamp: Timestamp,
    /// When the state was written.
    pub write_timestamp: Timestamp,
    /// The states of the records from the start offset on.
    pub state_batches: Vec<StateBatch>,
}

/// Key of a change of a share partition.
#[message(versions = 0..=0)]
pub struct ShareUpdateKey {
    /// The group.
    pub group_id: GroupId,
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
}

/// What has changed in a share partition since its snapshot.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ShareUpdateValue {
    /// The number of the snapshot that the change belongs to.
    pub snapshot_epoch: i32,
    /// The epoch of the leader that wrote last.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is still to be delivered, or -1 for no change.
    pub start_offset: Offset,
    /// How many of the records from the start offset on are done with, or -1 if unknown (KIP-1226).
    #[wire(tag = 0, default = -1)]
    pub delivery_complete_count: i32,
    /// The states that have changed.
    pub state_batches: Vec<StateBatch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_and_updates_are_told_apart_by_their_keys() {
        let group_id = GroupId::from("g");
        let snapshot = ShareRecordKey::from(ShareSnapshotKey {
            group_id: group_id.clone(),
            ..Default::default()
        });
        let update = ShareRecordKey::from(ShareUpdateKey {
            group_id,
            ..Default::default()
        });
        let (bytes, other) = (snapshot.encode().unwrap(), update.encode().unwrap());
        assert_eq!(bytes[2..], other[2..]);
        assert_eq!(ShareRecordKey::decode(&bytes), Ok(snapshot));
        assert_eq!(ShareRecordKey::decode(&other), Ok(update.clone()));
        let value = ShareRecordValue::from(ShareUpdateValue::default());
        assert_eq!(update.decode_value(&value.encode(0).unwrap()), Ok(value));
    }
}
