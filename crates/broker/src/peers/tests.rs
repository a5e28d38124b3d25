use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::BytesMut;
use parking_lot::Mutex;
use tidelog_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use tidelog_protocol::messages::broker_heartbeat::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse,
};
use tidelog_protocol::messages::create_topics::{CreateTopicsRequest, CreateTopicsResponse};
use tidelog_protocol::messages::envelope::EnvelopeResponse;
use tidelog_protocol::messages::vote::VoteRequest;
use tidelog_protocol::{Message, RequestHeader, Writer, encode_response, frame};
use tidelog_types::{ErrorCode, NodeId};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};

use super::network::Connecting;
use super::*;
use crate::net::transport::Transport;

/// A pipe in memory in place of a socket.
struct Pipe(DuplexStream);

impl Transport for Pipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        std::pin::pin!(self.0.read_buf(into)).poll(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write_vectored(std::pin::Pin::new(&mut self.0), cx, slices)
    }

    fn poll_send_file(
        &mut self,
        _cx: &mut Context<'_>,
        _file: std::os::fd::BorrowedFd<'_>,
        _position: u64,
        _len: usize,
    ) -> Option<Poll<io::Result<usize>>> {
        None
    }
}

/// Answers every attempt to connect as the test has laid out; where that is nothing, and when nothing is left, it never answers.
#[derive(Clone, Debug, Default)]
struct Script(Arc<Mutex<VecDeque<Option<io::Result<DuplexStream>>>>>);

impl Network for Script {
    fn connect(&self, _address: &Address) -> Connecting {
        let next = self.0.lock().pop_front().flatten();
        Box::pin(async move {
            match next {
                Some(stream) => Ok(Box::new(Pipe(stream?)) as Box<dyn Transport>),
                None => std::future::pending().await,
            }
        })
    }
}

/// The other end of a connection.
struct Server {
    stream: DuplexStream,
    input: BytesMut,
}

impl Server {
    async fn next(&mut self) -> Option<(RequestHeader, Request)> {
        loop {
            if let Some(frame) = frame::next_frame(&mut self.input, usize::MAX).unwrap() {
                return Some(Request::read_frame(frame).unwrap());
            }
            if self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn answer<M: tidelog_protocol::ApiResponse>(
        &mut self,
        version: i16,
        correlation_id: i32,
        response: &M,
    ) {
        let mut writer = Writer::contiguous();
        encode_response(&mut writer, version, correlation_id, response).unwrap();
        let bytes = writer.finish_contiguous().unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Answers the heartbeat that comes next.
    async fn answer_heartbeat(&mut self) {
        let (header, _) = self.next().await.unwrap();
        let response = BrokerHeartbeatResponse::default();
        self.answer(1, header.correlation_id, &response).await;
    }

    /// Answers the question for versions: these are known, up to the given one.
    async fn negotiate(&mut self, apis: &[(ApiKey, i16)]) {
        let (header, request) = self.next().await.unwrap();
        assert!(matches!(request, Request::ApiVersions(_)), "{request}");
        let api = |(api_key, max_version): &(ApiKey, i16)| ApiVersion {
            api_key: *api_key,
            min_version: 0,
            max_version: *max_version,
        };
        let response = ApiVersionsResponse {
            api_keys: apis.iter().map(api).collect(),
            ..Default::default()
        };
        self.answer(header.api_version, header.correlation_id, &response)
            .await;
    }
}

const APIS: &[(ApiKey, i16)] = &[
    (ApiKey::ApiVersions, 4),
    (ApiKey::BrokerHeartbeat, 1),
    (ApiKey::CreateTopics, 5),
    (ApiKey::Envelope, 0),
];

struct World {
    script: Script,
    peer: Arc<Peer>,
    refused: Arc<AtomicUsize>,
}

impl World {
    fn new(timeout: Duration) -> Self {
        let script = Script::default();
        let refused = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&refused);
        let config = Config {
            client_id: "node-1".into(),
            connect_timeout: Duration::from_secs(60),
            request_timeout: timeout,
            reconnect_backoff: Duration::from_millis(1),
            reconnect_backoff_max: Duration::from_millis(4),
            response_bytes_max: 1 << 20,
        };
        let address = Address {
            host: "other".into(),
            port: 9093,
        };
        let peer = Peer::start(
            &Handle::current(),
            Arc::new(script.clone()),
            address,
            config,
            move |contact| {
                let is_refused = contact == Contact::Refused;
                count.fetch_add(usize::from(is_refused), Ordering::SeqCst);
            },
        );
        Self {
            script,
            peer: Arc::new(peer),
            refused,
        }
    }

    /// The next attempt to connect will succeed.
    fn listen(&self) -> Server {
        let (near, far) = duplex(1 << 16);
        self.script.0.lock().push_back(Some(Ok(near)));
        Server {
            stream: far,
            input: BytesMut::new(),
        }
    }

    /// The next attempt to connect will fail like this.
    fn fail(&self, kind: io::ErrorKind) {
        self.script.0.lock().push_back(Some(Err(kind.into())));
    }

    /// The next attempt to connect will have no answer.
    fn ignore(&self) {
        self.script.0.lock().push_back(None);
    }

    fn ask(
        &self,
        request: impl Into<Request>,
    ) -> tokio::task::JoinHandle<Result<Response, PeerError>> {
        let (peer, request) = (Arc::clone(&self.peer), request.into());
        tokio::spawn(async move { peer.request(request, None).await })
    }
}

fn heartbeat(broker: i32) -> BrokerHeartbeatRequest {
    BrokerHeartbeatRequest {
        broker_id: NodeId::new(broker),
        ..Default::default()
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn requests_overlap_and_answers_find_who_asked() {
    let world = World::new(LONG);
    let mut server = world.listen();
    let asked: Vec<_> = (0..3).map(|broker| world.ask(heartbeat(broker))).collect();
    server.negotiate(APIS).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (header, request) = server.next().await.unwrap();
        // The newest version that both sides know.
        assert_eq!(header.api_version, 1);
        let Request::BrokerHeartbeat(request) = request else {
            panic!("{request}");
        };
        ids.push((header.correlation_id, request.broker_id));
    }
    for (correlation_id, broker) in ids {
        let response = BrokerHeartbeatResponse {
            throttle_time_ms: broker.value(),
            ..Default::default()
        };
        server.answer(1, correlation_id, &response).await;
    }
    for (broker, asked) in asked.into_iter().enumerate() {
        let Ok(Response::BrokerHeartbeat(response)) = asked.await.unwrap() else {
            panic!("no heartbeat");
        };
        assert_eq!(response.throttle_time_ms, broker as i32);
    }
}

#[tokio::test]
async fn what_the_other_side_cannot_understand_is_not_sent() {
    let world = World::new(LONG);
    let mut server = world.listen();
    let vote = world.ask(VoteRequest::default());
    server.negotiate(APIS).await;
    let refused = vote.await.unwrap().unwrap_err();
    assert!(
        matches!(
            refused,
            PeerError::Unsupported {
                api: ApiKey::Vote,
                ..
            }
        ),
        "{refused}"
    );
    // The connection goes on.
    let asked = world.ask(heartbeat(1));
    server.answer_heartbeat().await;
    asked.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_is_opened_again_and_a_refusal_is_told() {
    let world = World::new(LONG);
    let mut server = world.listen();
    let asked = world.ask(heartbeat(1));
    server.negotiate(APIS).await;
    server.next().await.unwrap();
    // While the process ends, its socket may take one more connection.
    world.fail(io::ErrorKind::ConnectionReset);
    world.fail(io::ErrorKind::ConnectionRefused);
    drop(server);
    let lost = asked.await.unwrap().unwrap_err();
    assert!(matches!(lost, PeerError::Lost(_)), "{lost}");
    while world.refused.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // It is back.
    let mut server = world.listen();
    let asked = world.ask(heartbeat(2));
    server.negotiate(APIS).await;
    server.answer_heartbeat().await;
    asked.await.unwrap().unwrap();
    assert_eq!(world.refused.load(Ordering::SeqCst), 1);
}

/// The packet that asks for a connection may be lost while the process ends. Nobody waits for the next one of the same attempt.
#[tokio::test]
async fn a_refusal_is_found_out_though_the_first_attempt_has_no_answer() {
    let world = World::new(LONG);
    let mut server = world.listen();
    let asked = world.ask(heartbeat(1));
    server.negotiate(APIS).await;
    world.ignore();
    world.fail(io::ErrorKind::ConnectionRefused);
    drop(server);
    asked.await.unwrap().unwrap_err();
    while world.refused.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(world.script.0.lock().is_empty());
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_fails_what_waits() {
    let world = World::new(LONG);
    world.fail(io::ErrorKind::HostUnreachable);
    let unreachable = world.ask(heartbeat(1)).await.unwrap().unwrap_err();
    assert!(
        matches!(unreachable, PeerError::Unreachable(_)),
        "{unreachable}"
    );
    assert_eq!(world.refused.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_the_connection() {
    let world = World::new(Duration::from_millis(1));
    let mut server = world.listen();
    let asked = world.ask(heartbeat(1));
    server.negotiate(APIS).await;
    assert_eq!(asked.await.unwrap().unwrap_err(), PeerError::TimedOut);
    // The request, and then the end.
    assert!(server.next().await.is_some());
    assert!(server.next().await.is_none());
}

#[tokio::test]
async fn a_peer_that_is_dropped_closes_its_connection() {
    let world = World::new(LONG);
    let mut server = world.listen();
    let asked = world.ask(heartbeat(1));
    server.negotiate(APIS).await;
    server.answer_heartbeat().await;
    asked.await.unwrap().unwrap();
    drop(world);
    assert!(server.next().await.is_none());
}

#[tokio::test]
async fn a_clients_request_travels_in_an_envelope() {
    let world = World::new(LONG);
    let mut server = world.listen();
    let on_behalf = || OnBehalf {
        principal: Bytes::from_static(b"principal"),
        client_address: Bytes::from_static(&[127, 0, 0, 1]),
    };
    let ask = || {
        let peer = Arc::clone(&world.peer);
        let request = CreateTopicsRequest::default();
        tokio::spawn(async move { peer.request(request.into(), Some(on_behalf())).await })
    };
    let asked = ask();
    server.negotiate(APIS).await;
    let (header, request) = server.next().await.unwrap();
    let Request::Envelope(envelope) = request else {
        panic!("{request}");
    };
    assert_eq!(envelope.request_principal, Some(on_behalf().principal));
    let (inner, request) = Request::read_frame(envelope.request_data).unwrap();
    assert!(matches!(request, Request::CreateTopics(_)), "{request}");
    assert_eq!(inner.api_version, 5);
    let mut writer = Writer::contiguous();
    let created = CreateTopicsResponse {
        throttle_time_ms: 7,
        ..Default::default()
    };
    encode_response(&mut writer, 5, inner.correlation_id, &created).unwrap();
    let response = EnvelopeResponse {
        response_data: Some(writer.finish_contiguous().unwrap().slice(4..)),
        error_code: ErrorCode::NONE,
    };
    server.answer(0, header.correlation_id, &response).await;
    assert_eq!(asked.await.unwrap().unwrap(), Response::from(created));

    let asked = ask();
    let (header, _) = server.next().await.unwrap();
    let response = EnvelopeResponse {
        response_data: None,
        error_code: ErrorCode::NOT_CONTROLLER,
    };
    server.answer(0, header.correlation_id, &response).await;
    assert_eq!(asked.await.unwrap().unwrap(), Response::from(response));
    assert!(CreateTopicsRequest::VERSIONS.contains(5));
}
