mod model;
mod scenarios;

use std::time::{Duration, Instant};

use tidelog_types::{Now, Timestamp};

use super::Config;

fn start() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(1_000_000),
    }
}

fn config() -> Config {
    Config {
        batch_bytes_max: 100,
        request_bytes_max: 250,
        buffer_bytes_max: 1000,
        linger: Duration::from_millis(5),
        delivery_timeout: Duration::from_secs(10),
        retry_backoff: Duration::from_millis(100),
        retry_backoff_max: Duration::from_secs(1),
        in_flight_max: 5,
        is_idempotent: true,
        seed: 1,
    }
}
