//! A client as small as can be.

use bytes::{Bytes, BytesMut};
use tidelog_protocol::{
    ApiRequest, ApiResponse, Reader, ResponseHeader, Writer, encode_request, frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime;

const FRAME_MAX: usize = 256 << 20;

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    received: BytesMut,
}

impl Client {
    /// Connects to a broker.
    pub async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the broker runs");
        stream.set_nodelay(true).expect("an option of TCP");
        Self {
            stream,
            received: BytesMut::new(),
        }
    }

    /// Sends bytes that [`encoded`] has made.
    pub async fn send(&mut self, request: &[u8]) {
        let sent = self.stream.write_all(request).await;
        sent.expect("the broker reads");
    }

    /// Waits for the next answer.
    pub async fn receive<M: ApiResponse>(&mut self, version: i16) -> M {
        let frame = loop {
            let frame = frame::next_frame(&mut self.received, FRAME_MAX).expect("a frame");
            if let Some(frame) = frame {
                break frame;
            }
            let read = self.stream.read_buf(&mut self.received).await;
            assert!(read.expect("the broker answers") > 0);
        };
        let mut reader = Reader::new(frame);
        ResponseHeader::read(&mut reader, M::KEY, version).expect("a header");
        M::read(&mut reader, version).expect("a response")
    }

    /// Sends a request and waits for its answer.
    pub async fn ask<M: ApiRequest>(&mut self, request: &M, version: i16) -> M::Response {
        self.send(&encoded(request, version)).await;
        self.receive(version).await
    }
}

/// A runtime for one thread.
pub fn current_thread() -> runtime::Runtime {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// The frame of a request.
pub fn encoded<M: ApiRequest>(request: &M, version: i16) -> Bytes {
    let mut writer = Writer::contiguous();
    let written = encode_request(&mut writer, version, 1, Some(&"bench".into()), request);
    written.expect("it can be written");
    writer.finish_contiguous().expect("it is in one piece")
}
