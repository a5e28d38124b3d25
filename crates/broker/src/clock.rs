//! The broker's clocks: the only place where it asks what time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidelog_types::{Now, Timestamp};

/// Reads both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock;

impl Clock {
    /// What time it is.
    pub(crate) fn now(self) -> Now {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Now {
            instant: Instant::now(),
            timestamp: Timestamp::from_millis(millis),
        }
    }
}
