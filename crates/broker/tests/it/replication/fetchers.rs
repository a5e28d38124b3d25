//! Fetchers become more and fewer while they copy (KIP-226).

use super::throttled::{BROKER, alter};
use super::*;

#[tokio::test]
async fn fetchers_become_more_and_fewer_while_they_copy() {
    let cluster = Cluster::start(THREE, Voters::Fixed).await;
    let mut topics = Vec::new();
    for name in ["orders", "bills", "letters", "parcels"] {
        topics.push(create(&cluster, 1, name, &[("min.insync.replicas", "3")]).await);
    }
    let mut producers = Vec::new();
    for topic in &topics {
        in_sync(&cluster, topic, 3).await;
        producers.push(Producer::new(&cluster).await);
    }
    for count in ["2", "4", "2", "1"] {
        let all = (BROKER, "");
        alter(&cluster, 1, all, "num.replica.fetchers", Some(count)).await;
        for (topic, producer) in topics.iter().zip(&mut producers) {
            producer.write_many(&cluster, topic, 3).await;
        }
    }
    for (topic, producer) in topics.iter().zip(&producers) {
        in_sync(&cluster, topic, 3).await;
        all_have(&cluster, topic, &producer.acknowledged).await;
    }
}
