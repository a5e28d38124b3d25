//! What a connection goes over.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Bytes in both directions, in order: a TCP connection, or anything that is like one.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream that is about to come about.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// How a client reaches the brokers, by address. TCP unless [`Config::transport`](crate::Config::transport) says otherwise,
/// such as a broker in the same process.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Opens a stream to the broker at `address`, a `host:port`. The client gives up after
    /// [`Config::connect_timeout`](crate::Config::connect_timeout).
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a>;
}

/// TCP, without delay (`TCP_NODELAY`). Every address that the host's name stands for is tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Transport for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
