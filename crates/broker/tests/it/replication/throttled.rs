//! Replicas that are copied at a bounded rate (KIP-73).

use tidelog_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use super::*;

const SET: i8 = 0;
const DELETE: i8 = 1;
const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Sets a config, or takes it back.
pub(super) async fn alter(
    cluster: &Cluster,
    via: i32,
    (kind, resource): (i8, &str),
    key: &str,
    value: Option<&str>,
) {
    let mut client = cluster.client(via).await;
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: resource.into(),
            configs: vec![AlterableConfig {
                name: key.into(),
                config_operation: if value.is_some() { SET } else { DELETE },
                value: value.map(Into::into),
            }],
        }],
        ..Default::default()
    };
    let answer = client.ask(&request).await.responses.remove(0);
    assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
}

/// A follower that has been away comes back and is held up by the rate of one side; those in sync are not.
async fn a_late_follower_is_held_up(side: &str, throttled: i32) {
    let mut cluster = Cluster::new(ONE_CONTROLLER, Voters::Fixed);
    for id in 1..=3 {
        // A batch at a time, so that the first does not bring everything.
        cluster.member(id).set("replica.fetch.max.bytes", "100");
    }
    cluster.run(&[1, 2, 3]).await;
    let topic = create(&cluster, 1, "orders", &[("min.insync.replicas", "2")]).await;
    let mut producer = Producer::new(&cluster).await;
    producer.write(&cluster, &topic).await;
    in_sync(&cluster, &topic, 3).await;
    cluster.stop(3).await;
    let leader = in_sync(&cluster, &topic, 2).await;
    producer.write_many(&cluster, &topic, 10).await;
    let throttled = if throttled == 0 { leader } else { throttled };
    let list = format!("{side}.replication.throttled.replicas");
    let rate = format!("{side}.replication.throttled.rate");
    let replica = format!("0:{throttled}");
    alter(&cluster, 1, (TOPIC, "orders"), &list, Some(&replica)).await;
    // The default of all brokers, since the one that is away cannot be asked.
    alter(&cluster, 1, (BROKER, ""), &rate, Some("1")).await;
    cluster.run(&[3]).await;
    // It begins, and then owes a minute for each batch.
    producer.write_many(&cluster, &topic, 10).await;
    assert_eq!(in_sync(&cluster, &topic, 2).await, leader);
    alter(&cluster, 1, (BROKER, ""), &rate, None).await;
    in_sync(&cluster, &topic, 3).await;
    all_have(&cluster, &topic, &producer.acknowledged).await;
}

#[tokio::test]
async fn a_leader_sends_at_the_rate_that_is_set() {
    a_late_follower_is_held_up("leader", 0).await;
}

#[tokio::test]
async fn a_follower_fetches_at_the_rate_that_is_set() {
    a_late_follower_is_held_up("follower", 3).await;
}
