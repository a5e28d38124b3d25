//! A whole broker, over TCP: `cargo bench -p tidelog-benches --bench broker`, on a machine that does nothing else.
//!
//! Method: the broker runs in this process, on a single-threaded runtime of its own as in the binary, and keeps its data on the
//! file system of the target directory. The client is as small as can be: one connection, requests encoded once and sent
//! again, responses decoded and checked. So what is measured is the broker and the loopback, not a client.
//!
//! - start: from before the data directory exists to the acknowledgement of the first record, the creation of its topic
//!   included. The time to execute the binary is missing here; `benches/start.py` has it, and the memory of the process.
//! - round trip: one record of 100 bytes, acks=all, the next one sent when the last one was acknowledged.
//! - produce: batches of 64 KiB with records of 1 KiB, acks=all, five requests in flight.
//! - fetch: the same records, at most 1 MiB at a time as consumers ask by default, one request in flight. All of it is in the
//!   page cache.
//!
//! Rates are given with the CPU time of all threads but the client's, since that depends less on what else the machine does.
//! Rounds of different durability alternate.
#![allow(clippy::print_stdout, reason = "the report")]

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_benches::wire::{Client, current_thread, encoded};
use tidelog_benches::{batch, batch_of_64_kib, is_bench, report_runs, report_times};
use tidelog_broker::{Broker, Durability};
use tidelog_protocol::Payload;
use tidelog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use tidelog_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use tidelog_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use tidelog_record::Batch;
use tidelog_types::Offset;
use tokio::sync::oneshot;

// The newest versions that name topics by name.
const METADATA_VERSION: i16 = 9;
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const TOPIC: &str = "bench";

const STARTS: usize = 20;
const ROUND_TRIPS: usize = 2000;
const ROUNDS: usize = 3;
const BYTES_A_ROUND: usize = 256 << 20;
const IN_FLIGHT: usize = 5;

/// A broker on a thread of its own.
struct Served {
    address: String,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Served {
    fn start(data: PathBuf, durability: Durability) -> Self {
        let (ready, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            current_thread().block_on(async {
                let broker = Broker::builder()
                    .data_dir(data)
                    .listener("PLAINTEXT://127.0.0.1:0")
                    .durability(durability)
                    .start()
                    .await
                    .expect("the broker starts");
                ready
                    .send(broker.bootstrap_servers())
                    .expect("the bench waits for it");
                stopped.await.expect("the bench stops it");
                broker.shutdown().await.expect("the broker ends in order");
            });
        });
        Self {
            address: address.recv().expect("the broker starts"),
            stop,
            thread,
        }
    }

    fn stop(self) {
        self.stop.send(()).expect("the broker runs");
        self.thread.join().expect("the broker ends in order");
    }
}

/// What a client does here besides sending and receiving.
trait Topic {
    async fn await_topic(&mut self);
    async fn acknowledged(&mut self) -> Offset;
}

impl Topic for Client {
    /// Asks for the topic, which creates it, until it has a leader.
    async fn await_topic(&mut self) {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(TOPIC.into()),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let request = encoded(&request, METADATA_VERSION);
        loop {
            self.send(&request).await;
            let response: MetadataResponse = self.receive(METADATA_VERSION).await;
            let topic = &response.topics[0];
            if topic.error_code.is_ok() && topic.partitions.iter().all(|p| p.error_code.is_ok()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn acknowledged(&mut self) -> Offset {
        let response: ProduceResponse = self.receive(PRODUCE_VERSION).await;
        let partition = &response.responses[0].partition_responses[0];
        assert!(partition.error_code.is_ok(), "{}", partition.error_code);
        partition.base_offset
    }
}

fn produce_request(batch: &Batch) -> Bytes {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: TOPIC.into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch.bytes().clone()),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    encoded(&request, PRODUCE_VERSION)
}

fn fetch_request(fetch_offset: Offset) -> Bytes {
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic {
            topic: TOPIC.into(),
            partitions: vec![FetchPartition {
                partition: 0,
                fetch_offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    encoded(&request, FETCH_VERSION)
}

/// The CPU time of all threads but this one.
fn cpu_of_others() -> Duration {
    let this = std::fs::read_link("/proc/thread-self").expect("Linux");
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let others = tasks
        .flatten()
        .filter(|task| Some(task.file_name().as_os_str()) != this.file_name());
    // A thread may have ended meanwhile.
    let times = others.filter_map(|task| {
        let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        times.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

fn start(root: &Path) {
    let request = produce_request(&batch(1, 100));
    let (mut serving, mut first) = (Vec::new(), Vec::new());
    for run in 0..STARTS {
        let began = Instant::now();
        let served = Served::start(root.join(format!("start-{run}")), Durability::Fsync);
        serving.push(began.elapsed().as_secs_f64() * 1e3);
        current_thread().block_on(async {
            let mut client = Client::connect(&served.address).await;
            client.await_topic().await;
            client.send(&request).await;
            assert_eq!(client.acknowledged().await, Offset::ZERO);
        });
        first.push(began.elapsed().as_secs_f64() * 1e3);
        served.stop();
    }
    report_runs("start, until it serves", "ms", serving);
    report_runs("start, until the first acknowledgement", "ms", first);
}

async fn round_trips(client: &mut Client) -> Vec<Duration> {
    let request = produce_request(&batch(1, 100));
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        client.send(&request).await;
        client.acknowledged().await;
        times.push(began.elapsed());
    }
    times
}

/// What one round moved.
struct Moved {
    bytes: usize,
    time: Duration,
    cpu: Duration,
}

async fn produce(client: &mut Client) -> Moved {
    let batch = batch_of_64_kib();
    let request = produce_request(&batch);
    let count = BYTES_A_ROUND / batch.bytes().len();
    let (began, cpu) = (Instant::now(), cpu_of_others());
    for sent in 0..count + IN_FLIGHT {
        if sent >= IN_FLIGHT {
            client.acknowledged().await;
        }
        if sent < count {
            client.send(&request).await;
        }
    }
    Moved {
        bytes: count * batch.bytes().len(),
        time: began.elapsed(),
        cpu: cpu_of_others() - cpu,
    }
}

/// Fetches from `offset` to the end.
async fn fetch(client: &mut Client, mut offset: Offset) -> Moved {
    let (began, cpu) = (Instant::now(), cpu_of_others());
    let mut bytes = 0;
    loop {
        client.send(&fetch_request(offset)).await;
        let mut response: FetchResponse = client.receive(FETCH_VERSION).await;
        let partition = &mut response.responses[0].partitions[0];
        assert!(partition.error_code.is_ok(), "{}", partition.error_code);
        if let Some(Payload::Bytes(mut records)) = partition.records.take() {
            // The last one may be cut off.
            while let Ok(Some(batch)) = Batch::split_from(&mut records) {
                bytes += batch.bytes().len();
                offset = batch.header().next_offset();
            }
        }
        if offset >= partition.high_watermark {
            break;
        }
    }
    Moved {
        bytes,
        time: began.elapsed(),
        cpu: cpu_of_others() - cpu,
    }
}

fn report_moved(what: &str, rounds: &[Moved]) {
    let rate = |moved: &Moved| moved.bytes as f64 / moved.time.as_secs_f64() / 1e6;
    let cost = |moved: &Moved| moved.cpu.as_secs_f64() / (moved.bytes as f64 / 1e9);
    report_runs(what, "MB/s", rounds.iter().map(rate).collect());
    report_runs("", "CPU s/GB", rounds.iter().map(cost).collect());
}

#[derive(Default)]
struct Measured {
    round_trips: Vec<Duration>,
    produced: Vec<Moved>,
    fetched: Vec<Moved>,
}

impl Measured {
    async fn round(&mut self, address: &str) {
        let mut client = Client::connect(address).await;
        client.await_topic().await;
        self.round_trips.extend(round_trips(&mut client).await);
        self.produced.push(produce(&mut client).await);
        self.fetched.push(fetch(&mut client, Offset::ZERO).await);
    }

    fn report(self, durability: Durability) {
        let name = durability.name();
        report_times(&format!("round trip, {name}"), self.round_trips);
        report_moved(&format!("produce, {name}"), &self.produced);
        report_moved(&format!("fetch, {name}"), &self.fetched);
    }
}

/// Each round has a broker and a directory of its own.
fn load(root: &Path) {
    let modes = [Durability::Fsync, Durability::PageCache];
    let mut measured = modes.map(|_| Measured::default());
    for round in 0..ROUNDS {
        for (mode, measured) in modes.into_iter().zip(&mut measured) {
            let data = root.join(format!("load-{}-{round}", mode.name()));
            let served = Served::start(data.clone(), mode);
            current_thread().block_on(measured.round(&served.address));
            served.stop();
            std::fs::remove_dir_all(data).expect("the data is ours");
        }
    }
    for (mode, measured) in modes.into_iter().zip(measured) {
        measured.report(mode);
    }
}

fn main() {
    if !is_bench() {
        return;
    }
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the logs");
    start(root.path());
    load(root.path());
    println!("(the CPU of a single client is not in it; see benches/start.py for memory)");
}
