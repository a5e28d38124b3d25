//! A broker inside a program, and the protocol spoken to it by hand: create a topic, produce a batch, fetch it back.
//!
//! What is done here with messages and bytes, any Kafka client does; point one at the address that is printed. The broker
//! listens on a port of the system's choice and keeps its data in a directory that is removed at the end.
//!
//! `cargo run --example embedded_broker`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use bytes::BytesMut;
use tidelog_broker::Broker;
use tidelog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use tidelog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use tidelog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use tidelog_protocol::{
    ApiRequest, Message, Payload, Reader, ResponseHeader, Writer, encode_request, frame,
};
use tidelog_record::{Batch, BatchBuilder, Codec};
use tidelog_types::{ErrorCode, Offset, Timestamp, TopicId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FRAME_BYTES_MAX: usize = 16 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let broker = Broker::builder()
        .data_dir(directory.path())
        .listener("PLAINTEXT://localhost:0")
        .start()
        .await?;
    println!("a broker listens on {}", broker.bootstrap_servers());

    let mut client = Client::connect(&broker.bootstrap_servers()).await?;
    let topic_id = client.topic("greetings").await?;
    let base_offset = client
        .produce(topic_id, &["good morning", "good night"])
        .await?;
    println!("produced from offset {base_offset} on");
    for (offset, text) in client.fetch(topic_id, base_offset).await? {
        println!("offset {offset}: {text}");
    }
    drop(client);

    broker.shutdown().await?;
    Ok(())
}

/// A connection that sends one request at a time.
struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    correlation_id: i32,
}

impl Client {
    async fn connect(address: &str) -> Result<Self, Box<dyn Error>> {
        let stream = TcpStream::connect(address).await?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
            correlation_id: 0,
        })
    }

    /// Sends a request in the newest version, and reads the answer.
    async fn call<R: ApiRequest>(&mut self, request: &R) -> Result<R::Response, Box<dyn Error>> {
        let version = R::VERSIONS.max;
        self.correlation_id += 1;
        let mut writer = Writer::new();
        encode_request(
            &mut writer,
            version,
            self.correlation_id,
            Some(&"example".into()),
            request,
        )?;
        self.stream.write_all(&writer.finish_contiguous()?).await?;
        let frame = loop {
            if let Some(frame) = frame::next_frame(&mut self.buffer, FRAME_BYTES_MAX)? {
                break frame;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the broker closed the connection".into());
            }
        };
        let mut reader = Reader::new(frame);
        let header = ResponseHeader::read(&mut reader, R::KEY, version)?;
        assert_eq!(header.correlation_id, self.correlation_id);
        Ok(R::Response::read(&mut reader, version)?)
    }

    /// The id of a topic, which is created if it does not exist.
    async fn topic(&mut self, name: &'static str) -> Result<TopicId, Box<dyn Error>> {
        let topic = MetadataRequestTopic {
            name: Some(name.into()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            ..Default::default()
        };
        loop {
            let response = self.call(&request).await?;
            let topic = response
                .topics
                .first()
                .ok_or("the topic is not in the answer")?;
            let leaders = topic
                .partitions
                .iter()
                .map(|partition| partition.error_code);
            let errors = std::iter::once(topic.error_code).chain(leaders);
            match errors.into_iter().find(|code| code.is_err()) {
                None => return Ok(topic.topic_id),
                // A topic that is being created is not there yet; the client asks again.
                Some(code) if code.is_retriable() => {}
                Some(code) => return Err(code.text().into()),
            }
        }
    }

    /// Appends texts to partition 0 as one batch, and waits until they are flushed to the disk.
    async fn produce(
        &mut self,
        topic_id: TopicId,
        texts: &[&str],
    ) -> Result<Offset, Box<dyn Error>> {
        let mut builder = BatchBuilder::new(Codec::Zstd.into());
        for text in texts {
            builder.push(Timestamp::from_millis(0), None, Some(text.as_bytes()), &[]);
        }
        let records = Some(builder.build()?.bytes().clone());
        let partition = PartitionProduceData { index: 0, records };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 5_000,
            topic_data: vec![TopicProduceData {
                topic_id,
                partition_data: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = self.call(&request).await?;
        let topic = response
            .responses
            .first()
            .ok_or("the topic is not in the answer")?;
        let partition = topic
            .partition_responses
            .first()
            .ok_or("no partition in the answer")?;
        check(partition.error_code)?;
        Ok(partition.base_offset)
    }

    /// Reads partition 0 from an offset on.
    async fn fetch(
        &mut self,
        topic_id: TopicId,
        from: Offset,
    ) -> Result<Vec<(Offset, String)>, Box<dyn Error>> {
        let partition = FetchPartition {
            partition: 0,
            fetch_offset: from,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic_id,
            partitions: vec![partition],
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: 1_000,
            min_bytes: 1,
            topics: vec![topic],
            ..Default::default()
        };
        let response = self.call(&request).await?;
        check(response.error_code)?;
        let mut texts = Vec::new();
        for partition in response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions)
        {
            check(partition.error_code)?;
            let Some(Payload::Bytes(bytes)) = &partition.records else {
                continue;
            };
            let mut bytes = bytes.clone();
            while let Some(batch) = Batch::split_from(&mut bytes)? {
                for record in batch.records()? {
                    let record = record?;
                    let text = String::from_utf8(record.value.unwrap_or_default().into())?;
                    texts.push((record.offset, text));
                }
            }
        }
        Ok(texts)
    }
}

fn check(code: ErrorCode) -> Result<(), Box<dyn Error>> {
    if code.is_ok() {
        Ok(())
    } else {
        Err(code.text().into())
    }
}
