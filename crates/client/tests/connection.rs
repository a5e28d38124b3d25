//! A connection against brokers that are played by a script.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidelog_client::{ClientError, Config, Connection, OauthToken, Sasl};
use tidelog_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use tidelog_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use tidelog_protocol::messages::offset_delete::OffsetDeleteRequest;
use tidelog_protocol::messages::sasl_authenticate::SaslAuthenticateResponse;
use tidelog_protocol::messages::sasl_handshake::SaslHandshakeResponse;
use tidelog_protocol::{
    ApiKey, ApiResponse, Request, RequestHeader, Writer, encode_response, frame,
};
use tidelog_types::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The broker's end of a connection.
struct Broker {
    stream: DuplexStream,
    input: BytesMut,
}

fn pair() -> (DuplexStream, Broker) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let broker = Broker {
        stream: theirs,
        input: BytesMut::new(),
    };
    (ours, broker)
}

impl Broker {
    async fn frame(&mut self) -> Bytes {
        loop {
            if let Some(frame) = frame::next_frame(&mut self.input, 1 << 20).unwrap() {
                return frame;
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0);
        }
    }

    async fn request(&mut self) -> (RequestHeader, Request) {
        Request::read_frame(self.frame().await).unwrap()
    }

    async fn answer<M: ApiResponse>(&mut self, version: i16, correlation_id: i32, message: &M) {
        let mut writer = Writer::contiguous();
        encode_response(&mut writer, version, correlation_id, message).unwrap();
        let bytes = writer.finish_contiguous().unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Answers the first request with these APIs.
    async fn greet(&mut self, apis: &[(ApiKey, i16, i16)]) {
        let (header, _) = self.request().await;
        assert_eq!(header.api_key, ApiKey::ApiVersions);
        let answer = knows(apis, ErrorCode::NONE);
        self.answer(header.api_version, header.correlation_id, &answer)
            .await;
    }
}

fn knows(apis: &[(ApiKey, i16, i16)], error_code: ErrorCode) -> ApiVersionsResponse {
    let apis = apis.iter().map(|(api_key, min, max)| ApiVersion {
        api_key: *api_key,
        min_version: *min,
        max_version: *max,
    });
    ApiVersionsResponse {
        error_code,
        api_keys: apis.collect(),
        ..Default::default()
    }
}

fn groups(name: &str) -> ListGroupsResponse {
    ListGroupsResponse {
        groups: vec![ListedGroup {
            group_id: name.into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn an_old_broker_is_asked_again_in_a_version_that_it_knows() {
    let (ours, mut broker) = pair();
    let played = tokio::spawn(async move {
        let (first, _) = broker.request().await;
        assert_eq!(first.api_version, 4);
        let apis = [(ApiKey::ApiVersions, 0, 2), (ApiKey::ListGroups, 0, 2)];
        let refusal = knows(&apis, ErrorCode::UNSUPPORTED_VERSION);
        broker.answer(0, first.correlation_id, &refusal).await;
        let (second, _) = broker.request().await;
        assert_eq!(second.api_version, 2);
        let answer = knows(&apis, ErrorCode::NONE);
        broker.answer(2, second.correlation_id, &answer).await;
        let (header, _) = broker.request().await;
        let asked = (header.api_key, header.api_version);
        assert_eq!(asked, (ApiKey::ListGroups, 2));
        let answer = ListGroupsResponse::default();
        broker.answer(2, header.correlation_id, &answer).await;
        broker
    });
    let connection = Connection::over(ours, "old", Config::default()).await;
    let connection = connection.unwrap();
    let answer = connection.send(&ListGroupsRequest::default()).await;
    assert_eq!(answer.unwrap(), ListGroupsResponse::default());
    let unknown = connection.send(&OffsetDeleteRequest::default()).await;
    assert!(
        matches!(unknown, Err(ClientError::Unsupported { .. })),
        "{unknown:?}"
    );
    drop(played.await.unwrap());
}

#[tokio::test]
async fn answers_find_whoever_asked() {
    let (ours, mut broker) = pair();
    let played = tokio::spawn(async move {
        broker.greet(&[(ApiKey::ListGroups, 0, 5)]).await;
        let (first, _) = broker.request().await;
        let (second, _) = broker.request().await;
        let answer = groups("second");
        broker.answer(5, second.correlation_id, &answer).await;
        let answer = groups("first");
        broker.answer(5, first.correlation_id, &answer).await;
        broker
    });
    let connection = Connection::over(ours, "broker", Config::default()).await;
    let connection = connection.unwrap();
    let request = ListGroupsRequest::default();
    // `join!` polls them in this order, so they are sent in it.
    let (first, second) = tokio::join!(connection.send(&request), connection.send(&request));
    assert_eq!(first.unwrap().groups, groups("first").groups);
    assert_eq!(second.unwrap().groups, groups("second").groups);
    drop(played.await.unwrap());
}

/// Large answers are read into the buffers of former ones, but never of those of which somebody still has something.
#[tokio::test]
async fn an_answer_that_is_kept_stays_as_it_is() {
    const ANSWERS: usize = 24;
    /// How many names of 30,000 letters each has.
    const NAMES: [usize; 8] = [4, 6, 0, 11, 3, 6, 7, 1];
    fn answer(n: usize) -> ListGroupsResponse {
        let letter = char::from(b'a' + n as u8).to_string();
        let mut answer = groups(&letter.repeat(30_000));
        answer.groups = vec![answer.groups.remove(0); NAMES[n % NAMES.len()]];
        answer
    }
    let (ours, mut broker) = pair();
    let played = tokio::spawn(async move {
        broker.greet(&[(ApiKey::ListGroups, 0, 2)]).await;
        for n in 0..ANSWERS {
            let (header, _) = broker.request().await;
            broker.answer(2, header.correlation_id, &answer(n)).await;
        }
        broker
    });
    let connection = Connection::over(ours, "broker", Config::default()).await;
    let connection = connection.unwrap();
    let mut kept = Vec::new();
    for n in 0..ANSWERS {
        let answered = connection.send(&ListGroupsRequest::default()).await;
        kept.push((n, answered.unwrap()));
        if n % 3 == 0 {
            kept.remove(kept.len() / 2);
        }
    }
    assert_eq!(kept.len(), 16);
    for (n, answered) in kept {
        assert_eq!(answered.groups, answer(n).groups, "{n}");
    }
    drop(played.await.unwrap());
}

#[tokio::test]
async fn whoever_waits_hears_that_the_connection_has_ended() {
    let (ours, mut broker) = pair();
    let played = tokio::spawn(async move {
        broker.greet(&[(ApiKey::ListGroups, 0, 5)]).await;
        broker.request().await;
    });
    let connection = Connection::over(ours, "broker", Config::default()).await;
    let connection = connection.unwrap();
    let request = ListGroupsRequest::default();
    let lost = connection.send(&request).await;
    let lost = lost.unwrap_err();
    assert!(matches!(lost, ClientError::Closed { .. }), "{lost}");
    // The first request after the greeting is where a client fails that should have said who it is.
    assert!(lost.to_string().contains("(sasl.mechanism)"), "{lost}");
    assert!(connection.is_closed());
    let later = connection.send(&request).await;
    assert!(
        matches!(later, Err(ClientError::Closed { .. })),
        "{later:?}"
    );
    played.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_given_up() {
    let (ours, mut broker) = pair();
    let played = tokio::spawn(async move {
        broker.greet(&[(ApiKey::ListGroups, 0, 5)]).await;
        broker
    });
    let mut config = Config::default();
    config.request_timeout = Duration::from_secs(7);
    let connection = Connection::over(ours, "broker", config).await.unwrap();
    let request = ListGroupsRequest::default();
    let error = connection.send(&request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "broker has not answered ListGroups within 7s"
    );
    assert!(connection.is_closed());
    drop(played.await.unwrap());
}

#[tokio::test]
async fn what_is_no_broker_is_called_so() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let said = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    theirs.write_all(said).await.unwrap();
    let error = Connection::over(ours, "web", Config::default()).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("web does not speak the Kafka protocol"),
        "{error}"
    );
    drop(theirs);

    let (ours, theirs) = tokio::io::duplex(1 << 16);
    drop(theirs);
    let error = Connection::over(ours, "mute", Config::default()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ClientError::NotKafka { .. }), "{error}");
}

/// What a broker knows that wants to hear who the client is.
const WITH_SASL: &[(ApiKey, i16, i16)] = &[
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::SaslHandshake, 0, 1),
    (ApiKey::SaslAuthenticate, 0, 2),
];

impl Broker {
    async fn shake_hands(&mut self) {
        let (header, _) = self.request().await;
        let asked = (header.api_key, header.api_version);
        assert_eq!(asked, (ApiKey::SaslHandshake, 1));
        let answer = SaslHandshakeResponse::default();
        self.answer(1, header.correlation_id, &answer).await;
    }

    /// Takes whatever token comes, for so many milliseconds.
    async fn believe(&mut self, session_lifetime_ms: i64) {
        let (header, request) = self.request().await;
        assert_eq!(header.api_key, ApiKey::SaslAuthenticate);
        assert!(!format!("{request:?}").contains("hush"), "{request:?}");
        let answer = SaslAuthenticateResponse {
            session_lifetime_ms,
            ..Default::default()
        };
        self.answer(2, header.correlation_id, &answer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_in_time_and_nobody_notices() {
    let (ours, mut broker) = pair();
    let played = tokio::spawn(async move {
        broker.greet(WITH_SASL).await;
        let begun = tokio::time::Instant::now();
        broker.shake_hands().await;
        broker.believe(20_000).await;
        let (held, _) = broker.request().await;
        assert_eq!(held.api_key, ApiKey::ListGroups);
        // In the middle of it the broker answers what was asked before, and is asked nothing else.
        let (header, _) = broker.request().await;
        assert_eq!(header.api_key, ApiKey::SaslHandshake);
        let passed = begun.elapsed().as_secs();
        assert!((16..20).contains(&passed), "after {passed} s");
        let answer = groups("held");
        broker.answer(5, held.correlation_id, &answer).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let answer = SaslHandshakeResponse::default();
        broker.answer(1, header.correlation_id, &answer).await;
        broker.believe(20_000).await;
        let (header, _) = broker.request().await;
        assert_eq!(header.api_key, ApiKey::ListGroups);
        let answer = groups("behind");
        broker.answer(5, header.correlation_id, &answer).await;
        // And so on.
        broker.shake_hands().await;
        broker.believe(0).await;
        broker
    });
    let mut config = Config::default();
    config.request_timeout = Duration::from_secs(60);
    config.sasl = Some(Sasl::plain("alice", "hush"));
    let connection = Connection::over(ours, "broker", config).await.unwrap();
    let request = ListGroupsRequest::default();
    let behind = async {
        // The client is busy with its session just then.
        tokio::time::sleep(Duration::from_millis(19_500)).await;
        connection.send(&request).await
    };
    let (held, behind) = tokio::join!(connection.send(&request), behind);
    assert_eq!(held.unwrap().groups, groups("held").groups);
    assert_eq!(behind.unwrap().groups, groups("behind").groups);
    drop(played.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_broker_does_not_renew_is_over() {
    let (ours, mut broker) = pair();
    let played = tokio::spawn(async move {
        broker.greet(WITH_SASL).await;
        broker.shake_hands().await;
        broker.believe(10_000).await;
        broker.shake_hands().await;
        let (header, _) = broker.request().await;
        let answer = SaslAuthenticateResponse {
            error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
            error_message: Some("alice has left".into()),
            ..Default::default()
        };
        broker.answer(2, header.correlation_id, &answer).await;
        broker
    });
    let mut config = Config::default();
    let tokens = || async { Ok(OauthToken::new("hush")) };
    config.sasl = Some(Sasl::oauth_bearer(tokens));
    let connection = Connection::over(ours, "broker", config).await.unwrap();
    drop(played.await.unwrap());
    let error = connection.send(&ListGroupsRequest::default()).await;
    let error = error.unwrap_err();
    assert!(connection.is_closed());
    assert!(!error.is_retriable(), "{error}");
    assert!(
        error
            .to_string()
            .contains("OAUTHBEARER has failed: alice has left"),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_that_is_not_to_be_had_may_be_later() {
    let (ours, mut broker) = pair();
    let played = tokio::spawn(async move {
        broker.greet(WITH_SASL).await;
        broker
    });
    let mut config = Config::default();
    let tokens = || async { Err("the issuer is asleep".into()) };
    config.sasl = Some(Sasl::oauth_bearer(tokens));
    let error = Connection::over(ours, "broker", config).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert!(
        error.to_string().ends_with("the issuer is asleep"),
        "{error}"
    );
    drop(played.await.unwrap());
}
