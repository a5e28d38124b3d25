//! Partitions with message formats 0 and 1, from before Kafka 0.11, are served as format 2.

use tidelog_record::Codec;
use tidelog_record::legacy::{LegacyBuilder, LegacyMagic};
use tidelog_types::{Offset, Timestamp};

use crate::ops::{batches, fetch_request, values};
use crate::server::{Server, is_elsewhere};

#[tokio::test]
async fn old_messages_are_served_converted() {
    if is_elsewhere() {
        return;
    }
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let keep = [("retention.ms", "-1")];
    let topic = client.create_topic("old", 1, &keep).await;
    client.put(&topic, 0, &["to be replaced"]).await;
    server.stop().await;
    let mut messages = Vec::new();
    for (at, magic, codec) in [
        (0, LegacyMagic::V0, Codec::None),
        (3, LegacyMagic::V0, Codec::Gzip),
        (6, LegacyMagic::V1, Codec::None),
        (9, LegacyMagic::V1, Codec::Snappy),
    ] {
        let mut builder = LegacyBuilder::new(magic, codec.into())
            .unwrap()
            .base_offset(Offset::new(at));
        for offset in at..at + 3 {
            let value = format!("old {offset}");
            let timestamp = Timestamp::from_millis(1000 * offset);
            builder.push(timestamp, None, Some(value.as_bytes()));
        }
        messages.extend(builder.build().unwrap());
    }
    let folder = server.dir.path().join("old-0");
    for entry in std::fs::read_dir(&folder).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    std::fs::write(folder.join("00000000000000000000.log"), messages).unwrap();
    std::fs::remove_file(server.dir.path().join(".kafka_cleanshutdown")).unwrap();
    std::fs::remove_file(server.dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    server.run().await;
    let mut client = server.client().await;
    assert_eq!(client.put(&topic, 0, &["new"]).await, 12);
    for from in 0..13 {
        let data = client
            .fetch(&fetch_request(&topic, &[(0, from)]))
            .await
            .remove(0);
        assert!(batches(&data).iter().all(|batch| batch.header().magic == 2));
        let mut expected: Vec<_> = (from..12).map(|at| (at, format!("old {at}"))).collect();
        expected.push((12, "new".to_owned()));
        let mut found = values(&data);
        found.retain(|(offset, _)| *offset >= from);
        assert_eq!(found, expected);
    }
    // Only format 1 has times.
    let found = client.list_offset(&topic, 0, 4000).await;
    assert_eq!(
        (found.offset.value(), found.timestamp.as_millis()),
        (6, 6000)
    );
    let found = client.list_offset(&topic, 0, 10_500).await;
    assert_eq!(
        (found.offset.value(), found.timestamp.as_millis()),
        (11, 11_000)
    );
    server.restart().await;
    let mut client = server.client().await;
    let data = client
        .fetch(&fetch_request(&topic, &[(0, 0)]))
        .await
        .remove(0);
    assert_eq!(values(&data).len(), 13);
}
