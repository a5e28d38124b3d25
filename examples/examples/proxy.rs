//! A proxy between Kafka clients and brokers, which prints every request and response as one line.
//!
//! `cargo run --example proxy -- 127.0.0.1:9192 127.0.0.1:9092`, then point any client at port 9192.
//!
//! Requests go on to the broker as they came. Responses come back as they were sent, but for the addresses in them: a
//! client connects to whatever broker they name, so each is replaced by one of the proxy's own, on a port that is opened
//! when a broker is named first. A few lines of `rewrite` are all that this takes; unknown tagged fields survive it.
//! ApiVersions says no higher version than the codec reads, so that nothing goes by unseen. What is not understood all the
//! same is passed on and printed as such; TLS cannot be looked into.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::collections::HashMap;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tidelog_protocol::messages::produce::NodeEndpoint;
use tidelog_protocol::{
    ApiKey, Reader, Request, RequestHeader, Response, ResponseHeader, Writer, frame,
};
use tidelog_types::{ErrorCode, Str};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// As much as a broker takes by default (`socket.request.max.bytes`), and room for a large answer.
const FRAME_BYTES_MAX: usize = 128 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, broker] = &arguments[..] else {
        return Err("usage: proxy LISTEN_HOST:PORT BROKER_HOST:PORT".into());
    };
    let listener = std::net::TcpListener::bind(listen)?;
    let proxy = Arc::new(Proxy {
        ip: listener.local_addr()?.ip(),
        ports: Mutex::default(),
    });
    println!("listening on {} for {broker}", listener.local_addr()?);
    proxy.serve(listener, broker.clone())?;
    std::future::pending().await
}

/// Which port of ours stands for which broker.
struct Proxy {
    ip: IpAddr,
    ports: Mutex<HashMap<String, u16>>,
}

impl Proxy {
    /// Takes clients for `broker` from now on.
    fn serve(self: &Arc<Self>, listener: std::net::TcpListener, broker: String) -> Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let port = listener.local_addr()?.port();
        self.ports().insert(broker.clone(), port);
        let proxy = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((client, peer)) = listener.accept().await {
                let connection = Connection::new(&proxy, &broker, peer, &client);
                tokio::spawn(async move {
                    let name = connection.name.clone();
                    match connection.run(client).await {
                        Ok(()) => println!("{name} closed"),
                        Err(error) => println!("{name} closed: {error}"),
                    }
                });
            }
        });
        Ok(())
    }

    /// Our port for a broker that a response names.
    fn port_of(self: &Arc<Self>, host: &str, port: i32) -> Result<u16> {
        let broker = format!("{host}:{port}");
        if let Some(port) = self.ports().get(&broker) {
            return Ok(*port);
        }
        let listener = std::net::TcpListener::bind((self.ip, 0))?;
        let ours = listener.local_addr()?.port();
        println!("listening on {} for {broker}", listener.local_addr()?);
        self.serve(listener, broker)?;
        Ok(ours)
    }

    fn ports(&self) -> std::sync::MutexGuard<'_, HashMap<String, u16>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client and the broker that it was led to.
struct Connection {
    proxy: Arc<Proxy>,
    broker: String,
    /// What stands in front of each line.
    name: String,
    /// How the client reaches us.
    host: String,
    /// What was asked and not yet answered, by correlation id.
    asked: Mutex<HashMap<i32, Asked>>,
}

#[derive(Clone, Copy)]
struct Asked {
    api_key: ApiKey,
    api_version: i16,
    at: Instant,
}

impl Connection {
    fn new(proxy: &Arc<Proxy>, broker: &str, peer: SocketAddr, client: &TcpStream) -> Self {
        let host = client.local_addr().map_or(proxy.ip, |address| address.ip());
        Self {
            proxy: Arc::clone(proxy),
            broker: broker.to_owned(),
            name: format!("{}>{broker}", peer.port()),
            host: host.to_string(),
            asked: Mutex::default(),
        }
    }

    /// Passes frames on, both ways, until either side closes.
    async fn run(self, client: TcpStream) -> Result<()> {
        let broker = TcpStream::connect(&self.broker).await?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        tokio::select! {
            ended = pass(from_client, to_broker, |frame| Ok(self.request(frame))) => ended,
            ended = pass(from_broker, to_client, |frame| self.response(frame)) => ended,
        }
    }

    /// Prints a request, and remembers how its response is to be read.
    fn request(&self, frame: Bytes) -> Bytes {
        let mut reader = Reader::new(frame.clone());
        let header = match RequestHeader::read(&mut reader) {
            Ok(header) => header,
            Err(error) => {
                println!(
                    "{} -> {} bytes that are no request: {error}",
                    self.name,
                    frame.len()
                );
                return frame;
            }
        };
        let (api_key, version) = (header.api_key, header.api_version);
        let client_id = header.client_id.as_deref().unwrap_or("-");
        let head = format!(
            "{} -> #{} {client_id} v{version}",
            self.name, header.correlation_id
        );
        let request = Request::read(&mut reader, api_key, version);
        match &request {
            Ok(request) => println!("{head} {request}"),
            Err(error) => println!("{head} {api_key}, not understood: {error}"),
        }
        // The one request that is not answered.
        if !matches!(&request, Ok(Request::Produce(produce)) if produce.acks == 0) {
            let asked = Asked {
                api_key,
                api_version: version,
                at: Instant::now(),
            };
            self.asked().insert(header.correlation_id, asked);
        }
        frame
    }

    /// Prints a response; gives it with addresses of ours.
    fn response(&self, frame: Bytes) -> Result<Bytes> {
        let correlation_id = frame.clone().try_get_i32()?;
        let Some(asked) = self.asked().remove(&correlation_id) else {
            println!(
                "{} <- #{correlation_id}, which was not asked for",
                self.name
            );
            return Ok(frame);
        };
        let (api_key, version) = (asked.api_key, answered_version(&asked, &frame));
        let took = asked.at.elapsed().as_secs_f64() * 1000.0;
        let head = format!(
            "{} <- #{correlation_id} in {took:.1} ms, v{version}",
            self.name
        );
        let mut reader = Reader::new(frame.clone()).keep_unknown_tags();
        let read = ResponseHeader::read(&mut reader, api_key, version)
            .and_then(|header| Ok((header, Response::read(&mut reader, api_key, version)?)));
        let (header, mut response) = match read {
            Ok(read) => read,
            Err(error) => {
                println!("{head} {api_key}, not understood: {error}");
                return Ok(frame);
            }
        };
        println!("{head} {response}");
        if !self.rewrite(&mut response)? {
            return Ok(frame);
        }
        let mut head = Writer::contiguous();
        header.write(&mut head, api_key, version);
        let mut body = Writer::contiguous().emit_unknown_tags(reader.take_unknown_tags());
        response.write(&mut body, version)?;
        Ok([head.finish_contiguous()?, body.finish_contiguous()?]
            .concat()
            .into())
    }

    /// Leads the client to us wherever the response would lead it elsewhere; says whether it did.
    fn rewrite(&self, response: &mut Response) -> Result<bool> {
        match response {
            Response::ApiVersions(response) => {
                for api in &mut response.api_keys {
                    if let Some(known) = api.api_key.api() {
                        api.max_version = api.max_version.min(known.versions.max);
                    }
                }
            }
            Response::Metadata(response) => {
                for broker in &mut response.brokers {
                    self.lead_here(&mut broker.host, &mut broker.port)?;
                }
            }
            Response::DescribeCluster(response) => {
                for broker in &mut response.brokers {
                    self.lead_here(&mut broker.host, &mut broker.port)?;
                }
            }
            Response::FindCoordinator(response) => {
                self.lead_here(&mut response.host, &mut response.port)?;
                for coordinator in &mut response.coordinators {
                    self.lead_here(&mut coordinator.host, &mut coordinator.port)?;
                }
            }
            Response::Produce(response) => return self.lead_all_here(&mut response.node_endpoints),
            Response::Fetch(response) => return self.lead_all_here(&mut response.node_endpoints),
            Response::ShareFetch(response) => {
                return self.lead_all_here(&mut response.node_endpoints);
            }
            Response::ShareAcknowledge(response) => {
                return self.lead_all_here(&mut response.node_endpoints);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The new leaders that a response names where the client asked the wrong one (KIP-951).
    fn lead_all_here(&self, nodes: &mut [NodeEndpoint]) -> Result<bool> {
        for node in &mut *nodes {
            self.lead_here(&mut node.host, &mut node.port)?;
        }
        Ok(!nodes.is_empty())
    }

    fn lead_here(&self, host: &mut Str, port: &mut i32) -> Result<()> {
        // An answer that names nobody.
        if !host.is_empty() && *port >= 0 {
            *port = self.proxy.port_of(host, *port)?.into();
            *host = self.host.as_str().into();
        }
        Ok(())
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A broker that does not know the version of an ApiVersions request answers in version 0.
fn answered_version(asked: &Asked, frame: &Bytes) -> i16 {
    let error_code = frame
        .get(4..6)
        .map(|code| i16::from_be_bytes([code[0], code[1]]));
    let unsupported = error_code == Some(ErrorCode::UNSUPPORTED_VERSION.code());
    if asked.api_key == ApiKey::ApiVersions && unsupported {
        0
    } else {
        asked.api_version
    }
}

/// Passes each frame on as `change` gives it.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut change: impl FnMut(Bytes) -> Result<Bytes>,
) -> Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = frame::next_frame(&mut buffer, FRAME_BYTES_MAX)? {
            let frame = change(frame)?;
            let length = u32::try_from(frame.len())?;
            to.write_all(&[&length.to_be_bytes()[..], &frame].concat())
                .await?;
        }
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
