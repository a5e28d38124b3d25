//! Brokers and partitions as Apache Kafka 4.3.1 decides about them: what its controller answered, and what it wrote.
//!
//! `kafka-4.3.1-brokers.txt` and `kafka-4.3.1-partitions.txt` were recorded over the controller listener of a node that was
//! nothing but a controller, with `broker.session.timeout.ms=3000` (600000 for the partitions) and
//! `metadata.max.idle.interval.ms=0`; no brokers were there but the ones that the requests pretend to be. What was asked about
//! partitions is random: ISRs, elections, reassignments, brokers that go and return, configs, more partitions. `request KEY VERSION BODY` and `answer BODY` are messages in hexadecimal, `pass` is time in milliseconds,
//! `takeover OFFSET` begins anew with what the log has below that offset, and `batch OFFSET RECORD..` are the batches of the log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_metadata::ApiError;
use tidelog_metadata::bootstrap::record_version;
use tidelog_metadata::configs::BrokerConfig;
use tidelog_metadata::controller::{
    BrokerEpoch, Config, Controller, ControllerRequest, ControllerResponse, Effect, Input,
    Restored, list_partition_reassignments,
};
use tidelog_metadata::image::Image;
use tidelog_protocol::messages::allocate_producer_ids::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse,
};
use tidelog_protocol::messages::alter_partition::AlterPartitionResponse;
use tidelog_protocol::messages::alter_partition_reassignments::AlterPartitionReassignmentsResponse;
use tidelog_protocol::messages::assign_replicas_to_dirs::AssignReplicasToDirsResponse;
use tidelog_protocol::messages::broker_heartbeat::BrokerHeartbeatResponse;
use tidelog_protocol::messages::broker_registration::BrokerRegistrationResponse;
use tidelog_protocol::messages::controller_registration::ControllerRegistrationResponse;
use tidelog_protocol::messages::create_partitions::CreatePartitionsResponse;
use tidelog_protocol::messages::delete_topics::DeleteTopicsResponse;
use tidelog_protocol::messages::elect_leaders::ElectLeadersResponse;
use tidelog_protocol::messages::incremental_alter_configs::IncrementalAlterConfigsResponse;
use tidelog_protocol::messages::list_partition_reassignments::ListPartitionReassignmentsResponse;
use tidelog_protocol::messages::unregister_broker::UnregisterBrokerResponse;
use tidelog_protocol::messages::update_features::UpdateFeaturesResponse;
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_protocol::{Message, Reader};
use tidelog_types::{ErrorCode, Now, Offset, Timestamp};

const BROKERS: &str = include_str!("../testdata/kafka-4.3.1-brokers.txt");
const PARTITIONS: &str = include_str!("../testdata/kafka-4.3.1-partitions.txt");
const PROPERTIES: &str =
    "node.id=100\nbroker.session.timeout.ms=3000\nmetadata.max.idle.interval.ms=0";

/// Our controller in the place of Kafka's.
struct Stand {
    now: Now,
    controller: Controller,
    /// What it has written, by offset.
    written: BTreeMap<i64, MetadataRecord>,
}

impl Stand {
    fn new(cluster_id: &str, now: Now, log: &BTreeMap<i64, MetadataRecord>, end: i64) -> Self {
        let (broker, _) = BrokerConfig::parse(PROPERTIES).expect("a configuration");
        let mut image = Image::default();
        let below: Vec<_> = log.range(..end).map(|(_, record)| record).collect();
        image.apply_batch(below).expect("Kafka's log is sound");
        let restored = Restored {
            image,
            end_offset: Offset::new(end),
        };
        let config = Config::new(broker, cluster_id.into(), [1; 32]);
        let mut stand = Self {
            now,
            controller: Controller::new(now, config, restored),
            written: BTreeMap::new(),
        };
        stand.handle(Input::KRaftVersion { level: 1 });
        stand
    }

    fn handle(&mut self, input: Input) -> Option<ControllerResponse> {
        let mut effects = Vec::new();
        self.controller.handle(self.now, input, &mut effects);
        self.controller.check();
        let offset = self.controller.end_offset();
        self.controller
            .handle(self.now, Input::Committed { offset }, &mut effects);
        let mut answer = None;
        for effect in effects {
            match effect {
                Effect::Append {
                    base_offset,
                    records,
                } => self.written.extend((base_offset.value()..).zip(records)),
                Effect::Reply { response, .. } => answer = Some(response),
                other => panic!("unknown effect {other:?}"),
            }
        }
        answer
    }

    fn answer(&mut self, key: i16, version: i16, body: &Bytes) -> String {
        if key == 46 {
            let image = self.controller.image();
            return ongoing(list_partition_reassignments(image, &read(body, version)));
        }
        let request = request(key, version, body);
        let answer = self.handle(Input::Request {
            request_id: 1,
            request,
        });
        ours(version, answer.expect("an answer"))
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self
            .controller
            .deadline()
            .is_some_and(|due| due <= self.now.instant)
        {
            self.handle(Input::Timeout);
        }
    }

    /// All that was written is what Kafka wrote, up to the order in which the partitions of one move come.
    fn compare(&self, log: &BTreeMap<i64, MetadataRecord>, from: i64, to: i64) {
        let version = self.controller.image().metadata_version();
        let lines = |records: &mut dyn Iterator<Item = (&i64, &MetadataRecord)>| {
            let mut lines: Vec<(i64, String)> = Vec::new();
            for (offset, record) in records {
                // A run of changes of partitions counts as a whole.
                let run = lines.last().map_or(*offset, |(last, _)| *last);
                let continues = lines
                    .last()
                    .is_some_and(|(_, text)| text.starts_with("PartitionChange"));
                let is_change = matches!(record, MetadataRecord::PartitionChange(_));
                let at = if continues && is_change { run } else { *offset };
                let bytes = record
                    .encode(record_version(record, version))
                    .expect("it can be carried");
                lines.push((at, format!("{record:?} {bytes:?}")));
            }
            lines.sort();
            lines
        };
        let ours = lines(&mut self.written.iter());
        let kafkas = lines(&mut log.range(from..to));
        for (ours, kafkas) in ours.iter().zip(&kafkas) {
            assert_eq!(ours, kafkas);
        }
        assert_eq!(ours.len(), kafkas.len(), "{ours:#?}\n{kafkas:#?}");
    }
}

fn read<M: Message>(bytes: &Bytes, version: i16) -> M {
    M::read(&mut Reader::new(bytes.clone()), version).expect("a message")
}

fn request(key: i16, version: i16, body: &Bytes) -> ControllerRequest {
    match key {
        20 => ControllerRequest::DeleteTopics {
            api_version: version,
            request: read(body, version),
        },
        37 => ControllerRequest::CreatePartitions(read(body, version)),
        43 => ControllerRequest::ElectLeaders(read(body, version)),
        44 => ControllerRequest::IncrementalAlterConfigs(read(body, version)),
        45 => ControllerRequest::AlterPartitionReassignments(read(body, version)),
        56 => ControllerRequest::AlterPartition(read(body, version)),
        57 => ControllerRequest::UpdateFeatures(read(body, version)),
        62 => ControllerRequest::BrokerRegistration(read(body, version)),
        63 => ControllerRequest::BrokerHeartbeat(read(body, version)),
        64 => ControllerRequest::UnregisterBroker(read(body, version)),
        67 => {
            let request: AllocateProducerIdsRequest = read(body, version);
            ControllerRequest::AllocateProducerIds(BrokerEpoch {
                broker_id: request.broker_id,
                broker_epoch: request.broker_epoch,
            })
        }
        70 => ControllerRequest::ControllerRegistration(read(body, version)),
        73 => ControllerRequest::AssignReplicasToDirs(read(body, version)),
        other => panic!("no request has key {other}"),
    }
}

/// What an answer of Kafka's says, without the texts of errors.
fn kafkas(key: i16, version: i16, body: &Bytes) -> String {
    match key {
        20 => deleted(read(body, version)),
        37 => grown(read(body, version)),
        43 => elected(read(body, version)),
        44 => configured(read(body, version)),
        45 => reassigned(version, read(body, version)),
        46 => ongoing(read(body, version)),
        56 => format!("{:?}", read::<AlterPartitionResponse>(body, version)),
        57 => features(version, read(body, version)),
        62 => {
            let answer: BrokerRegistrationResponse = read(body, version);
            format!("{} epoch {}", answer.error_code, answer.broker_epoch)
        }
        63 => format!("{:?}", read::<BrokerHeartbeatResponse>(body, version)),
        64 => read::<UnregisterBrokerResponse>(body, version)
            .error_code
            .to_string(),
        67 => {
            let answer: AllocateProducerIdsResponse = read(body, version);
            let (first, len) = (answer.producer_id_start, answer.producer_id_len);
            format!("{} ids {first} {len}", answer.error_code)
        }
        70 => read::<ControllerRegistrationResponse>(body, version)
            .error_code
            .to_string(),
        73 => format!("{:?}", read::<AssignReplicasToDirsResponse>(body, version)),
        other => panic!("no answer has key {other}"),
    }
}

/// The same of an answer of ours.
fn ours(version: i16, response: ControllerResponse) -> String {
    match response {
        ControllerResponse::DeleteTopics(answer) => deleted(answer),
        ControllerResponse::CreatePartitions(answer) => grown(answer),
        ControllerResponse::ElectLeaders(answer) => elected(answer),
        ControllerResponse::IncrementalAlterConfigs(answer) => configured(answer),
        ControllerResponse::AlterPartitionReassignments(answer) => reassigned(version, answer),
        ControllerResponse::AlterPartition(answer) => format!("{answer:?}"),
        ControllerResponse::UpdateFeatures(answer) => features(version, answer),
        ControllerResponse::BrokerRegistration(answer) => {
            format!("{} epoch {}", code(&answer), answer.unwrap_or(-1))
        }
        ControllerResponse::BrokerHeartbeat(answer) => {
            let error_code = code(&answer);
            let refused = BrokerHeartbeatResponse {
                error_code,
                ..Default::default()
            };
            format!("{:?}", answer.unwrap_or(refused))
        }
        ControllerResponse::AllocateProducerIds(answer) => {
            let code = code(&answer);
            let (first, len) = answer.map_or_else(|_| Default::default(), |b| (b.first, b.len));
            format!("{code} ids {first} {len}")
        }
        ControllerResponse::UnregisterBroker(answer)
        | ControllerResponse::ControllerRegistration(answer) => code(&answer).to_string(),
        ControllerResponse::AssignReplicasToDirs(answer) => format!("{answer:?}"),
        other => panic!("nobody asked for {other:?}"),
    }
}

fn code<T>(answer: &Result<T, ApiError>) -> ErrorCode {
    answer
        .as_ref()
        .map_or_else(|error| error.code, |_| ErrorCode::NONE)
}

/// Only versions 0 and 1 tell of each feature.
fn features(version: i16, answer: UpdateFeaturesResponse) -> String {
    let results = answer.results.iter().filter(|_| version <= 1);
    let results: Vec<_> = results
        .map(|result| (&result.feature, result.error_code))
        .collect();
    format!("{} {results:?}", answer.error_code)
}

/// Lines in an order of their own: that of topics and partitions is not the same.
fn sorted(lines: impl Iterator<Item = String>) -> String {
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines.join("\n")
}

fn deleted(answer: DeleteTopicsResponse) -> String {
    let topics = answer.responses.into_iter();
    sorted(topics.map(|topic| format!("{:?} {}", topic.name, topic.error_code)))
}

fn grown(answer: CreatePartitionsResponse) -> String {
    sorted(
        answer
            .results
            .into_iter()
            .map(|topic| format!("{} {}", topic.name, topic.error_code)),
    )
}

fn configured(answer: IncrementalAlterConfigsResponse) -> String {
    let resources = answer.responses.into_iter();
    sorted(resources.map(|resource| format!("{} {}", resource.resource_name, resource.error_code)))
}

fn elected(answer: ElectLeadersResponse) -> String {
    let topics = answer.replica_election_results.into_iter();
    let lines = topics.map(|topic| {
        let mut of: Vec<_> = topic
            .partition_result
            .iter()
            .map(|p| (p.partition_id, p.error_code))
            .collect();
        of.sort();
        format!("{} {of:?}", topic.topic)
    });
    format!("{} {}", answer.error_code, sorted(lines))
}

fn reassigned(version: i16, answer: AlterPartitionReassignmentsResponse) -> String {
    let topics = answer.responses.into_iter();
    let lines = topics.map(|topic| {
        let of: Vec<_> = topic
            .partitions
            .iter()
            .map(|p| (p.partition_index, p.error_code))
            .collect();
        format!("{} {of:?}", topic.name)
    });
    // Version 0 does not tell.
    let may = version == 0 || answer.allow_replication_factor_change;
    format!("{} {may} {}", answer.error_code, sorted(lines))
}

fn ongoing(answer: ListPartitionReassignmentsResponse) -> String {
    let topics = answer.topics.into_iter();
    let lines = topics.map(|mut topic| {
        topic
            .partitions
            .sort_by_key(|partition| partition.partition_index);
        format!("{topic:?}")
    });
    format!("{} {}", answer.error_code, sorted(lines))
}

fn bytes(hex: &str) -> Bytes {
    let digit = |c: u8| (c as char).to_digit(16).expect("a hexadecimal digit") as u8;
    let byte = |hex: &[u8]| digit(hex[0]) << 4 | digit(hex[1]);
    Bytes::from_iter(hex.as_bytes().chunks_exact(2).map(byte))
}

/// The records of the log by offset.
fn log(told: &str) -> BTreeMap<i64, MetadataRecord> {
    let mut log = BTreeMap::new();
    for batch in told.lines().filter_map(|line| line.strip_prefix("batch ")) {
        let (offset, records) = batch.split_once(' ').expect("an offset");
        let records = records
            .split(' ')
            .map(|hex| MetadataRecord::decode(&bytes(hex)));
        let offset: i64 = offset.parse().expect("an offset");
        log.extend((offset..).zip(records.map(|record| record.expect("a record"))));
    }
    log
}

#[test]
fn brokers_live_as_with_kafkas_controller() {
    play(BROKERS);
}

#[test]
fn partitions_change_as_with_kafkas_controller() {
    play(PARTITIONS);
}

fn play(told: &str) {
    let log = log(told);
    let end = log.keys().next_back().expect("there are records") + 1;
    let mut time = now();
    let (mut cluster_id, mut from, mut what) = ("", 0, "");
    let mut asked = None;
    let mut stand: Option<Stand> = None;
    let mut count = 0;
    for line in told.lines() {
        let (word, rest) = line.split_once(' ').expect("a word and more");
        match word {
            "#" => what = rest,
            "cluster" => cluster_id = rest,
            "takeover" => {
                let offset = rest.parse().expect("an offset");
                if let Some(stand) = stand.take() {
                    // The topic, and what Kafka writes while nothing is asked, are not ours.
                    stand.compare(&log, from, stand.controller.end_offset().value());
                    time = stand.now;
                }
                from = offset;
                stand = Some(Stand::new(cluster_id, time, &log, offset));
            }
            "pass" => {
                let ms = rest.parse().expect("milliseconds");
                let stand = stand.as_mut().expect("a controller");
                stand.pass(Duration::from_millis(ms));
            }
            "request" => asked = Some(rest),
            "answer" => {
                let mut words = asked.take().expect("a request").split(' ');
                let mut word = || words.next().expect("KEY VERSION BODY");
                let key = word().parse().expect("a key");
                let version = word().parse().expect("a version");
                let body = bytes(word());
                let stand = stand.as_mut().expect("a controller");
                let answer = stand.answer(key, version, &body);
                assert_eq!(answer, kafkas(key, version, &bytes(rest)), "{what}");
                count += 1;
            }
            _ => {}
        }
    }
    stand.expect("a controller").compare(&log, from, end);
    assert!(count > 80, "only {count} requests");
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock"
)]
fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(0),
    }
}
