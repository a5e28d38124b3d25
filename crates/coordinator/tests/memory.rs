//! What a group takes that nobody is in.

mod world;

use tidelog_coordinator::group::{Config, GroupRequest};
use tidelog_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_types::Offset;
use world::World;

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

/// 10,000 groups that nobody is in are to fit in 50 MiB.
#[test]
fn an_idle_group_takes_little() {
    const GROUPS: usize = 100;
    const BYTES_MAX: u64 = (50 << 20) / 10_000;
    let mut world = World::new(Config::default());
    world.set_topics(&[("orders", 1)]);
    let counted = allocation_counter::measure(|| {
        for number in 0..GROUPS {
            let group = format!("group-{number}");
            commit(&mut world, &group);
            come_and_go(&mut world, &group);
            // The log is not the shard's.
            world.log = Vec::new();
        }
    });
    let bytes = u64::try_from(counted.bytes_current).expect("more than nothing") / GROUPS as u64;
    assert!(bytes < BYTES_MAX, "a group takes {bytes} bytes");
}
