//! What Apache Kafka 4.3.1 wrote into `__consumer_offsets`, read by this coordinator: groups of the classic protocol with and
//! without members, a commit in a transaction, and groups of other kinds, whose records are skipped.

use bytes::Bytes;
use tidelog_coordinator::group::{
    ClientInfo, Config, Effect, GroupCoordinator, GroupRecord, GroupRequest, GroupResponse, Input,
};
use tidelog_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use tidelog_protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use tidelog_types::{ErrorCode, LeaderEpoch, Now, ProducerId, Timestamp};

/// Just after the records were written.
const NOW: Timestamp = Timestamp::from_millis(1_795_411_187_000);

fn hex(text: &str) -> Bytes {
    let digits = |i: usize| u8::from_str_radix(&text[i..i + 2], 16).expect("two hex digits");
    (0..text.len()).step_by(2).map(digits).collect()
}

fn now() -> Now {
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no other way to make an Instant"
    )]
    Now {
        instant: std::time::Instant::now(),
        timestamp: NOW,
    }
}

/// A shard with the records of all partitions, up to the first that is not `wanted`.
fn loaded(wanted: impl Fn(&str) -> bool) -> GroupCoordinator {
    let mut shard = GroupCoordinator::new(now(), Config::default(), LeaderEpoch::new(0));
    let file = include_str!("../testdata/kafka-4.3.1.records");
    for line in file
        .lines()
        .filter(|line| !line.starts_with('#') && wanted(line))
    {
        let [producer_id, kind, key, value] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("four words: {line}")
        };
        let producer_id = ProducerId::new(producer_id.parse().expect("a producer id"));
        let key = hex(key);
        if kind == "marker" {
            // The key of a marker is its version and its type: 1 for commit.
            shard.replay_end_transaction(producer_id, key[3] == 1);
            continue;
        }
        let value = Some(value).filter(|value| *value != "-").map(hex);
        let record = GroupRecord::decode(&key, value.as_ref()).expect("Kafka's records are sound");
        if let Some(record) = record {
            shard.replay(producer_id, &record);
        }
    }
    shard.handle(now(), Input::Loaded, &mut Vec::new());
    shard.check();
    shard
}

fn ask(shard: &mut GroupCoordinator, request: GroupRequest) -> GroupResponse {
    let (request_id, version, client) = (1, 6, ClientInfo::default());
    let mut effects = Vec::new();
    shard.handle(
        now(),
        Input::Request {
            request_id,
            version,
            client,
            request,
        },
        &mut effects,
    );
    match effects.pop() {
        Some(Effect::Reply { response, .. }) => response,
        other => panic!("a reply, not {other:?}"),
    }
}

fn describe(shard: &mut GroupCoordinator, group: &str) -> DescribedGroup {
    let groups = vec![group.into()];
    let request = DescribeGroupsRequest {
        groups,
        ..Default::default()
    };
    match ask(shard, GroupRequest::DescribeGroups(request)) {
        GroupResponse::DescribeGroups(mut response) => response.groups.remove(0),
        other => panic!("a description, not {other:?}"),
    }
}

/// The offsets of a group: partition, offset, leader epoch.
fn fetch(
    shard: &mut GroupCoordinator,
    group: &str,
    topic: &str,
) -> Vec<(i32, i64, i32, ErrorCode)> {
    let topic = OffsetFetchRequestTopics {
        name: topic.into(),
        partition_indexes: (0..6).collect(),
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    match ask(
        shard,
        GroupRequest::OffsetFetch {
            group,
            require_stable: true,
        },
    ) {
        GroupResponse::OffsetFetch(response) => response.topics[0]
            .partitions
            .iter()
            .filter(|p| p.committed_offset.value() >= 0 || p.error_code != ErrorCode::NONE)
            .map(|p| {
                let epoch = p.committed_leader_epoch.value();
                (
                    p.partition_index,
                    p.committed_offset.value(),
                    epoch,
                    p.error_code,
                )
            })
            .collect(),
        other => panic!("offsets, not {other:?}"),
    }
}

const OK: ErrorCode = ErrorCode::NONE;

/// Hard corners 27 and 34, with Kafka as the coordinator that was there before. The expected offsets are what Kafka's own
/// `kafka-consumer-groups` printed.
#[test]
fn groups_of_kafka_go_on() {
    let mut shard = loaded(|_| true);

    let group = describe(&mut shard, "g-classic");
    assert_eq!(
        (&*group.group_state, &*group.protocol_type),
        ("Empty", "consumer")
    );
    let offsets = fetch(&mut shard, "g-classic", "partitions");
    let offsets: Vec<_> = offsets
        .iter()
        .map(|(index, offset, ..)| (*index, *offset))
        .collect();
    assert_eq!(offsets, [(1, 10), (2, 22), (3, 13), (4, 16), (5, 21)]);

    let group = describe(&mut shard, "g-static");
    assert_eq!(
        (&*group.group_state, &*group.protocol_data),
        ("Stable", "range")
    );
    let [member] = &group.members[..] else {
        panic!("one member: {group:?}")
    };
    assert_eq!(member.member_id, "one-e42c3989-9931-46f0-bc0f-f97f119b3abe");
    assert_eq!(member.group_instance_id.as_deref(), Some("one"));
    assert_eq!(
        (&*member.client_id, &*member.client_host),
        ("rdkafka", "/127.0.0.1")
    );
    assert!(!member.member_assignment.is_empty() && !member.member_metadata.is_empty());
    let offsets = fetch(&mut shard, "g-static", "partitions");
    assert_eq!(offsets, [(2, 21, 0, OK), (3, 9, 0, OK)]);

    let offsets = fetch(&mut shard, "g-consumer", "codec-lz4");
    assert_eq!(
        offsets,
        [(0, 63, 0, OK)],
        "offsets of other kinds of groups are kept"
    );
}

/// Hard corners 28 and 29: offsets in a transaction count from its marker on. Until then they are not stable.
#[test]
fn offsets_in_transactions_count_when_committed() {
    let mut shard = loaded(|_| true);
    assert_eq!(fetch(&mut shard, "g-ctp", "codec-none"), [(0, 50, 0, OK)]);

    let mut shard = loaded(|line| !line.contains(" marker "));
    let unstable = (0, -1, -1, ErrorCode::UNSTABLE_OFFSET_COMMIT);
    assert_eq!(fetch(&mut shard, "g-ctp", "codec-none"), [unstable]);
}

/// The records that this coordinator writes are those of Kafka, byte for byte.
#[test]
fn what_is_written_looks_like_what_kafka_writes() {
    let file = include_str!("../testdata/kafka-4.3.1.records");
    let mut compared = 0;
    for line in file.lines().filter(|line| line.contains(" data ")) {
        let [_, _, key, value] = line.split(' ').collect::<Vec<_>>()[..] else {
            continue;
        };
        let value = Some(value).filter(|value| *value != "-").map(hex);
        let record = GroupRecord::decode(&hex(key), value.as_ref()).expect("a sound record");
        if let Some(record) = record {
            assert_eq!(
                record.encode().expect("it can be written"),
                (hex(key), value)
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 44);
}
