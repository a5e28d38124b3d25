mod model;
mod scenarios;

use std::time::{Duration, Instant};

use tidelog_types::{Now, Timestamp};

use super::Config;

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

fn start() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(1_000_000),
    }
}
