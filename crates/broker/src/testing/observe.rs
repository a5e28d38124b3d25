//! What a broker has, as values: records, groups, committed offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tidelog_coordinator::group::{ClientInfo, GroupRequest, GroupResponse};
use tidelog_protocol::messages::consumer_group_describe::{self, ConsumerGroupDescribeRequest};
use tidelog_protocol::messages::describe_groups::{self, DescribeGroupsRequest};
use tidelog_protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use tidelog_protocol::records::consumer_protocol::ConsumerProtocolAssignment;
use tidelog_types::{GroupId, Offset};

use super::TimedOut;
use crate::Broker;
use crate::clock::real;
use crate::node::Node;

/// How often is looked for what a test waits for, where nothing tells that it has come.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The versions in which the coordinators are asked.
const DESCRIBE_CLASSIC: i16 = 6;
const DESCRIBE_CONSUMER: i16 = 1;
const OFFSET_FETCH: i16 = 9;

/// A record that lies in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRecord {
    /// The partition.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// Its time, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The content.
    pub value: Option<Bytes>,
    /// Further pairs, in their order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl StoredRecord {
    /// The content as text; one that is no text is shown as well as can be, and one that is not there is empty.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

/// A group, as its coordinator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupState {
    /// Kafka's name of the state, such as `Stable`, `Empty`, `PreparingRebalance` or `Reconciling`; `Dead` where there is no
    /// such group.
    pub state: String,
    /// The members, by their id.
    pub members: BTreeMap<String, MemberState>,
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberState {
    /// What its client calls itself.
    pub client_id: String,
    /// The partitions that it has, by topic, in order.
    pub partitions: Vec<(String, i32)>,
}

impl GroupState {
    /// The partitions that members have, in order: one that two of them have is there twice.
    pub fn assigned(&self) -> Vec<(String, i32)> {
        let members = self.members.values();
        let mut assigned: Vec<_> = members.flat_map(|m| m.partitions.clone()).collect();
        assigned.sort();
        assigned
    }
}

impl Broker {
    fn node(&self) -> Option<&Node> {
        self.serving.as_ref().map(|serving| &*serving.node)
    }

    /// The records that consumers may read in those partitions of a topic of which this broker has a replica: partition by
    /// partition, oldest first. None where there is no such topic.
    pub fn stored_records(&self, topic: &str) -> Vec<StoredRecord> {
        let topic = self
            .node()
            .and_then(|node| node.store.topics.by_name(topic));
        let partitions = topic.map(|topic| topic.partitions()).unwrap_or_default();
        let mut stored = Vec::new();
        for partition in partitions {
            let marks = partition.published().marks;
            let batches = partition
                .reader()
                .batches(marks.log_start_offset, marks.high_watermark);
            // A log that cannot be read says so to whoever reads it over the network.
            for batch in batches.map_while(Result::ok) {
                let records = batch.records().into_iter().flatten();
                // A batch may begin before the log does, which was cut off in its middle.
                let range = marks.log_start_offset..marks.high_watermark;
                let records = records.map_while(Result::ok);
                let records = records.filter(|record| range.contains(&record.offset));
                stored.extend(records.map(|record| {
                    StoredRecord {
                        partition: partition.name.partition,
                        offset: record.offset.value(),
                        timestamp_ms: record.timestamp.as_millis(),
                        key: record.key,
                        value: record.value,
                        headers: record
                            .headers
                            .iter()
                            .map(|header| (header.key_text().into_owned(), header.value.clone()))
                            .collect(),
                    }
                }));
            }
        }
        stored
    }

    /// Returns when consumers may read up to this offset, itself among it.
    pub async fn wait_for_offset(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), TimedOut> {
        self.look_for(|| async {
            let topic_here = self
                .node()
                .and_then(|node| node.store.topics.by_name(topic));
            let found = topic_here.and_then(|topic| topic.partition(partition).ok().flatten());
            match found.map(|partition| partition.published().marks.high_watermark) {
                Some(end) if end > Offset::new(offset) => Ok(()),
                Some(end) => Err(format!(
                    "offset {offset} of {topic}-{partition} was waited for, its high watermark is {end}"
                )),
                None => Err(format!(
                    "offset {offset} of {topic}-{partition} was waited for, there is no such partition here"
                )),
            }
        })
        .await
    }

    /// A group of which this broker is the coordinator, whichever protocol it speaks.
    pub async fn group(&self, group_id: &str) -> GroupState {
        match self.consumer_group(group_id).await {
            Some(group) => group,
            None => self.classic_group(group_id).await.unwrap_or_else(dead),
        }
    }

    /// Returns when a group has exactly so many members and all of them have what they are to have (`Stable`).
    pub async fn wait_for_group(
        &self,
        group_id: &str,
        members: usize,
    ) -> Result<GroupState, TimedOut> {
        self.look_for(|| async {
            let group = self.group(group_id).await;
            if group.state == "Stable" && group.members.len() == members {
                return Ok(group);
            }
            Err(format!(
                "{members} members of a stable group {group_id} were waited for, it is {group:?}"
            ))
        })
        .await
    }

    /// The offsets that a group has committed, by topic and partition: where it goes on.
    pub async fn committed_offsets(&self, group_id: &str) -> BTreeMap<(String, i32), i64> {
        let request = GroupRequest::OffsetFetch {
            group: OffsetFetchRequestGroup {
                group_id: group_id.into(),
                member_epoch: -1,
                ..Default::default()
            },
            require_stable: false,
        };
        let Some(GroupResponse::OffsetFetch(group)) =
            self.ask_group(group_id, OFFSET_FETCH, request).await
        else {
            return BTreeMap::new();
        };
        let topics = group.topics.into_iter();
        topics
            .flat_map(|topic| {
                let name = topic.name.to_string();
                topic.partitions.into_iter().map(move |partition| {
                    let offset = partition.committed_offset.value();
                    ((name.clone(), partition.partition_index), offset)
                })
            })
            .collect()
    }

    /// Returns when a group has committed this offset of a partition or a later one.
    pub async fn wait_for_commit(
        &self,
        group_id: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), TimedOut> {
        let at = (topic.to_owned(), partition);
        self.look_for(|| async {
            let committed = self.committed_offsets(group_id).await;
            match committed.get(&at) {
                Some(committed) if *committed >= offset => Ok(()),
                _ => Err(format!(
                    "offset {offset} of {topic}-{partition} was waited for from group {group_id}, it has committed {committed:?}"
                )),
            }
        })
        .await
    }

    async fn ask_group(
        &self,
        group_id: &str,
        version: i16,
        request: GroupRequest,
    ) -> Option<GroupResponse> {
        let client = ClientInfo {
            client_id: "test".into(),
            client_host: "/test".into(),
        };
        let groups = &self.node()?.groups;
        let group_id = GroupId::from(group_id);
        Some(groups.request(&group_id, version, client, request).await)
    }

    async fn consumer_group(&self, group_id: &str) -> Option<GroupState> {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![group_id.into()],
            ..Default::default()
        };
        let request = GroupRequest::ConsumerGroupDescribe(request);
        let answer = self.ask_group(group_id, DESCRIBE_CONSUMER, request).await;
        let Some(GroupResponse::ConsumerGroupDescribe(mut described)) = answer else {
            return None;
        };
        let group = described
            .groups
            .pop()
            .filter(|group| group.error_code.is_ok())?;
        let member = |member: consumer_group_describe::Member| {
            let topics = member.assignment.topic_partitions.into_iter();
            let topics = topics.map(|topic| (topic.topic_name.to_string(), topic.partitions));
            let state = MemberState {
                client_id: member.client_id.to_string(),
                partitions: partitions(topics),
            };
            (member.member_id.to_string(), state)
        };
        Some(GroupState {
            state: group.group_state.to_string(),
            members: group.members.into_iter().map(member).collect(),
        })
    }

    async fn classic_group(&self, group_id: &str) -> Option<GroupState> {
        let request = DescribeGroupsRequest {
            groups: vec![group_id.into()],
            ..Default::default()
        };
        let request = GroupRequest::DescribeGroups(request);
        let answer = self.ask_group(group_id, DESCRIBE_CLASSIC, request).await;
        let Some(GroupResponse::DescribeGroups(mut described)) = answer else {
            return None;
        };
        let group = described
            .groups
            .pop()
            .filter(|group| group.error_code.is_ok())?;
        let member = |member: describe_groups::DescribedGroupMember| {
            let assignment =
                ConsumerProtocolAssignment::decode_versioned(&member.member_assignment);
            let assignment = assignment.unwrap_or_default();
            let topics = assignment.assigned_partitions.into_iter();
            let topics = topics.map(|topic| (topic.topic.to_string(), topic.partitions));
            let state = MemberState {
                client_id: member.client_id.to_string(),
                partitions: partitions(topics),
            };
            (member.member_id.to_string(), state)
        };
        Some(GroupState {
            state: group.group_state.to_string(),
            members: group.members.into_iter().map(member).collect(),
        })
    }

    /// Looks until there is something, or patience ends.
    async fn look_for<T, F: Future<Output = Result<T, String>>>(
        &self,
        look: impl Fn() -> F,
    ) -> Result<T, TimedOut> {
        let patience = self.patience();
        let until = real::now() + patience;
        loop {
            match look().await {
                Ok(found) => return Ok(found),
                Err(lacking) if real::now() >= until => {
                    return Err(TimedOut::new(patience, lacking));
                }
                Err(_) => real::sleep(LOOK_EVERY).await,
            }
        }
    }
}

fn dead() -> GroupState {
    GroupState {
        state: "Dead".to_owned(),
        ..Default::default()
    }
}

fn partitions(topics: impl Iterator<Item = (String, Vec<i32>)>) -> Vec<(String, i32)> {
    let mut partitions: Vec<_> = topics
        .flat_map(|(topic, partitions)| {
            let partitions = partitions.into_iter();
            partitions.map(move |partition| (topic.clone(), partition))
        })
        .collect();
    partitions.sort();
    partitions
}
