mod model;
mod scenarios;

use std::time::{Duration, Instant};

use tidelog_types::{Now, Timestamp};

use super::Config;
use crate::OffsetReset;

fn config() -> Config {
    Config {
        reset: OffsetReset::Earliest,
        buffer_bytes_max: 1000,
        fetch_bytes_max: 800,
        ahead_bytes_min: 30,
        retry_backoff: Duration::from_millis(100),
        retry_backoff_max: Duration::from_secs(1),
        preferred_for: Duration::from_secs(300),
        seed: 7,
    }
}

fn start() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(1_000_000),
    }
}
