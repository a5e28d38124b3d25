//! Messages of the protocol, to bytes and back, here and with the crate kafka-protocol:
//! `cargo bench -p tidelog-benches --bench protocol`. It ends with a table of how many times faster this codec is.
//!
//! Method: whole messages in the newest version that clients use, without header. Writing goes into one buffer that is
//! used again and again, as on a connection; here records are not copied, there they are. Reading makes the struct from one buffer. Criterion takes the mean of many turns. Times are given,
//! not bytes a second, which would say nothing where most of the bytes are not touched.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use tidelog_benches::{batch, batch_of_64_kib};
use tidelog_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use tidelog_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, JoinGroupResponseMember,
};
use tidelog_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use tidelog_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use tidelog_protocol::{Message, Payload, Writer};
use tidelog_types::{LeaderEpoch, NodeId, Offset, Str, Uuid};

const TOPIC_ID: Uuid = Uuid::from_bytes([7; 16]);

thread_local! {
    /// What was measured: the case, and the nanoseconds a turn with either codec.
    static MEASURED: RefCell<Vec<(String, [f64; 2])>> = const { RefCell::new(Vec::new()) };
}

/// Writes and reads one message with either codec.
fn both<M: Message, K: Encodable + Decodable>(
    criterion: &mut Criterion,
    what: &str,
    version: i16,
    message: &M,
) {
    let bytes = message.to_bytes(version).expect("it can be written");
    let mut theirs = bytes.clone();
    let theirs = K::decode(&mut theirs, version).expect("both codecs know the message");
    let name = format!("{} v{version}, {what}", M::NAME);
    let mut group = criterion.benchmark_group(&name);

    let mut writer = Writer::new();
    let start = writer.mark();
    let ours_write = measure(&mut group, "write", || {
        writer.rewind(start);
        let written = black_box(message).write(&mut writer, version);
        written.expect("it can be written");
        writer.len()
    });
    let mut buf = BytesMut::new();
    let theirs_write = measure(&mut group, "write, kafka-protocol", || {
        buf.clear();
        let written = black_box(&theirs).encode(&mut buf, version);
        written.expect("it can be written");
        buf.len()
    });
    let ours_read = measure(&mut group, "read", || {
        M::from_bytes(black_box(&bytes).clone(), version).expect("it can be read")
    });
    let theirs_read = measure(&mut group, "read, kafka-protocol", || {
        let mut bytes = black_box(&bytes).clone();
        K::decode(&mut bytes, version).expect("it can be read")
    });
    group.finish();
    MEASURED.with_borrow_mut(|measured| {
        measured.push((format!("{name}: write"), [ours_write, theirs_write]));
        measured.push((format!("{name}: read"), [ours_read, theirs_read]));
    });
}

/// Lets criterion measure, and looks over its shoulder: the median of the nanoseconds a turn.
fn measure<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    what: &str,
    mut turn: impl FnMut() -> T,
) -> f64 {
    let mut samples = Vec::new();
    group.bench_function(what, |b| {
        b.iter_custom(|turns| {
            let start = Instant::now();
            for _ in 0..turns {
                black_box(turn());
            }
            let elapsed = start.elapsed();
            samples.push(elapsed.as_nanos() as f64 / turns as f64);
            elapsed
        });
    });
    median(&mut samples)
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How many times faster this codec is than kafka-protocol, case by case.
#[allow(clippy::print_stdout, reason = "the table is what the bench is for")]
fn ratios() {
    let measured = MEASURED.take();
    let mut ratios = Vec::new();
    println!("\n{:>10} {:>14} {:>6}", "ns", "kafka-protocol", "times");
    for (case, [ours, theirs]) in &measured {
        let ratio = theirs / ours;
        println!("{ours:>10.0} {theirs:>14.0} {ratio:>6.2}  {case}");
        ratios.push(ratio);
    }
    println!(
        "least {:.2}, median {:.2}",
        ratios.iter().copied().fold(f64::MAX, f64::min),
        median(&mut ratios)
    );
}

fn produce(criterion: &mut Criterion) {
    let records = batch_of_64_kib().bytes().clone();
    for count in [1, 16] {
        let partitions = (0..count).map(|index| PartitionProduceData {
            index,
            records: Some(records.clone()),
        });
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                topic_id: TOPIC_ID,
                partition_data: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let what = format!("{count} x 64 KiB");
        both::<_, theirs::ProduceRequest>(criterion, &what, 13, &request);
        let partitions = (0..count).map(|index| PartitionProduceResponse {
            index,
            base_offset: Offset::new(1_000_000),
            log_start_offset: Offset::ZERO,
            ..Default::default()
        });
        let response = ProduceResponse {
            responses: vec![TopicProduceResponse {
                topic_id: TOPIC_ID,
                partition_responses: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        both::<_, theirs::ProduceResponse>(criterion, &what, 13, &response);
    }
}

/// The request that opens a session, one in the session that changes nothing, and the response with 1 KiB for each partition.
fn fetch(criterion: &mut Criterion) {
    both::<_, theirs::FetchRequest>(criterion, "in session", 17, &fetch_request(7, 3, 0));
    let records = batch(1, 950).bytes().clone();
    for count in [1, 500] {
        let what = format!("{count} partitions");
        both::<_, theirs::FetchRequest>(criterion, &what, 17, &fetch_request(0, 0, count));
        let partitions = (0..count).map(|partition_index| PartitionData {
            partition_index,
            high_watermark: Offset::new(1_000_000),
            last_stable_offset: Offset::new(1_000_000),
            log_start_offset: Offset::ZERO,
            records: Some(Payload::Bytes(records.clone())),
            ..Default::default()
        });
        let response = FetchResponse {
            session_id: 7,
            responses: vec![FetchableTopicResponse {
                topic_id: TOPIC_ID,
                partitions: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        both::<_, theirs::FetchResponse>(criterion, &what, 17, &response);
    }
}

fn fetch_request(session_id: i32, session_epoch: i32, partitions: i32) -> FetchRequest {
    let partitions = (0..partitions).map(|partition| FetchPartition {
        partition,
        current_leader_epoch: LeaderEpoch::new(3),
        fetch_offset: Offset::new(1_000_000),
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    let topic = FetchTopic {
        topic_id: TOPIC_ID,
        partitions: partitions.collect(),
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_id,
        session_epoch,
        topics: match topic.partitions.is_empty() {
            true => Vec::new(),
            false => vec![topic],
        },
        ..Default::default()
    }
}

/// A hundred topics of a hundred partitions with three replicas each.
fn metadata(criterion: &mut Criterion) {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("orders".into()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    both::<_, theirs::MetadataRequest>(criterion, "1 topic", 12, &request);
    let replicas: Vec<_> = (1..=3).map(NodeId::new).collect();
    let partitions = (0..100).map(|partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: NodeId::new(1),
        leader_epoch: LeaderEpoch::new(3),
        replica_nodes: replicas.clone(),
        isr_nodes: replicas.clone(),
        ..Default::default()
    });
    let partitions: Vec<_> = partitions.collect();
    let topics = (0..100).map(|i| MetadataResponseTopic {
        name: Some(format!("orders-of-the-day-{i}").into()),
        topic_id: TOPIC_ID,
        partitions: partitions.clone(),
        ..Default::default()
    });
    let brokers = replicas.iter().map(|&node_id| MetadataResponseBroker {
        node_id,
        host: "broker.example.com".into(),
        port: 9092,
        rack: None,
    });
    let response = MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some("Vb7lRqM0SO6Y1QRhzmyvRg".into()),
        controller_id: NodeId::new(1),
        topics: topics.collect(),
        ..Default::default()
    };
    both::<_, theirs::MetadataResponse>(criterion, "10,000 partitions", 12, &response);
}

/// What a consumer of a hundred partitions commits.
fn offset_commit(criterion: &mut Criterion) {
    let partitions = (0..100).map(|partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: Offset::new(1_000_000),
        committed_leader_epoch: LeaderEpoch::new(3),
        committed_metadata: Some(Str::EMPTY),
        ..Default::default()
    });
    let request = OffsetCommitRequest {
        group_id: "billing".into(),
        generation_id_or_member_epoch: 7,
        member_id: "billing-0-5c2b6ee1-40a5-4b9c-8f0e-4f0d8c1f5f21".into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "orders".into(),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    both::<_, theirs::OffsetCommitRequest>(criterion, "100 partitions", 9, &request);
    let partitions = (0..100).map(|partition_index| OffsetCommitResponsePartition {
        partition_index,
        ..Default::default()
    });
    let response = OffsetCommitResponse {
        topics: vec![OffsetCommitResponseTopic {
            name: "orders".into(),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    both::<_, theirs::OffsetCommitResponse>(criterion, "100 partitions", 9, &response);
}

/// A member that joins, and what the leader of a hundred members is told.
fn join_group(criterion: &mut Criterion) {
    let subscription = Bytes::from_static(&[1; 60]);
    let protocols = ["range", "cooperative-sticky"].map(|name| JoinGroupRequestProtocol {
        name: name.into(),
        metadata: subscription.clone(),
    });
    let request = JoinGroupRequest {
        group_id: "billing".into(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: protocols.into(),
        ..Default::default()
    };
    both::<_, theirs::JoinGroupRequest>(criterion, "2 protocols", 9, &request);
    let members = (0..100).map(|i| JoinGroupResponseMember {
        member_id: format!("billing-{i}-5c2b6ee1-40a5-4b9c-8f0e-4f0d8c1f5f21").into(),
        group_instance_id: None,
        metadata: subscription.clone(),
    });
    let response = JoinGroupResponse {
        generation_id: 7,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        leader: "billing-0-5c2b6ee1-40a5-4b9c-8f0e-4f0d8c1f5f21".into(),
        members: members.collect(),
        ..Default::default()
    };
    both::<_, theirs::JoinGroupResponse>(criterion, "100 members", 9, &response);
}

fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(20)
}

criterion_group! {
    name = benches;
    config = config();
    targets = produce, fetch, metadata, offset_commit, join_group
}
fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    ratios();
}
