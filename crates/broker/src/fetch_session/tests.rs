use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidelog_protocol::Payload;
use tidelog_protocol::messages::fetch::{
    EpochEndOffset, FetchPartition, FetchTopic, ForgottenTopic,
};
use tidelog_types::{LeaderEpoch, Offset, PartitionIndex, TopicName, Uuid};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn sessions(slots_max: usize) -> FetchSessions {
    FetchSessions::new(
        Config {
            slots_max,
            ..Config::default()
        },
        7,
    )
}

/// A request in version 12 for partitions of topics, written as `a-0`.
fn request(
    session_id: i32,
    session_epoch: i32,
    partitions: &[&str],
    forgotten: &[&str],
) -> FetchRequest {
    fn split(text: &str) -> (TopicName, PartitionIndex) {
        let (topic, partition) = text.split_once('-').expect("topic-partition");
        (TopicName::from(topic), partition.parse().expect("a number"))
    }
    let topics = partitions.iter().map(|text| {
        let (topic, partition) = split(text);
        let partition = FetchPartition {
            partition,
            ..FetchPartition::default()
        };
        FetchTopic {
            topic,
            partitions: vec![partition],
            ..FetchTopic::default()
        }
    });
    let forgotten_topics_data = forgotten.iter().map(|text| {
        let (topic, partition) = split(text);
        ForgottenTopic {
            topic,
            partitions: vec![partition],
            ..ForgottenTopic::default()
        }
    });
    FetchRequest {
        session_id,
        session_epoch,
        topics: topics.collect(),
        forgotten_topics_data: forgotten_topics_data.collect(),
        ..FetchRequest::default()
    }
}

fn follower(request: FetchRequest) -> FetchRequest {
    FetchRequest {
        replica_id: NodeId::new(2),
        ..request
    }
}

fn nothing_new(_: &Topic, wanted: &Wanted) -> PartitionData {
    PartitionData {
        partition_index: wanted.partition,
        high_watermark: Offset::new(10),
        last_stable_offset: Offset::new(10),
        log_start_offset: Offset::ZERO,
        records: Some(Payload::default()),
        ..PartitionData::default()
    }
}

fn with_records(data: PartitionData) -> PartitionData {
    PartitionData {
        records: Some(Payload::Deferred { len: 100, token: 0 }),
        ..data
    }
}

/// Serves a request with what `read` finds.
fn serve(
    sessions: &FetchSessions,
    now: Instant,
    request: &FetchRequest,
    read: impl Fn(&Topic, &Wanted) -> PartitionData,
) -> FetchResponse {
    match sessions.begin(now, 12, request) {
        Err(error_code) => FetchResponse {
            error_code,
            ..FetchResponse::default()
        },
        Ok(context) => {
            let results: Vec<_> = context
                .partitions()
                .map(|(topic, wanted)| read(topic, wanted))
                .collect();
            assert_eq!(results.len(), context.len());
            sessions.finish(now, context, results)
        }
    }
}

fn open(sessions: &FetchSessions, now: Instant, partitions: &[&str]) -> i32 {
    serve(sessions, now, &request(0, 0, partitions, &[]), nothing_new).session_id
}

fn names(response: &FetchResponse) -> Vec<String> {
    let topics = response.responses.iter();
    topics
        .flat_map(|t| {
            t.partitions
                .iter()
                .map(|p| format!("{}-{}", t.topic, p.partition_index))
        })
        .collect()
}

fn order(sessions: &FetchSessions, now: Instant, id: i32, epoch: i32) -> Vec<String> {
    let context = sessions
        .begin(now, 12, &request(id, epoch, &[], &[]))
        .expect("a session");
    let order = context
        .partitions()
        .map(|(topic, wanted)| format!("{}-{}", topic.name, wanted.partition))
        .collect();
    let results: Vec<_> = context
        .partitions()
        .map(|(topic, wanted)| nothing_new(topic, wanted))
        .collect();
    sessions.finish(now, context, results);
    order
}

#[test]
fn without_a_session_everything_is_answered() {
    let (sessions, now) = (sessions(10), Instant::now());
    let response = serve(
        &sessions,
        now,
        &request(0, -1, &["a-0", "a-1", "b-0"], &[]),
        nothing_new,
    );
    assert_eq!(
        (response.session_id, names(&response)),
        (0, vec!["a-0".into(), "a-1".into(), "b-0".into()])
    );
}

#[test]
fn neighbours_of_a_topic_share_an_entry() {
    let (sessions, now) = (sessions(10), Instant::now());
    let response = serve(
        &sessions,
        now,
        &request(0, 0, &["a-0", "a-1", "b-0", "a-2"], &[]),
        nothing_new,
    );
    let sizes: Vec<usize> = response
        .responses
        .iter()
        .map(|t| t.partitions.len())
        .collect();
    assert_eq!(sizes, [2, 1, 1]);
}

// Hard corner 9.
#[test]
fn an_incremental_answer_has_what_is_news_and_nothing_else() {
    let (sessions, now) = (sessions(10), Instant::now());
    let id = open(&sessions, now, &["a-0", "a-1", "a-2"]);
    assert_ne!(id, 0);
    let mut epoch = 0;
    let mut fetch = |change: &dyn Fn(PartitionData) -> PartitionData| {
        epoch += 1;
        let response = serve(
            &sessions,
            now,
            &request(id, epoch, &[], &[]),
            |topic, wanted| {
                let data = nothing_new(topic, wanted);
                if wanted.partition == 1 {
                    change(data)
                } else {
                    data
                }
            },
        );
        assert_eq!(
            (response.error_code, response.session_id),
            (ErrorCode::NONE, id)
        );
        names(&response)
    };
    let none: [String; 0] = [];
    assert_eq!(fetch(&|data| data), none);
    let moved = |data| PartitionData {
        high_watermark: Offset::new(12),
        ..data
    };
    assert_eq!(fetch(&moved), ["a-1"]);
    assert_eq!(fetch(&moved), none, "told once");
    let stable = |data| PartitionData {
        last_stable_offset: Offset::new(8),
        ..moved(data)
    };
    assert_eq!(fetch(&stable), ["a-1"]);
    let started = |data| PartitionData {
        log_start_offset: Offset::new(3),
        ..stable(data)
    };
    assert_eq!(fetch(&started), ["a-1"]);
    assert_eq!(fetch(&started), none, "told once");
    let elsewhere = |data| PartitionData {
        preferred_read_replica: NodeId::new(3),
        ..started(data)
    };
    assert_eq!(fetch(&elsewhere), ["a-1"]);
    let diverging_epoch = EpochEndOffset {
        epoch: LeaderEpoch::new(1),
        end_offset: Offset::new(2),
    };
    let diverging = |data| PartitionData {
        diverging_epoch: diverging_epoch.clone(),
        ..started(data)
    };
    assert_eq!(fetch(&diverging), ["a-1"]);
    assert_eq!(fetch(&|data| with_records(started(data))), ["a-1"]);
    let failed = |data| PartitionData {
        error_code: ErrorCode::KAFKA_STORAGE_ERROR,
        ..started(data)
    };
    assert_eq!(fetch(&failed), ["a-1"]);
    assert_eq!(fetch(&failed), ["a-1"], "an error is told each time");
    assert_eq!(fetch(&started), ["a-1"], "and so is its end");
    assert_eq!(fetch(&started), none);
}

// Hard corner 9: a lost answer shows as a gap, a restart as an unknown session.
#[test]
fn wrong_ids_and_epochs_are_refused() {
    let (sessions, now) = (sessions(10), Instant::now());
    let id = open(&sessions, now, &["a-0"]);
    let error = |request: &FetchRequest| serve(&sessions, now, request, nothing_new).error_code;
    assert_eq!(
        error(&request(id, 2, &[], &[])),
        ErrorCode::INVALID_FETCH_SESSION_EPOCH
    );
    assert_eq!(error(&request(id, 1, &[], &[])), ErrorCode::NONE);
    assert_eq!(
        error(&request(id, 1, &[], &[])),
        ErrorCode::INVALID_FETCH_SESSION_EPOCH
    );
    assert_eq!(
        error(&request(id, -7, &[], &[])),
        ErrorCode::INVALID_FETCH_SESSION_EPOCH
    );
    assert_eq!(
        error(&request(id ^ 1, 1, &[], &[])),
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
    );
    assert_eq!(
        error(&request(0, 1, &[], &[])),
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
    );
}

#[test]
fn a_session_stays_with_names_or_with_ids() {
    let (sessions, now) = (sessions(10), Instant::now());
    let id = open(&sessions, now, &["a-0"]);
    let error = sessions
        .begin(now, 13, &request(id, 1, &[], &[]))
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
    assert_eq!(
        serve(&sessions, now, &request(id, 1, &[], &[]), nothing_new).error_code,
        ErrorCode::NONE
    );
}

#[test]
fn topics_are_told_apart_by_id() {
    let (sessions, now) = (sessions(10), Instant::now());
    let topic = |id: u8| FetchTopic {
        topic_id: Uuid::from_bytes([id; 16]),
        partitions: vec![FetchPartition::default()],
        ..FetchTopic::default()
    };
    let request = FetchRequest {
        session_epoch: 0,
        topics: vec![topic(1), topic(2)],
        ..FetchRequest::default()
    };
    let context = sessions.begin(now, 13, &request).expect("a new session");
    let results: Vec<_> = context
        .partitions()
        .map(|(topic, wanted)| nothing_new(topic, wanted))
        .collect();
    let response = sessions.finish(now, context, results);
    let ids: Vec<_> = response
        .responses
        .iter()
        .map(|topic| topic.topic_id)
        .collect();
    assert_eq!(ids, [Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16])]);
}

#[test]
fn the_epoch_wraps_to_one() {
    assert_eq!(
        [0, 1, i32::MAX - 1, i32::MAX].map(next_epoch),
        [1, 2, i32::MAX, 1]
    );
}

#[test]
fn partitions_with_data_go_to_the_end() {
    let (sessions, now) = (sessions(10), Instant::now());
    let id = open(&sessions, now, &["a-0", "a-1", "b-0", "b-1"]);
    serve(
        &sessions,
        now,
        &request(id, 1, &[], &[]),
        |topic, wanted| {
            let data = nothing_new(topic, wanted);
            if wanted.partition == 0 {
                with_records(data)
            } else {
                data
            }
        },
    );
    assert_eq!(order(&sessions, now, id, 2), ["a-1", "b-1", "a-0", "b-0"]);
}

#[test]
fn a_request_changes_adds_and_forgets() {
    let (sessions, now) = (sessions(10), Instant::now());
    let id = open(&sessions, now, &["a-0", "a-1", "b-0"]);
    let mut change = request(id, 1, &["a-1", "c-0"], &["b-0", "a-0", "x-9"]);
    change.topics[0].partitions[0].fetch_offset = Offset::new(5);
    let context = sessions.begin(now, 12, &change).expect("a session");
    let wanted: Vec<_> = context
        .partitions()
        .map(|(t, w)| (t.name.to_string(), w.partition, w.fetch_offset.value()))
        .collect();
    assert_eq!(wanted, [("a".into(), 1, 5), ("c".into(), 0, 0)]);
    let results: Vec<_> = context
        .partitions()
        .map(|(t, w)| nothing_new(t, w))
        .collect();
    assert_eq!(
        names(&sessions.finish(now, context, results)),
        ["c-0"],
        "the new one is told in full"
    );
    let context = sessions
        .begin(now, 12, &request(id, 2, &["d-0", "a-0"], &["a-1"]))
        .expect("a session");
    let names: Vec<_> = context
        .partitions()
        .map(|(t, w)| format!("{}-{}", t.name, w.partition))
        .collect();
    assert_eq!(names, ["c-0", "d-0", "a-0"]);
}

#[test]
fn a_session_without_partitions_is_closed() {
    let (sessions, now) = (sessions(10), Instant::now());
    let id = open(&sessions, now, &["a-0"]);
    let response = serve(&sessions, now, &request(id, 1, &[], &["a-0"]), nothing_new);
    assert_eq!(
        (response.error_code, response.session_id),
        (ErrorCode::NONE, 0)
    );
    let response = serve(&sessions, now, &request(id, 2, &[], &[]), nothing_new);
    assert_eq!(response.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn a_full_fetch_closes_the_session_that_it_names() {
    let (sessions, now) = (sessions(10), Instant::now());
    for epoch in [-1, 0] {
        let id = open(&sessions, now, &["a-0"]);
        let response = serve(
            &sessions,
            now,
            &request(id, epoch, &["a-0"], &[]),
            nothing_new,
        );
        assert_eq!(
            (names(&response), response.session_id == id),
            (vec!["a-0".to_owned()], false)
        );
        let response = serve(&sessions, now, &request(id, 1, &[], &[]), nothing_new);
        assert_eq!(response.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }
    let cache = sessions.cache.lock();
    assert_eq!((cache.sessions.len(), cache.partitions_count), (1, 1));
}

#[test]
fn two_fetches_of_a_session_at_once_are_one_too_many() {
    let (sessions, now) = (sessions(10), Instant::now());
    let id = open(&sessions, now, &["a-0"]);
    let first = sessions
        .begin(now, 12, &request(id, 1, &[], &[]))
        .expect("a session");
    let second = serve(&sessions, now, &request(id, 2, &[], &[]), nothing_new);
    assert_eq!(second.error_code, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    // Closed while the first waits: its answer finds no session to go back to.
    serve(&sessions, now, &request(id, -1, &[], &[]), nothing_new);
    let results: Vec<_> = first.partitions().map(|(t, w)| nothing_new(t, w)).collect();
    assert_eq!(sessions.finish(now, first, results).session_id, id);
    assert_eq!(sessions.cache.lock().partitions_count, 0);
}

#[test]
fn a_full_cache_lets_larger_sessions_in_only_after_a_while() {
    let (sessions, start) = (sessions(2), Instant::now());
    let small = open(&sessions, start, &["a-0"]);
    let large = open(&sessions, start, &["a-0", "a-1", "a-2"]);
    assert_eq!(
        open(&sessions, start, &["b-0", "b-1"]),
        0,
        "both are too young"
    );
    let mut now = start;
    for epoch in 1..=3 {
        now += MINUTE;
        serve(
            &sessions,
            now,
            &request(small, epoch, &[], &[]),
            nothing_new,
        );
        serve(
            &sessions,
            now,
            &request(large, epoch, &[], &[]),
            nothing_new,
        );
    }
    assert_eq!(
        open(&sessions, now, &["b-0"]),
        0,
        "not larger than the smallest"
    );
    assert_ne!(open(&sessions, now, &["b-0", "b-1"]), 0);
    let error = |id| serve(&sessions, now, &request(id, 4, &[], &[]), nothing_new).error_code;
    assert_eq!(
        (error(small), error(large)),
        (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, ErrorCode::NONE)
    );
}

#[test]
fn an_unused_session_gives_way_to_any_other() {
    let (sessions, start) = (sessions(1), Instant::now());
    serve(
        &sessions,
        start,
        &follower(request(0, 0, &["a-0", "a-1"], &[])),
        nothing_new,
    );
    assert_eq!(open(&sessions, start + 2 * MINUTE, &["b-0"]), 0);
    assert_ne!(open(&sessions, start + 3 * MINUTE, &["b-0"]), 0);
}

#[test]
fn a_follower_pushes_out_a_consumer_and_never_the_other_way_round() {
    let (sessions, now) = (sessions(1), Instant::now());
    assert_ne!(open(&sessions, now, &["a-0", "a-1"]), 0);
    let opening = follower(request(0, 0, &["a-0"], &[]));
    let id = serve(&sessions, now, &opening, nothing_new).session_id;
    assert_ne!(id, 0);
    let mut later = now;
    for epoch in 1..=3 {
        later += MINUTE;
        serve(&sessions, later, &request(id, epoch, &[], &[]), nothing_new);
    }
    assert_eq!(open(&sessions, later, &["b-0", "b-1", "b-2"]), 0);
}

#[test]
fn sessions_that_follow_too_much_are_not_kept() {
    let config = Config {
        partitions_max: 3,
        ..Config::default()
    };
    let (sessions, now) = (FetchSessions::new(config, 7), Instant::now());
    assert_eq!(open(&sessions, now, &["a-0", "a-1", "a-2", "a-3"]), 0);
    let id = open(&sessions, now, &["a-0", "a-1"]);
    let response = serve(
        &sessions,
        now,
        &request(id, 1, &["a-2", "a-3"], &[]),
        nothing_new,
    );
    assert_eq!((response.session_id, response.responses.len()), (id, 1));
    let response = serve(&sessions, now, &request(id, 2, &[], &[]), nothing_new);
    assert_eq!(response.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(sessions.cache.lock().partitions_count, 0);
}

/// What the broker would say of a partition: error or not, high watermark, log start.
type State = (bool, i64, i64);

fn data_of(state: State, partition: PartitionIndex) -> PartitionData {
    let (failed, high_watermark, log_start_offset) = state;
    let data = PartitionData {
        partition_index: partition,
        ..PartitionData::default()
    };
    if failed {
        let [high_watermark, last_stable_offset] = [Offset::NONE; 2];
        return PartitionData {
            error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
            high_watermark,
            last_stable_offset,
            ..data
        };
    }
    PartitionData {
        high_watermark: Offset::new(high_watermark),
        last_stable_offset: Offset::new(high_watermark),
        log_start_offset: Offset::new(log_start_offset),
        ..data
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A client that believes what it was last told is never wrong about a partition that it follows.
    #[test]
    fn what_is_left_out_has_not_changed(
        rounds in proptest::collection::vec(
            (
                proptest::collection::vec((0..6_i32, (any::<bool>(), 0..3_i64, 0..2_i64)), 0..4),
                proptest::collection::btree_set(0..6_i32, 0..4),
                proptest::collection::btree_set(0..6_i32, 0..4),
            ),
            1..20,
        )
    ) {
        let (sessions, now) = (sessions(1), Instant::now());
        let mut truth: BTreeMap<i32, State> = (0..6).map(|partition| (partition, (false, 0, 0))).collect();
        let mut believed: BTreeMap<i32, PartitionData> = BTreeMap::new();
        let (mut id, mut epoch) = (0, 0);
        for (changes, wanted, forgotten) in rounds {
            truth.extend(changes);
            let texts = |set: &BTreeSet<i32>| set.iter().map(|p| format!("t-{p}")).collect::<Vec<_>>();
            let forget = if epoch == 0 { Vec::new() } else { texts(&forgotten) };
            let wanted = texts(&wanted);
            let [wanted, forget] = [&wanted, &forget].map(|t| t.iter().map(String::as_str).collect::<Vec<_>>());
            let request = request(id, epoch, &wanted, &forget);
            let response = serve(&sessions, now, &request, |_, wanted| data_of(truth[&wanted.partition], wanted.partition));
            prop_assert_eq!(response.error_code, ErrorCode::NONE);
            for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
                believed.insert(data.partition_index, data);
            }
            if epoch != 0 {
                believed.retain(|partition, _| !forgotten.contains(partition));
            }
            id = response.session_id;
            epoch = if id == 0 { 0 } else { epoch + 1 };
            if id == 0 {
                believed.clear();
            }
            for (partition, data) in &believed {
                prop_assert_eq!(data, &data_of(truth[partition], *partition));
            }
            let followed = sessions.cache.lock().partitions_count;
            prop_assert_eq!(followed, believed.len());
        }
    }
}
