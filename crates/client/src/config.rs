use std::sync::Arc;
use std::time::Duration;

use tidelog_types::Str;

#[cfg(feature = "tls")]
use crate::Tls;
use crate::{Sasl, Tcp, Transport};

/// How a client behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The name under which the broker knows the client (`client.id`).
    pub client_id: Str,
    /// How long a connection may take until it is there, and then TLS, until the broker has said what it speaks, and until it knows
    /// who the client is: each of them.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// How long to go on asking where the answer was that it may work later, such as while a coordinator moves.
    pub retry_timeout: Duration,
    /// How long to wait before asking again, the first time.
    pub retry_backoff: Duration,
    /// How long to wait before asking again at most: each time it is twice as long, a little more or less (KIP-580).
    pub retry_backoff_max: Duration,
    /// How long to wait before connecting again to a broker that could not be reached; twice as long each time.
    pub reconnect_backoff: Duration,
    /// How long to wait before connecting again at most.
    pub reconnect_backoff_max: Duration,
    /// How large an answer may be, in bytes.
    pub response_bytes_max: usize,
    /// After how long to ask who leads what, though nothing has gone wrong (`metadata.max.age.ms`).
    pub metadata_age_max: Duration,
    /// How brokers are reached.
    pub transport: Arc<dyn Transport>,
    /// How connections are protected; they are not, without it.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
    /// Who the client is, and how it proves that; it is nobody, without it.
    pub sasl: Option<Sasl>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client_id: Str::from_static("tidelog"),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            retry_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            response_bytes_max: 100 << 20,
            metadata_age_max: Duration::from_secs(300),
            transport: Arc::new(Tcp),
            #[cfg(feature = "tls")]
            tls: None,
            sasl: None,
        }
    }
}
