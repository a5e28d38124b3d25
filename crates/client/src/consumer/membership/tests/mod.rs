mod model;
mod scenarios;

use std::time::{Duration, Instant};

use tidelog_types::{Now, Timestamp};

use super::{Config, Subscription};
use crate::stories::word;

fn config(id: &str) -> Config {
    Config {
        member_id: id.into(),
        is_static: false,
        poll_interval_max: Duration::from_secs(300),
        retry_backoff: Duration::from_millis(100),
        retry_backoff_max: Duration::from_secs(1),
        seed: 7,
    }
}

/// `subscribe t u`, or `subscribe matching=t.*`.
pub(super) fn subscription(line: &str) -> Subscription {
    let regex = word(line, "matching").map(Into::into);
    let topics = line.split_whitespace().skip(1);
    let topics = topics.filter(|_| regex.is_none()).map(Into::into);
    Subscription {
        topics: topics.collect(),
        regex,
    }
}

fn start() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(1_000_000),
    }
}
