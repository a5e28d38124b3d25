use std::time::Duration;

use tidelog_types::Str;

/// How a client behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The name under which the broker knows the client (`client.id`).
    pub client_id: Str,
    /// How long a connection may take until it is there.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// How long to go on asking where the answer was that it may work later, such as while a coordinator moves.
    pub retry_timeout: Duration,
    /// How long to wait before asking again.
    pub retry_backoff: Duration,
    /// How large an answer may be, in bytes.
    pub response_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client_id: Str::from_static("tidelog"),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            retry_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            response_bytes_max: 100 << 20,
        }
    }
}
