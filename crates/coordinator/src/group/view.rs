use std::fmt;

use tidelog_types::{GroupId, PartitionIndex, Str, TopicId, TopicName};

/// What a shard can see of the cluster: the topics, and the settings that groups have of their own.
///
/// The shell implements it over the metadata it has, and hands in a new one with
/// [`Input::ClusterChanged`](super::Input::ClusterChanged). One view never changes.
pub trait ClusterView: fmt::Debug + Send + Sync {
    /// Rises with every change; what expressions match is remembered with it.
    fn version(&self) -> i64;

    /// The topic of that name.
    fn topic(&self, name: &str) -> Option<TopicView>;

    /// The topic with that id.
    fn topic_by_id(&self, id: TopicId) -> Option<TopicView>;

    /// The racks of the brokers that hold a replica of the partition, as far as they are known.
    fn racks(&self, id: TopicId, partition: PartitionIndex) -> Vec<Str>;

    /// The names of all topics.
    fn topic_names(&self) -> Box<dyn Iterator<Item = TopicName> + '_>;

    /// What the group has set for itself.
    fn group_settings(&self, group_id: &GroupId) -> GroupSettings;
}

/// A topic as far as groups are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has.
    pub partitions: i32,
}

/// Dynamic configs of one group (KIP-1043); `None` is the setting of the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupSettings {
    /// `consumer.session.timeout.ms`
    pub consumer_session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`
    pub consumer_heartbeat_interval_ms: Option<i32>,
    /// `consumer.assignment.interval.ms`
    pub consumer_assignment_interval_ms: Option<i32>,
}

/// A topic has changed in a way that matters to who subscribes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicChange {
    /// The topic.
    pub name: TopicName,
    /// What has happened.
    pub kind: TopicChangeKind,
}

/// What has happened to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicChangeKind {
    /// It is new, or there is another one of its name.
    Created,
    /// It has other partitions, or its replicas are in other racks.
    Changed,
    /// It is no more.
    Deleted,
}

/// A cluster without topics: what a shard sees until it is told more.
#[derive(Debug)]
pub(super) struct NothingYet;

impl ClusterView for NothingYet {
    fn version(&self) -> i64 {
        -1
    }

    fn topic(&self, _name: &str) -> Option<TopicView> {
        None
    }

    fn topic_by_id(&self, _id: TopicId) -> Option<TopicView> {
        None
    }

    fn racks(&self, _id: TopicId, _partition: PartitionIndex) -> Vec<Str> {
        Vec::new()
    }

    fn topic_names(&self) -> Box<dyn Iterator<Item = TopicName> + '_> {
        Box::new(std::iter::empty())
    }

    fn group_settings(&self, _group_id: &GroupId) -> GroupSettings {
        GroupSettings::default()
    }
}
