//! How long the controller takes to move many partitions: `cargo bench -p tidelog-benches --bench controller`, a few seconds.
//!
//! Topics of 100 partitions have three replicas each, and one broker leads all of them. The median of some runs is printed of:
//! a new controller that takes over; the broker's orderly shutdown, which gives every partition another leader; its end
//! without a word, the same; and, where it holds the only replicas, its return, which makes it lead all of them again. The
//! times are those of the machine alone: the decision, the records, and their effect on the image that it keeps.
#![allow(clippy::print_stdout, reason = "the report")]

use std::time::Instant;

use tidelog_benches::{NOW, is_bench, report_runs};
use tidelog_metadata::bootstrap::{MetadataVersion, bootstrap_records};
use tidelog_metadata::configs::BrokerConfig;
use tidelog_metadata::controller::{
    Config, Controller, ControllerRequest, Effect, Input, Restored,
};
use tidelog_metadata::image::{Image, directory};
use tidelog_protocol::messages::broker_heartbeat::BrokerHeartbeatRequest;
use tidelog_protocol::records::metadata::{
    MetadataRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord,
};
use tidelog_types::{LeaderEpoch, NodeId, Now, Offset, TopicName, Uuid};

const IN_A_TOPIC: usize = 100;
const RUNS: usize = 7;
const LEADER: NodeId = NodeId::new(1);
const BROKERS: [NodeId; 3] = [LEADER, NodeId::new(2), NodeId::new(3)];
/// Every broker's registration.
const EPOCH: i64 = 1;

fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: NOW,
    }
}

fn main() {
    if !is_bench() {
        return;
    }
    for partitions in [10_000, 100_000] {
        let wide = cluster(partitions, &BROKERS);
        let run = |_| {
            let begin = Instant::now();
            controller(&wide);
            begin.elapsed().as_secs_f64() * 1e3
        };
        report_runs(
            &format!("take over {partitions}"),
            "ms",
            (0..RUNS).map(run).collect(),
        );
        let wide = controller(&wide);
        measure(
            &format!("shut down the leader of {partitions}"),
            &wide,
            |controller| {
                moved(
                    controller,
                    partitions,
                    ControllerRequest::BrokerHeartbeat(heartbeat(true)),
                );
            },
        );
        measure(
            &format!("lose the leader of {partitions}"),
            &wide,
            |controller| {
                moved(controller, partitions, lost());
            },
        );
        let mut alone = controller(&cluster(partitions, &[LEADER]));
        moved(&mut alone, partitions, lost());
        measure(
            &format!("get the only broker of {partitions} back"),
            &alone,
            |controller| {
                moved(
                    controller,
                    partitions,
                    ControllerRequest::BrokerHeartbeat(heartbeat(false)),
                );
            },
        );
    }
}

/// An image in which the first of the `replicas` leads everything.
fn cluster(partitions: usize, replicas: &[NodeId]) -> Image {
    let mut image = Image::default();
    let mut apply = |record: MetadataRecord| image.apply(&record).expect("a sound record");
    bootstrap_records(MetadataVersion::LATEST)
        .into_iter()
        .for_each(&mut apply);
    for broker_id in BROKERS {
        let record = RegisterBrokerRecord {
            broker_id,
            broker_epoch: EPOCH,
            incarnation_id: uuid(broker_id.value() as u128),
            fenced: false,
            log_dirs: vec![uuid(1000 + broker_id.value() as u128)],
            ..Default::default()
        };
        apply(record.into());
    }
    for topic in 0..partitions / IN_A_TOPIC {
        // Ids are random in truth.
        let topic_id =
            uuid((topic as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let name = TopicName::from(format!("topic-{topic}"));
        apply(TopicRecord { name, topic_id }.into());
        for partition_id in 0..IN_A_TOPIC as i32 {
            let record = PartitionRecord {
                partition_id,
                topic_id,
                replicas: replicas.to_vec(),
                isr: replicas.to_vec(),
                leader: LEADER,
                leader_epoch: LeaderEpoch::new(0),
                partition_epoch: 0,
                directories: vec![directory::UNASSIGNED; replicas.len()],
                ..Default::default()
            };
            apply(record.into());
        }
    }
    image
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_bytes(number.to_be_bytes())
}

fn controller(image: &Image) -> Controller {
    let config = Config::new(BrokerConfig::default(), "bench".into(), [7; 32]);
    let restored = Restored {
        image: image.clone(),
        end_offset: Offset::new(1_000_000),
    };
    Controller::new(now(), config, restored)
}

fn heartbeat(want_shut_down: bool) -> BrokerHeartbeatRequest {
    BrokerHeartbeatRequest {
        broker_id: LEADER,
        broker_epoch: EPOCH,
        current_metadata_offset: Offset::new(1_000_000_000),
        want_shut_down,
        ..Default::default()
    }
}

const fn lost() -> ControllerRequest {
    ControllerRequest::BrokerUnreachable {
        broker_id: LEADER,
        broker_epoch: EPOCH,
    }
}

/// Has the controller decide, and sees that every partition changed.
fn moved(controller: &mut Controller, partitions: usize, request: ControllerRequest) {
    let mut effects = Vec::new();
    let input = Input::Request {
        request_id: 1,
        request,
    };
    controller.handle(now(), input, &mut effects);
    let is_change = |record: &&MetadataRecord| matches!(record, MetadataRecord::PartitionChange(_));
    let changes = |effect: &Effect| match effect {
        Effect::Append { records, .. } => records.iter().filter(is_change).count(),
        _ => 0,
    };
    assert_eq!(effects.iter().map(changes).sum::<usize>(), partitions);
}

fn measure(what: &str, controller: &Controller, then: impl Fn(&mut Controller)) {
    let run = |_| {
        let mut controller = controller.clone();
        let begin = Instant::now();
        then(&mut controller);
        begin.elapsed().as_secs_f64() * 1e3
    };
    report_runs(what, "ms", (0..RUNS).map(run).collect());
}
