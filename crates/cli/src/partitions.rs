//! Partitions as people name them, and offsets of them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::SystemTime;

use tidelog_client::{Client, ClientError, OffsetAt, OffsetSpec};
use tidelog_types::{ErrorCode, Offset, PartitionIndex, TopicName, TopicPartition};

/// The partitions of topics, each named TOPIC or TOPIC:0,1,2. All of them have to exist.
pub(crate) async fn named(
    client: &Client,
    texts: &[String],
) -> Result<BTreeSet<TopicPartition>, Box<dyn Error>> {
    let mut all = BTreeSet::new();
    for text in texts {
        let (name, wanted) = match text.split_once(':') {
            Some((name, list)) => (name, Some(numbers(text, list)?)),
            None => (text.as_str(), None),
        };
        let topic = TopicName::from(name);
        let known = partitions_of(client, &topic).await?;
        if let Some(unknown) = wanted.iter().flatten().find(|p| !known.contains(p)) {
            return Err(format!("topic {topic} has no partition {unknown}").into());
        }
        let partitions = wanted.unwrap_or(known).into_iter();
        all.extend(partitions.map(|partition| TopicPartition::new(topic.clone(), partition)));
    }
    Ok(all)
}

fn numbers(text: &str, list: &str) -> Result<Vec<PartitionIndex>, Box<dyn Error>> {
    let numbers = list.split(',').map(|number| number.trim().parse());
    let numbers: Result<_, _> = numbers.collect();
    Ok(numbers.map_err(|_| format!("{text}: expected TOPIC:0,1,2"))?)
}

async fn partitions_of(
    client: &Client,
    topic: &TopicName,
) -> Result<Vec<PartitionIndex>, Box<dyn Error>> {
    let described = client.describe_topics(Some(std::slice::from_ref(topic)));
    let described = described.await?.into_values().next();
    let described = described.ok_or_else(|| format!("there is no topic {topic}"))??;
    let partitions = described.partitions.iter();
    Ok(partitions.map(|partition| partition.partition).collect())
}

/// What was found for each partition.
pub(crate) type Found = BTreeMap<TopicPartition, Result<OffsetAt, ErrorCode>>;

/// The offsets of partitions at the same place or time.
pub(crate) async fn at(
    client: &Client,
    partitions: impl IntoIterator<Item = TopicPartition>,
    spec: OffsetSpec,
) -> Result<Found, Box<dyn Error>> {
    let wanted: Vec<_> = partitions.into_iter().map(|p| (p, spec)).collect();
    match wanted.is_empty() {
        true => Ok(BTreeMap::new()),
        false => Ok(client.list_offsets(&wanted).await?),
    }
}

/// One of them; none, if there is no record of that time.
pub(crate) fn offset(
    found: &Found,
    partition: &TopicPartition,
) -> Result<Option<Offset>, ClientError> {
    match found.get(partition) {
        Some(Ok(at)) => Ok(at.offset),
        Some(Err(code)) => Err(ClientError::Refused {
            subject: format!("partition {partition}"),
            code: *code,
            message: None,
        }),
        None => Ok(None),
    }
}

/// A time as people write it, in milliseconds since 1970.
pub(crate) fn time(text: &str) -> Result<i64, String> {
    if let Ok(millis) = text.parse() {
        return Ok(millis);
    }
    let time = humantime::parse_rfc3339_weak(text).map_err(|error| error.to_string())?;
    Ok(since_1970(time))
}

/// Milliseconds since 1970.
pub(crate) fn since_1970(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
