//! Places in partitions, as people name them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tidelog_client::{ConsumeError, Consumer};
use tidelog_types::{Offset, Timestamp, TopicPartition};

use crate::partitions::{since_1970, time};

/// A place in each of several partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Beginning,
    End,
    /// This offset.
    Offset(i64),
    /// So many records in front of the end.
    Last(i64),
    /// The first record of this time, in milliseconds, or later.
    At(i64),
    /// The first record that is no older.
    Ago(Duration),
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no place; there are beginning, end, an offset, -N, a time such as 2026-11-23T15:00:00Z, @MILLISECONDS, and for how long back, such as 2h"
            )
        };
        if let Ok(number) = text.parse::<i64>() {
            return Ok(match number {
                0.. => Self::Offset(number),
                _ => Self::Last(number.saturating_neg()),
            });
        }
        if let Some(millis) = text.strip_prefix('@') {
            return millis.parse().map(Self::At).map_err(|_| wrong());
        }
        match text {
            "beginning" | "earliest" => Ok(Self::Beginning),
            "end" | "latest" => Ok(Self::End),
            text => humantime::parse_duration(text)
                .map(Self::Ago)
                .or_else(|_| time(text).map(Self::At))
                .map_err(|_| wrong()),
        }
    }
}

impl Place {
    /// The offsets of the place. One beyond the records is the nearest that there is.
    pub(super) async fn find(
        &self,
        consumer: &Consumer,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, ConsumeError> {
        let first = consumer.beginning_offsets(partitions).await?;
        let mut places = consumer.end_offsets(partitions).await?;
        let at = match self {
            Self::At(millis) => Some(*millis),
            Self::Ago(ago) => Some(since_1970(SystemTime::now() - *ago)),
            _ => None,
        };
        if let Some(millis) = at {
            let time = Timestamp::from_millis(millis);
            let times = partitions.iter().map(|it| (it.clone(), time)).collect();
            for (partition, found) in consumer.offsets_for_times(&times).await? {
                if let Some(offset) = found.offset {
                    places.insert(partition, offset);
                }
            }
            return Ok(places);
        }
        for (partition, place) in &mut places {
            let first = first.get(partition).copied().unwrap_or(Offset::ZERO);
            let wanted = match self {
                Self::Beginning => first,
                Self::Offset(offset) => Offset::new(*offset),
                Self::Last(count) => Offset::new(place.value().saturating_sub(*count)),
                Self::End | Self::At(_) | Self::Ago(_) => *place,
            };
            *place = wanted.clamp(first, (*place).max(first));
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_understood() {
        for (text, place) in [
            ("beginning", Place::Beginning),
            ("end", Place::End),
            ("17", Place::Offset(17)),
            ("-5", Place::Last(5)),
            ("@1700000000000", Place::At(1_700_000_000_000)),
            ("2023-11-14T22:13:20Z", Place::At(1_700_000_000_000)),
            ("2h", Place::Ago(Duration::from_secs(7200))),
        ] {
            assert_eq!(text.parse(), Ok(place), "{text}");
        }
        let error = "yesterday".parse::<Place>().unwrap_err();
        assert!(error.contains("is no place; there are"), "{error}");
    }
}
