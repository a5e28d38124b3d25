//! 100,000 partitions in one directory: `cargo bench -p tidelog-benches --bench partitions`, on a machine that does nothing else.
//! `PARTITIONS` sets another number. It takes some minutes, of which most go into making the files.
//!
//! - the log alone: logs with one batch each are written through the crate, with files that ignore flushes. Then the directory is
//!   opened as a broker does after a clean stop, in a process of its own: the time, the memory, and how long appends to one of the
//!   logs take beside those to a log that is alone in its directory.
//! - the broker: topics of 100 partitions are created and written to over TCP without flushes, the broker stops in order, and
//!   is started again in a process of its own: the time until it serves, and its memory. `-- logs` leaves the broker out.
#![allow(clippy::print_stdout, reason = "the report")]

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tidelog_benches::{NOW, batch, is_bench, report_times};
use tidelog_broker::{Broker, Durability};
use tidelog_log::{
    Access, Dir, DirEntry, File, FileIdentity, FsDir, Lock, Log, LogConfig, LogDirectory, Start,
};
use tidelog_protocol::messages::create_topics::{
    CreatableTopic, CreateTopicsRequest, CreateTopicsResponse,
};
use tidelog_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use tidelog_protocol::{
    ApiRequest, ApiResponse, Reader, ResponseHeader, Writer, encode_request, frame,
};
use tidelog_types::{LeaderEpoch, Now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime;

const EPOCH: LeaderEpoch = LeaderEpoch::new(0);
/// How many partitions a topic of the broker has.
const IN_A_TOPIC: usize = 100;
const CREATE_TOPICS_VERSION: i16 = 5;
const PRODUCE_VERSION: i16 = 12;

fn partitions() -> usize {
    let set = std::env::var("PARTITIONS").ok();
    set.and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: NOW,
    }
}

/// A directory that takes flushes for done.
#[derive(Debug)]
struct Unflushed(FsDir);

#[derive(Debug)]
struct UnflushedFile(Arc<dyn File>);

impl Dir for Unflushed {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(UnflushedFile(self.0.open(path, access)?)))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.list(path)
    }
    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        self.0.identity(path)
    }
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.0.lock(path)
    }
}

impl File for UnflushedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buf, position)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.0.write_at(parts, position)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_fd()
    }
}

/// What the process has in memory.
fn resident_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a Linux");
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<f64>().ok());
    pages.expect("a number of pages") * 4096.0 / f64::from(1 << 20)
}

/// The CPU time that the process has taken so far: what it needs on a machine with other work.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux");
    let behind_name = stat.rsplit_once(')').expect("a name in brackets").1;
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn name(i: usize) -> String {
    format!("orders-{i}")
}

/// Runs this program once more, so that its memory is that of the start alone.
fn in_a_process_of_its_own(what: &str, root: &Path) {
    let program = std::env::current_exe().expect("a program");
    let status = Command::new(program)
        .args(["--bench", what])
        .arg(root)
        .status()
        .expect("it starts");
    assert!(status.success());
}

fn write_logs(root: &Path) {
    let began = Instant::now();
    let dir: Arc<dyn Dir> = Arc::new(Unflushed(FsDir::new(root)));
    let directory = LogDirectory::open(dir.clone()).expect("opened");
    let (batch, config) = (batch(1, 100), Arc::new(LogConfig::default()));
    let closed: Vec<_> = (0..partitions())
        .map(|i| {
            let opened = Log::open(dir.clone(), name(i), config.clone(), Start::NEW, now());
            let mut log = opened.expect("opened").0;
            log.append_as_leader(&batch, EPOCH, NOW).expect("appended");
            (PathBuf::from(name(i)), log.close().expect("closed"))
        })
        .collect();
    let logs = closed
        .iter()
        .map(|(folder, summary)| (folder.as_path(), summary));
    directory.write_clean_shutdown(1, logs).expect("written");
    println!("{:<44} {:.1?}", "log: make the files", began.elapsed());
}

/// Opens the directory as a broker does.
fn open_logs(root: &Path) {
    let before = resident_mib();
    let began = Instant::now();
    let directory = LogDirectory::open(Arc::new(FsDir::new(root))).expect("opened");
    let mark = directory.take_clean_shutdown().expect("read");
    let mut summaries = mark.expect("it was closed").summaries;
    assert_eq!(summaries.len(), partitions());
    let config = Arc::new(LogConfig::default());
    let mut logs: Vec<_> = (0..partitions())
        .map(|i| {
            let summary = summaries.remove(&name(i)).expect("it is there");
            Log::resume(directory.dir(), name(i), config.clone(), summary)
        })
        .collect();
    drop(summaries);
    let n = partitions();
    println!(
        "{:<44} {:.1?}  (target 5 s with the broker)",
        format!("log: start with {n}"),
        began.elapsed()
    );
    let resident = resident_mib();
    println!(
        "{:<44} {resident:.0} MiB, {:.0} bytes for each log",
        "log: memory",
        (resident - before) * f64::from(1 << 20) / n as f64
    );
    let alone = tempfile::tempdir_in(root).expect("a directory");
    let dir = Arc::new(FsDir::new(alone.path()));
    let mut single = Log::open(dir, "alone-0", config, Start::NEW, now())
        .expect("opened")
        .0;
    let batch = batch(1, 1024);
    let began = Instant::now();
    let last = logs.last_mut().expect("there are some");
    last.append_as_leader(&batch, EPOCH, NOW).expect("appended");
    println!(
        "{:<44} {:.1?}",
        "log: the append that wakes one",
        began.elapsed()
    );
    single
        .append_as_leader(&batch, EPOCH, NOW)
        .expect("appended");
    let (mut one_of_many, mut by_itself) = (Vec::new(), Vec::new());
    for i in 0..20_000 {
        // In turn, a hundred at a time.
        let (log, times) = match i / 100 % 2 {
            0 => (&mut *last, &mut one_of_many),
            _ => (&mut single, &mut by_itself),
        };
        let began = Instant::now();
        log.append_as_leader(&batch, EPOCH, NOW).expect("appended");
        times.push(began.elapsed());
    }
    report_times(&format!("log: append 1 KiB to one of {n}"), one_of_many);
    report_times("log: append 1 KiB to one by itself", by_itself);
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

async fn start_broker(data: &Path) -> Broker {
    Broker::builder()
        .data_dir(data)
        .listener("PLAINTEXT://127.0.0.1:0")
        .durability(Durability::PageCache)
        .start()
        .await
        .expect("the broker starts")
}

async fn ask<M: ApiRequest, R: ApiResponse>(
    stream: &mut TcpStream,
    request: &M,
    version: i16,
) -> R {
    let mut writer = Writer::contiguous();
    encode_request(&mut writer, version, 1, Some(&"bench".into()), request).expect("encoded");
    let request: Bytes = writer.finish_contiguous().expect("one piece");
    stream.write_all(&request).await.expect("sent");
    let mut received = BytesMut::new();
    loop {
        if let Some(frame) = frame::next_frame(&mut received, 64 << 20).expect("a frame") {
            let mut reader = Reader::new(frame);
            ResponseHeader::read(&mut reader, R::KEY, version).expect("a header");
            return R::read(&mut reader, version).expect("a response");
        }
        assert!(stream.read_buf(&mut received).await.expect("an answer") > 0);
    }
}

/// A record in each partition of many topics.
async fn write_topics(data: &Path) {
    let began = Instant::now();
    let broker = start_broker(data).await;
    let address = broker.bootstrap_servers();
    let client = tokio::task::spawn(async move {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        let batch = batch(1, 100);
        for i in 0..partitions().div_ceil(IN_A_TOPIC) {
            let topic = format!("topic{i}");
            let request = CreateTopicsRequest {
                topics: vec![CreatableTopic {
                    name: topic.as_str().into(),
                    num_partitions: IN_A_TOPIC as i32,
                    replication_factor: 1,
                    ..Default::default()
                }],
                timeout_ms: 60_000,
                ..Default::default()
            };
            let created: CreateTopicsResponse =
                ask(&mut stream, &request, CREATE_TOPICS_VERSION).await;
            assert!(
                created.topics[0].error_code.is_ok(),
                "{:?}",
                created.topics[0]
            );
            let partitions = (0..IN_A_TOPIC).map(|index| PartitionProduceData {
                index: index as i32,
                records: Some(batch.bytes().clone()),
            });
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: 60_000,
                topic_data: vec![TopicProduceData {
                    name: topic.as_str().into(),
                    partition_data: partitions.collect(),
                    ..Default::default()
                }],
                ..Default::default()
            };
            let produced: ProduceResponse = ask(&mut stream, &request, PRODUCE_VERSION).await;
            let answers = &produced.responses[0].partition_responses;
            assert!(answers.iter().all(|answer| answer.error_code.is_ok()));
        }
    });
    client.await.expect("all was written");
    println!(
        "{:<44} {:.1?}",
        "broker: create and write all",
        began.elapsed()
    );
    let began = Instant::now();
    broker.shutdown().await.expect("it stops in order");
    println!(
        "{:<44} {:.1?}",
        "broker: first orderly stop",
        began.elapsed()
    );
}

async fn serve(data: &Path) {
    let began = Instant::now();
    let broker = start_broker(data).await;
    println!(
        "{:<44} {:.1?}  (target 5 s)",
        format!("broker: start with {}", partitions()),
        began.elapsed()
    );
    println!(
        "{:<44} {:.2} s",
        "broker: CPU time of the start",
        cpu_seconds()
    );
    println!(
        "{:<44} {:.0} MiB  (target 300)",
        "broker: memory",
        resident_mib()
    );
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!(
        "{:<44} {:.0} MiB",
        "broker: memory after ten seconds",
        resident_mib()
    );
    let began = Instant::now();
    broker.shutdown().await.expect("it stops in order");
    println!("{:<44} {:.1?}", "broker: orderly stop", began.elapsed());
}

fn main() {
    if !is_bench() {
        return;
    }
    let arguments: Vec<_> = std::env::args()
        .skip_while(|argument| argument != "--bench")
        .collect();
    match &arguments[..] {
        [_, what, root] if what == "open-logs" => return open_logs(Path::new(root)),
        [_, what, root] if what == "serve" => return block_on(serve(Path::new(root))),
        _ => {}
    }
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the logs");
    let (logs, data) = (root.path().join("logs"), root.path().join("data"));
    write_logs(&logs);
    in_a_process_of_its_own("open-logs", &logs);
    std::fs::remove_dir_all(&logs).expect("the data is ours");
    if arguments.iter().any(|argument| argument == "logs") {
        return;
    }
    block_on(write_topics(&data));
    in_a_process_of_its_own("serve", &data);
}
