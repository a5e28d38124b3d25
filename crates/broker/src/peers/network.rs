//! How connections to other nodes come about.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tidelog_types::Str;
use tokio::net::TcpStream;

use crate::net::transport::Transport;

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    /// A name, or an address without brackets.
    pub(crate) host: Str,
    pub(crate) port: u16,
}

/// What opens connections: the system, or what a test takes for it.
pub(crate) trait Network: Send + Sync + fmt::Debug {
    /// Opens a connection. Where nobody listens, the error is of the kind `ConnectionRefused`.
    fn connect(&self, address: &Address) -> Connecting;
}

/// A connection that is being opened.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// The sockets of the system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sockets;

impl Network for Sockets {
    fn connect(&self, address: &Address) -> Connecting {
        let Address { host, port } = address.clone();
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
