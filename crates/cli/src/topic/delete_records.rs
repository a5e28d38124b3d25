//! `tidelog topic delete-records`.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;
use tidelog_client::{Client, ClientError, OffsetSpec};
use tidelog_types::{Offset, Timestamp, TopicPartition};

use crate::output::{Format, Outcome, failure, pretty, table};
use crate::partitions::{Found, at, named, offset, since_1970, time};

#[derive(Args)]
pub(super) struct DeleteRecords {
    /// Topics, or some of their partitions as TOPIC:0,1,2.
    #[arg(value_name = "TOPIC[:PARTITIONS]", required = true)]
    partitions: Vec<String>,
    #[command(flatten)]
    until: Until,
    /// Only show what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

/// Where the records begin that stay.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Until {
    /// Those in front of this offset, as far as there are any.
    #[arg(long, value_name = "OFFSET")]
    before_offset: Option<i64>,
    /// Those in front of the first record of this time or later, as 2026-11-23T08:00:00Z or in milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time)]
    before_datetime: Option<i64>,
    /// Those in front of the first record that is at most this old, such as 2h or 30min.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// All that there are.
    #[arg(long)]
    all: bool,
}

impl Until {
    fn timestamp(&self) -> Option<Timestamp> {
        let time = self.before_datetime.or_else(|| {
            let age = i64::try_from(self.older_than?.as_millis()).unwrap_or(i64::MAX);
            Some(since_1970(SystemTime::now()).saturating_sub(age).max(0))
        });
        time.map(Timestamp::from_millis)
    }
}

/// A partition, where it begins, and where it is to begin.
struct Cut {
    partition: TopicPartition,
    from: Offset,
    to: Offset,
}

impl DeleteRecords {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let (mut cuts, mut failures) = self.plan(client).await?;
        if !self.dry_run {
            let wanted = cuts.iter().filter(|cut| cut.to > cut.from);
            let wanted = wanted.map(|cut| (cut.partition.clone(), Some(cut.to)));
            for (partition, result) in client.delete_records(&wanted.collect()).await? {
                if let Err(error) = result {
                    failures.insert(partition, error);
                }
            }
        }
        cuts.retain(|cut| !failures.contains_key(&cut.partition));
        let said = match format {
            Format::Json => {
                let deleted = cuts.iter().map(|cut| {
                    json!({
                        "topic": cut.partition.topic.as_str(),
                        "partition": cut.partition.partition,
                        "from": cut.from.value(),
                        "to": cut.to.value(),
                    })
                });
                let failed = failures.iter();
                let failed = failed.map(|(p, error)| failure("partition", &p.to_string(), error));
                pretty(&json!({
                    "executed": !self.dry_run,
                    "deleted": deleted.collect::<Vec<_>>(),
                    "failed": failed.collect::<Vec<_>>(),
                }))
            }
            Format::Text if cuts.is_empty() => String::new(),
            Format::Text => {
                let rows = cuts.iter().map(|cut| {
                    vec![
                        cut.partition.topic.to_string(),
                        cut.partition.partition.to_string(),
                        cut.from.to_string(),
                        cut.to.to_string(),
                    ]
                });
                let table = table(&["TOPIC", "PARTITION", "FROM", "TO"], rows);
                match self.dry_run {
                    true => format!("{table}\n\nnothing was deleted; without --dry-run it will be"),
                    false => table,
                }
            }
        };
        Ok(Outcome::new(said, failures.into_values().collect()))
    }

    /// What is to be done, and of which partitions nobody can say.
    async fn plan(
        &self,
        client: &Client,
    ) -> Result<(Vec<Cut>, BTreeMap<TopicPartition, ClientError>), Box<dyn Error>> {
        let partitions = named(client, &self.partitions).await?;
        let offsets = Offsets {
            first: at(client, partitions.clone(), OffsetSpec::Earliest).await?,
            last: at(client, partitions.clone(), OffsetSpec::Latest).await?,
            by_time: match self.until.timestamp() {
                Some(time) => at(client, partitions.clone(), OffsetSpec::At(time)).await?,
                None => BTreeMap::new(),
            },
        };
        let (mut cuts, mut failures) = (Vec::new(), BTreeMap::new());
        for partition in partitions {
            match offsets.cut(&partition, self.until.before_offset) {
                Ok((from, to)) => cuts.push(Cut {
                    partition,
                    from,
                    to,
                }),
                Err(error) => drop(failures.insert(partition, error)),
            }
        }
        Ok((cuts, failures))
    }
}

/// Where partitions begin and end, and where their records of a time begin.
struct Offsets {
    first: Found,
    last: Found,
    by_time: Found,
}

impl Offsets {
    fn cut(
        &self,
        partition: &TopicPartition,
        before_offset: Option<i64>,
    ) -> Result<(Offset, Offset), ClientError> {
        let from = offset(&self.first, partition)?.unwrap_or(Offset::ZERO);
        let last = offset(&self.last, partition)?.unwrap_or(from);
        // Otherwise no record is that young, or all of them are asked for.
        let by_time = offset(&self.by_time, partition)?.unwrap_or(last);
        let to = before_offset.map_or(by_time, Offset::new);
        // Records may have gone in between, so that the partition begins behind what was its end.
        Ok((from, to.min(last).max(from)))
    }
}
