//! A small client: any request in any version, one connection, and bytes that no client would send.

use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidelog_protocol::{
    ApiKey, ApiRequest, ApiResponse, Message, Reader, Request, RequestHeader, Response,
    ResponseHeader, Writer, encode_request, frame,
};
use tidelog_types::Str;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// An upper bound of everything that a test waits for. Nothing takes so long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that must come.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("what was waited for has not come")
}

/// What a connection goes over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    input: BytesMut,
    correlation_id: i32,
    client_id: Str,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    /// The same where the broker may be gone.
    pub(crate) async fn try_connect(address: &str) -> io::Result<Self> {
        let stream = soon(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// A client on a connection that is open already.
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            input: BytesMut::new(),
            correlation_id: 0,
            client_id: "it".into(),
        }
    }

    /// Sends a request in the last version that is known here, and waits for its response; the broker may go meanwhile.
    pub(crate) async fn try_ask<R: ApiRequest>(&mut self, request: &R) -> io::Result<R::Response> {
        let version = R::KEY.api().unwrap().supported.max;
        let bytes = self.encode(version, request);
        soon(async {
            self.stream.write_all(&bytes).await?;
            loop {
                if let Some(frame) = frame::next_frame(&mut self.input, usize::MAX).unwrap() {
                    let mut reader = Reader::new(frame);
                    ResponseHeader::read(&mut reader, R::KEY, version).unwrap();
                    return Ok(R::Response::read(&mut reader, version).unwrap());
                }
                if self.stream.read_buf(&mut self.input).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        })
        .await
    }

    /// From now on the client calls itself so.
    pub(crate) fn call_me(&mut self, client_id: &str) {
        self.client_id = client_id.into();
    }

    /// Sends a request and waits for its response.
    pub(crate) async fn call<R: ApiRequest>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.receive(version).await
    }

    /// The same in the last version that the broker advertises.
    pub(crate) async fn ask<R: ApiRequest>(&mut self, request: &R) -> R::Response {
        let version = R::KEY.api().unwrap().supported.max;
        self.call(version, request).await
    }

    pub(crate) async fn send<R: ApiRequest>(&mut self, version: i16, request: &R) {
        let bytes = self.encode(version, request);
        self.send_bytes(&bytes).await;
    }

    /// A request as it goes over the wire; it counts as sent.
    pub(crate) fn encode<R: ApiRequest>(&mut self, version: i16, request: &R) -> Bytes {
        self.correlation_id += 1;
        let mut writer = Writer::contiguous();
        encode_request(
            &mut writer,
            version,
            self.correlation_id,
            Some(&self.client_id),
            request,
        )
        .unwrap();
        writer.finish_contiguous().unwrap()
    }

    /// The same of a request of any API, without its length.
    pub(crate) fn encode_any(&mut self, version: i16, request: &Request) -> Vec<u8> {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key: request.key(),
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some(self.client_id.clone()),
        };
        let mut writer = Writer::contiguous();
        header.write(&mut writer).unwrap();
        request.write(&mut writer, version).unwrap();
        writer.finish_contiguous().unwrap().to_vec()
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    /// Sends bytes with their length before them.
    pub(crate) async fn send_frame(&mut self, frame: &[u8]) {
        let length = i32::try_from(frame.len()).unwrap().to_be_bytes();
        self.send_bytes(&[&length, frame].concat()).await;
    }

    /// Waits for the response to a request that was sent before. It must be whole, and nothing may follow it.
    pub(crate) async fn receive<R: ApiResponse>(&mut self, version: i16) -> R {
        let (_, response) = self.receive_with_id(version).await;
        response
    }

    /// The same with the number of the request that it answers.
    pub(crate) async fn receive_with_id<R: ApiResponse>(&mut self, version: i16) -> (i32, R) {
        let mut reader = Reader::new(self.frame().await);
        let header = ResponseHeader::read(&mut reader, R::KEY, version).unwrap();
        let response = R::read(&mut reader, version).unwrap();
        reader.finish().unwrap();
        (header.correlation_id, response)
    }

    /// Waits for a response of any API, and gives its bytes too.
    pub(crate) async fn receive_any(&mut self, key: ApiKey, version: i16) -> (Response, Bytes) {
        let bytes = self.frame().await;
        let mut reader = Reader::new(bytes.clone());
        let at = || format!("{key} version {version}");
        let header = ResponseHeader::read(&mut reader, key, version)
            .unwrap_or_else(|e| panic!("{}: {e}", at()));
        assert_eq!(header.correlation_id, self.correlation_id, "{}", at());
        let response =
            Response::read(&mut reader, key, version).unwrap_or_else(|e| panic!("{}: {e}", at()));
        reader.finish().unwrap_or_else(|e| panic!("{}: {e}", at()));
        (response, bytes)
    }

    /// The next frame, without its length.
    pub(crate) async fn frame(&mut self) -> Bytes {
        soon(async {
            loop {
                if let Some(frame) = frame::next_frame(&mut self.input, usize::MAX).unwrap() {
                    return frame;
                }
                let read = self.stream.read_buf(&mut self.input).await.unwrap();
                assert_ne!(read, 0, "the broker has closed the connection");
            }
        })
        .await
    }

    /// Tells the broker that nothing more will be sent.
    pub(crate) async fn end_output(&mut self) {
        soon(self.stream.shutdown()).await.unwrap();
    }

    /// Waits until the broker closes the connection, and checks that it says nothing before.
    pub(crate) async fn closed(&mut self) {
        soon(async {
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => {}
                Ok(_) => panic!("an answer, where the connection should be closed"),
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::ConnectionReset),
            }
        })
        .await;
    }

    /// Everything that comes until the broker closes the connection.
    #[cfg(feature = "testing")]
    pub(crate) async fn rest(&mut self) -> BytesMut {
        soon(async { while let Ok(1..) = self.stream.read_buf(&mut self.input).await {} }).await;
        std::mem::take(&mut self.input)
    }

    /// Waits until the broker closes the connection, whatever it says before.
    pub(crate) async fn ended(&mut self) {
        soon(async { while let Ok(1..) = self.stream.read_buf(&mut self.input).await {} }).await;
    }

    /// Whether nothing has come that was not received yet.
    pub(crate) fn is_silent(&mut self) -> bool {
        let mut bytes = [0];
        let mut read = ReadBuf::new(&mut bytes);
        let mut cx = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut self.stream).poll_read(&mut cx, &mut read);
        self.input.is_empty() && polled.is_pending()
    }

    /// Sends as much as is taken at once; `None` if for `bound` nothing is: a broker that has stopped reading takes nothing more.
    pub(crate) async fn send_some(&mut self, bytes: &[u8], bound: Duration) -> Option<usize> {
        let written = tokio::time::timeout(bound, self.stream.write(bytes)).await;
        written.ok().map(Result::unwrap)
    }
}
