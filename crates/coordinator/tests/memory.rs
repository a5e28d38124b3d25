//! What an idle group takes.

mod world;

use std::time::Duration;

use bytes::Bytes;
use tidelog_coordinator::group::{Config, Effect, GroupRequest, GroupResponse};
use tidelog_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use tidelog_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use tidelog_types::{Offset, Str};
use world::{World, subscription};

const GROUPS: usize = 100;
/// 10,000 idle groups are to fit in 50 MiB.
const BYTES_MAX: u64 = (50 << 20) / 10_000;

/// What a group takes on the average that `make` makes.
fn bytes_for_each(world: &mut World, mut make: impl FnMut(&mut World, &str)) -> u64 {
    let counted = allocation_counter::measure(|| {
        for number in 0..GROUPS {
            make(world, &format!("group-{number}"));
            // The log is not the shard's.
            world.log = Vec::new();
        }
    });
    u64::try_from(counted.bytes_current).expect("more than nothing") / GROUPS as u64
}

fn commit(world: &mut World, group: &str) {
    let request = OffsetCommitRequest {
        group_id: group.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "orders".into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: Offset::new(7),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    world.request("client", 9, GroupRequest::OffsetCommit(request));
}

fn come_and_go(world: &mut World, group: &str) {
    for member_epoch in [0, -1] {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: "member".into(),
            member_epoch,
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec!["orders".into()]),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let request = GroupRequest::ConsumerGroupHeartbeat(request);
        world.request("client", 1, request);
    }
}

#[test]
fn a_group_that_nobody_is_in_takes_little() {
    let mut world = World::new(Config::default());
    world.set_topics(&[("orders", 1)]);
    let bytes = bytes_for_each(&mut world, |world, group| {
        commit(world, group);
        come_and_go(world, group);
    });
    assert!(bytes < BYTES_MAX, "a group takes {bytes} bytes");
}

/// The answer to a request, whatever has to be written down for it.
fn ask(world: &mut World, version: i16, request: GroupRequest) -> GroupResponse {
    let mut effects = world.request("client", version, request);
    let later = world.advance(Duration::from_millis(1));
    effects.extend(later.into_iter().map(|(_, effect)| effect));
    loop {
        match effects.pop().expect("an answer") {
            Effect::Reply { response, .. } => return response,
            Effect::Append { append_id, .. } => effects.extend(world.commit(append_id)),
            _ => {}
        }
    }
}

/// A member that has its assignment.
fn come_and_stay(world: &mut World, group: &str) {
    let mut member_id = Str::EMPTY;
    let mut generation_id = -1;
    while generation_id < 0 {
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 300_000,
            rebalance_timeout_ms: 300_000,
            member_id,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: subscription(["orders"]),
            }],
            ..Default::default()
        };
        let GroupResponse::JoinGroup(joined) = ask(world, 7, GroupRequest::JoinGroup(request))
        else {
            panic!("an answer to another request");
        };
        (member_id, generation_id) = (joined.member_id, joined.generation_id);
    }
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id,
        member_id: member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id,
            assignment: Bytes::from_static(&[7; 32]),
        }],
        ..Default::default()
    };
    let GroupResponse::SyncGroup(synced) = ask(world, 4, GroupRequest::SyncGroup(request)) else {
        panic!("an answer to another request");
    };
    assert!(synced.error_code.is_ok());
}

#[test]
fn a_group_with_a_quiet_member_takes_little() {
    let mut world = World::new(Config {
        group_initial_rebalance_delay_ms: 0,
        ..Config::default()
    });
    world.set_topics(&[("orders", 1)]);
    let bytes = bytes_for_each(&mut world, |world, group| {
        commit(world, group);
        come_and_stay(world, group);
    });
    assert!(bytes < BYTES_MAX, "a group takes {bytes} bytes");
}
