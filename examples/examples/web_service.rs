//! A web service that keeps what it is told in a topic, and shows it to everybody as it comes: the broker is part of the
//! service, and so there is nothing else to install, start or watch.
//!
//! `POST /messages` appends a record and answers when it is durable. `GET /messages` is a stream of server-sent events; the id of
//! each is its offset, so a browser's `EventSource` that was cut off says where it was, and goes on there. Here a few lines of
//! HTTP by hand take the place of the browser.
//!
//! `cargo run -p tidelog-examples --example web_service`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Sse;
use axum::response::sse::Event;
use axum::routing::get;
use futures_util::{Stream, StreamExt};
use tidelog_broker::{Broker, Offset, RequestError, Topic};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

fn router(messages: Topic) -> Router {
    Router::new()
        .route("/messages", get(tail).post(append))
        .with_state(messages)
}

/// The answer leaves when the record is flushed.
async fn append(
    State(messages): State<Topic>,
    text: String,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    match messages.produce(0, [&text]).await {
        Ok(appended) => Ok((StatusCode::CREATED, appended.base_offset.to_string())),
        // The broker stops, or its disk has failed: somebody else may do better.
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

/// Everything from the beginning, or from where the browser was, and then what comes. Whoever listens costs a waiting task.
async fn tail(
    State(messages): State<Topic>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, RequestError>>> {
    let last = headers.get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()?.parse().ok());
    let from = last.map_or(Offset::ZERO, |last: i64| Offset::new(last) + 1);
    Sse::new(messages.records(0, from).map(|record| {
        let record = record?;
        let text =
            String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
        Ok(Event::default().id(record.offset.to_string()).data(text))
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    // Without a port of its own; with one, any Kafka client could read the same topic.
    let builder = Broker::builder().data_dir(directory.path()).no_ports();
    let broker = builder.start().await?;
    let messages = broker.create_topic("messages").await?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, router(messages)).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let server = tokio::spawn(server.into_future());

    let (first, second) = (
        post(address, "hello").await?,
        post(address, "is anybody there?").await?,
    );
    println!("posted: offsets {first} and {second}");
    let mut ada = Browser::open(address, None).await?;
    println!(
        "ada reads from the beginning: {:?}",
        [ada.event().await?, ada.event().await?]
    );
    let mut grace = Browser::open(address, Some(second)).await?;
    let (third, heard) = tokio::join!(post(address, "yes, I am"), grace.event());
    println!("grace waits, and hears at once: {:?}", heard?);
    drop(ada);
    post(address, "so am I").await?;
    let mut ada = Browser::open(address, Some(second)).await?;
    println!(
        "ada comes back after offset {second}: {:?}",
        [ada.event().await?, ada.event().await?]
    );
    assert_eq!(third?, second + 1);

    // With the broker the streams end, and with them the last requests.
    let _ = stop.send(());
    broker.shutdown().await?;
    server.await??;
    assert!(ada.event().await.is_err());
    println!("stopped, and nobody waits any more");
    Ok(())
}

/// `POST /messages`; gives the offset.
async fn post(address: SocketAddr, text: &str) -> Result<i64, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address).await?;
    let length = text.len();
    let head = format!(
        "POST /messages HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{text}").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, offset) = answer.split_once("\r\n\r\n").ok_or("an answer")?;
    match head.starts_with("HTTP/1.1 201 ") {
        true => Ok(offset.parse()?),
        false => Err(answer.into()),
    }
}

/// `GET /messages`, as a browser's `EventSource` does it.
struct Browser(BufReader<TcpStream>);

impl Browser {
    async fn open(address: SocketAddr, last: Option<i64>) -> Result<Self, Box<dyn Error>> {
        let mut stream = TcpStream::connect(address).await?;
        let last = last
            .map(|id| format!("last-event-id: {id}\r\n"))
            .unwrap_or_default();
        let request = format!("GET /messages HTTP/1.1\r\nhost: {address}\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The next event, as `id text`; what is about HTTP is passed over.
    async fn event(&mut self) -> Result<String, Box<dyn Error>> {
        let mut id = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err("the stream has ended".into());
            }
            if let Some(number) = line.strip_prefix("id: ") {
                id = number.trim().to_owned();
            } else if let Some(text) = line.strip_prefix("data: ") {
                return Ok(format!("{id} {}", text.trim()));
            }
        }
    }
}
