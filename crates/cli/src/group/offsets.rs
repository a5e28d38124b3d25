//! Committed offsets of a group: how far behind, set anew, deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::SystemTime;

use clap::Args;
use tidelog_client::{Client, CommittedOffset, GroupDescription, GroupMember, OffsetSpec};
use tidelog_types::{ErrorCode, GroupId, Offset, Timestamp, TopicPartition};

use super::show;
use crate::output::Format;
use crate::partitions::{self, at, offset, since_1970, time};

/// A partition of a group: what is committed, where the partition ends, and whose it is.
pub(super) struct Lag {
    pub(super) partition: TopicPartition,
    pub(super) committed: Option<CommittedOffset>,
    pub(super) end: Result<Offset, ErrorCode>,
    pub(super) owner: Option<GroupMember>,
}

impl Lag {
    /// How many records are still to be read.
    pub(super) fn lag(&self) -> Option<i64> {
        let end = self.end.as_ref().ok()?;
        Some((end.value() - self.committed.as_ref()?.offset.value()).max(0))
    }
}

/// Every partition that a group has committed offsets for, or that a member owns.
pub(super) async fn lags(
    client: &Client,
    group: &GroupDescription,
) -> Result<Vec<Lag>, Box<dyn Error>> {
    let committed = client.committed_offsets(&group.group_id).await?;
    let mut committed: BTreeMap<_, _> = committed
        .into_iter()
        .map(|committed| (committed.partition.clone(), committed))
        .collect();
    let mut owners: BTreeMap<_, _> = group
        .members
        .iter()
        .flat_map(|member| member.assignment.iter().map(move |p| (p.clone(), member)))
        .collect();
    let partitions: BTreeSet<_> = committed.keys().chain(owners.keys()).cloned().collect();
    let mut ends = at(client, partitions, OffsetSpec::Latest).await?;
    let mut lags = Vec::new();
    while let Some((partition, end)) = ends.pop_first() {
        lags.push(Lag {
            committed: committed.remove(&partition),
            owner: owners.remove(&partition).cloned(),
            end: end.map(|end| end.offset.unwrap_or(Offset::NONE)),
            partition,
        });
    }
    Ok(lags)
}

/// Which partitions a command is about.
#[derive(Args)]
struct Scope {
    /// A topic, or some of its partitions as TOPIC:0,1,2; may be given several times.
    #[arg(
        long,
        value_name = "TOPIC[:PARTITIONS]",
        required_unless_present = "all_topics"
    )]
    topic: Vec<String>,
    /// Every partition for which the group has committed an offset.
    #[arg(long, conflicts_with = "topic")]
    all_topics: bool,
}

impl Scope {
    async fn partitions(
        &self,
        client: &Client,
        committed: &[CommittedOffset],
    ) -> Result<BTreeSet<TopicPartition>, Box<dyn Error>> {
        if self.all_topics {
            return Ok(committed.iter().map(|c| c.partition.clone()).collect());
        }
        partitions::named(client, &self.topic).await
    }
}

#[derive(Args)]
pub(super) struct Reset {
    /// The group.
    group: String,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    target: Target,
    /// Do it, instead of showing what would be done.
    #[arg(long)]
    execute: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// To the first record that there is.
    #[arg(long)]
    to_earliest: bool,
    /// Behind the last record.
    #[arg(long)]
    to_latest: bool,
    /// To this offset, or the nearest that there is.
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// By so many records, forwards or with a minus sign backwards, as far as there are records.
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// To the first record of this time or later, as 2026-11-23T08:00:00Z or in milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to_datetime: Option<i64>,
    /// To the first record that is at most this old, such as 2h or 30min.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    by_duration: Option<std::time::Duration>,
    /// To the last record that was committed already: only drops offsets that no longer exist into range.
    #[arg(long)]
    to_current: bool,
}

/// One line of a plan.
pub(super) struct Change {
    pub(super) partition: TopicPartition,
    pub(super) from: Option<Offset>,
    pub(super) to: Offset,
}

impl Reset {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<String, Box<dyn Error>> {
        let group = GroupId::from(self.group.as_str());
        let committed = client.committed_offsets(&group).await?;
        let partitions = self.scope.partitions(client, &committed).await?;
        if partitions.is_empty() {
            return Err(format!("group {group} has committed no offset").into());
        }
        let changes = self.plan(client, &committed, partitions).await?;
        if self.execute {
            let members = client
                .describe_group(&group)
                .await?
                .map_or(0, |group| group.members.len());
            if members > 0 {
                return Err(format!(
                    "the members of group {group} have to stop first; there are {members} of them"
                )
                .into());
            }
            let offsets = changes
                .iter()
                .map(|change| (change.partition.clone(), change.to));
            client.commit_offsets(&group, &offsets.collect()).await?;
        }
        Ok(show::changes(&group, &changes, self.execute, format))
    }

    async fn plan(
        &self,
        client: &Client,
        committed: &[CommittedOffset],
        partitions: BTreeSet<TopicPartition>,
    ) -> Result<Vec<Change>, Box<dyn Error>> {
        let first = at(client, partitions.clone(), OffsetSpec::Earliest).await?;
        let last = at(client, partitions.clone(), OffsetSpec::Latest).await?;
        let by_time = match self.target.timestamp() {
            Some(time) => at(client, partitions.clone(), OffsetSpec::At(time)).await?,
            None => BTreeMap::new(),
        };
        let mut changes = Vec::new();
        for partition in partitions {
            let first = offset(&first, &partition)?.unwrap_or(Offset::ZERO);
            let last = offset(&last, &partition)?.unwrap_or(first);
            let from = committed
                .iter()
                .find(|committed| committed.partition == partition);
            let from = from.map(|committed| committed.offset);
            let wanted = match (&self.target.timestamp(), self.target.of(from, first, last)) {
                (Some(_), _) => offset(&by_time, &partition)?.unwrap_or(last),
                (None, wanted) => wanted.ok_or_else(|| {
                    format!("nothing is committed for {partition}; --to-offset or another target is needed")
                })?,
            };
            changes.push(Change {
                to: wanted.clamp(first, last),
                from,
                partition,
            });
        }
        Ok(changes)
    }
}

impl Target {
    /// The time that is asked for, if it is one.
    fn timestamp(&self) -> Option<Timestamp> {
        let age = self.by_duration;
        let time = self.to_datetime.or_else(|| {
            let age = i64::try_from(age?.as_millis()).unwrap_or(i64::MAX);
            Some(since_1970(SystemTime::now()).saturating_sub(age).max(0))
        });
        time.map(Timestamp::from_millis)
    }

    /// The offset that is asked for, if it is not a time.
    fn of(&self, committed: Option<Offset>, first: Offset, last: Offset) -> Option<Offset> {
        if self.to_earliest {
            return Some(first);
        }
        if self.to_latest {
            return Some(last);
        }
        if let Some(offset) = self.to_offset {
            return Some(Offset::new(offset));
        }
        let by = self.shift_by.unwrap_or(0);
        committed.map(|committed| Offset::new(committed.value().saturating_add(by)))
    }
}

#[derive(Args)]
pub(super) struct Delete {
    /// The group.
    group: String,
    #[command(flatten)]
    scope: Scope,
}

impl Delete {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<String, Box<dyn Error>> {
        let group = GroupId::from(self.group.as_str());
        let committed = client.committed_offsets(&group).await?;
        let partitions = self.scope.partitions(client, &committed).await?;
        let held = committed.into_iter().map(|committed| committed.partition);
        let partitions: Vec<_> = held
            .filter(|partition| partitions.contains(partition))
            .collect();
        if partitions.is_empty() {
            return Err(format!("group {group} has committed no such offset").into());
        }
        client.delete_offsets(&group, &partitions).await?;
        Ok(show::deleted_offsets(&group, &partitions, format))
    }
}
