//! The metadata logs of a real Kafka 4.3.1, one of a broker that was shut down and one of a broker that was killed.
//!
//! `batch OFFSET RECORD..` is a batch of the log (batches of NoOp records are left out), `snapshot OFFSET` is followed by
//! the batches of the snapshot that Kafka itself made there. Records are in hexadecimal.

use std::time::Instant;

use bytes::Bytes;
use tidelog_metadata::bootstrap::{MetadataVersion, record_version};
use tidelog_metadata::configs::{BrokerConfig, ResourceKind};
use tidelog_metadata::controller::{
    Config, Controller, ControllerRequest, ControllerResponse, Effect, Input, Restored,
};
use tidelog_metadata::image::{Image, LeaderRecoveryState};
use tidelog_protocol::messages::broker_heartbeat::BrokerHeartbeatRequest;
use tidelog_protocol::messages::broker_registration::{
    BrokerRegistrationRequest, Feature, Listener,
};
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_types::{ErrorCode, NodeId, Now, Offset, Timestamp, Uuid};

const CLEAN: &str = include_str!("../testdata/kafka-4.3.1-metadata-clean.txt");
const KILLED: &str = include_str!("../testdata/kafka-4.3.1-metadata-killed.txt");
const NODE: NodeId = NodeId::new(1);

struct Told {
    /// All of the log.
    end: Image,
    end_offset: i64,
    /// The log up to the snapshot, and the snapshot.
    below_snapshot: Image,
    snapshot: Image,
}

fn records(text: &str) -> (Vec<Bytes>, Vec<MetadataRecord>) {
    let byte = |hex: &[u8]| {
        let digit = |c: u8| (c as char).to_digit(16).expect("a hexadecimal digit") as u8;
        digit(hex[0]) << 4 | digit(hex[1])
    };
    let bytes = |hex: &str| Bytes::from_iter(hex.as_bytes().chunks_exact(2).map(byte));
    let encoded: Vec<Bytes> = text.split_whitespace().map(bytes).collect();
    let decoded = encoded
        .iter()
        .map(|b| MetadataRecord::decode(b).expect("a record"))
        .collect();
    (encoded, decoded)
}

fn tell(log: &str) -> Told {
    let (mut end, mut end_offset) = (Image::default(), 0);
    let (mut below_snapshot, mut snapshot) = (None, Image::default());
    for line in log.lines() {
        if let Some(offset) = line.strip_prefix("snapshot ") {
            assert!(end_offset <= offset.parse().expect("an offset"));
            below_snapshot = Some(end.clone());
        } else if let Some((offset, batch)) = line
            .strip_prefix("batch ")
            .and_then(|line| line.split_once(' '))
        {
            let (_, records) = records(batch);
            end_offset = offset.parse::<i64>().expect("an offset") + records.len() as i64;
            end.apply_batch(&records).expect("Kafka's log is sound");
        } else {
            snapshot
                .apply_batch(&records(line).1)
                .expect("Kafka's snapshot is sound");
        }
    }
    let below_snapshot = below_snapshot.expect("there is a snapshot");
    Told {
        end,
        end_offset,
        below_snapshot,
        snapshot,
    }
}

#[test]
fn the_log_and_the_snapshot_of_kafka_lead_to_the_same_image() {
    for log in [CLEAN, KILLED] {
        let told = tell(log);
        assert_eq!(told.below_snapshot, told.snapshot);
        told.end.check();
        assert_eq!(told.end.metadata_version(), MetadataVersion::LATEST);
        assert_eq!(told.end.feature("transaction.version"), 2);
        let configs = told.end.topic_configs("codec-gzip");
        assert_eq!(
            configs.get("retention.ms").map(|value| &**value),
            Some("-1")
        );
        let cluster = told
            .end
            .configs(ResourceKind::Broker, "")
            .expect("a cluster default");
        assert_eq!(
            cluster.get("min.insync.replicas").map(|value| &**value),
            Some("1")
        );
    }
}

#[test]
fn a_snapshot_of_ours_is_the_image_again() {
    for log in [CLEAN, KILLED] {
        let image = tell(log).end;
        let records: Vec<MetadataRecord> = image.records().collect();
        let mut again = Image::default();
        again.apply_batch(&records).expect("a snapshot is sound");
        assert_eq!(again, image);
    }
}

/// Written anew, every record has the bytes that Kafka wrote: the versions are the same, too.
#[test]
fn records_are_written_as_kafka_writes_them() {
    let mut count = 0;
    for line in [CLEAN, KILLED].iter().flat_map(|log| log.lines()) {
        let Some(batch) = line.strip_prefix("batch ") else {
            continue;
        };
        let (encoded, decoded) = records(batch.split_once(' ').expect("an offset").1);
        for (bytes, record) in encoded.iter().zip(decoded) {
            let version = record_version(&record, MetadataVersion::LATEST);
            assert_eq!(record.encode(version).as_ref(), Ok(bytes), "{record:?}");
            count += 1;
        }
    }
    assert!(count > 100, "only {count} records");
}

/// A Tidelog broker takes over where Kafka's stopped: as a new incarnation it is fenced, and leads again once unfenced.
#[test]
fn a_broker_takes_over_the_partitions_that_kafka_left() {
    for log in [CLEAN, KILLED] {
        let told = tell(log);
        let (broker, _) = BrokerConfig::parse("node.id=1").expect("a configuration");
        let config = Config::new(broker, "".into(), [1; 32]);
        let restored = Restored {
            image: told.end.clone(),
            end_offset: Offset::new(told.end_offset + 1),
        };
        let mut controller = Controller::new(now(), config, restored);
        controller.check();

        let before = told.end.broker(NODE).expect("Kafka's broker");
        let feature = |(name, level): (&tidelog_types::Str, &i16)| Feature {
            name: name.clone(),
            min_supported_version: 0,
            max_supported_version: *level,
        };
        let listeners = before.endpoints.iter().map(|endpoint| Listener {
            name: endpoint.name.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
        });
        let registration = BrokerRegistrationRequest {
            broker_id: NODE,
            incarnation_id: Uuid::from_random([9; 16]),
            listeners: listeners.collect(),
            features: told.end.features().iter().map(feature).collect(),
            log_dirs: before.log_dirs.clone(),
            previous_broker_epoch: before.epoch,
            ..Default::default()
        };
        if !before.fenced {
            // Killed a moment ago, for all that the log says. Whoever starts in its place knows better.
            let request = ControllerRequest::BrokerRegistration(registration.clone());
            let response = answer(&mut controller, request);
            let ControllerResponse::BrokerRegistration(Err(error)) = response else {
                panic!("{response:?}")
            };
            assert_eq!(error.code, ErrorCode::DUPLICATE_BROKER_REGISTRATION);
            let (broker_id, broker_epoch) = (NODE, before.epoch);
            let request = ControllerRequest::BrokerUnreachable {
                broker_id,
                broker_epoch,
            };
            answer(&mut controller, request);
        }
        let base_offset = controller.end_offset();
        let request = ControllerRequest::BrokerRegistration(registration);
        let response = answer(&mut controller, request);
        let ControllerResponse::BrokerRegistration(Ok(broker_epoch)) = response else {
            panic!("{response:?}")
        };
        assert_eq!(broker_epoch, base_offset.value());
        assert!(partitions(controller.image()).all(|p| p.leader == NodeId::NONE));

        let heartbeat = BrokerHeartbeatRequest {
            broker_id: NODE,
            broker_epoch,
            current_metadata_offset: Offset::new(controller.end_offset().value() - 1),
            ..Default::default()
        };
        let response = answer(
            &mut controller,
            ControllerRequest::BrokerHeartbeat(heartbeat),
        );
        let ControllerResponse::BrokerHeartbeat(Ok(response)) = response else {
            panic!("{response:?}")
        };
        assert!(response.is_caught_up && !response.is_fenced && !response.should_shut_down);
        assert!(partitions(controller.image()).count() > 10);
        for partition in partitions(controller.image()) {
            assert_eq!((partition.leader, &partition.isr[..]), (NODE, &[NODE][..]));
            assert!(partition.eligible_leader_replicas.is_empty());
            assert_eq!(
                partition.leader_recovery_state,
                LeaderRecoveryState::Recovered
            );
        }
    }
}

fn partitions(image: &Image) -> impl Iterator<Item = &tidelog_metadata::image::PartitionImage> {
    image
        .topics()
        .flat_map(|topic| topic.partitions.values())
        .map(|partition| &**partition)
}

/// Handles a request and commits what it appends.
fn answer(controller: &mut Controller, request: ControllerRequest) -> ControllerResponse {
    let mut effects = Vec::new();
    controller.handle(
        now(),
        Input::Request {
            request_id: 1,
            request,
        },
        &mut effects,
    );
    controller.check();
    let offset = controller.end_offset();
    controller.handle(now(), Input::Committed { offset }, &mut effects);
    controller.check();
    match effects.pop() {
        Some(Effect::Reply { response, .. }) => response,
        other => panic!("{other:?} is no reply"),
    }
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
