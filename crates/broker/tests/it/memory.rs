//! Brokers without ports: their clients are in the same process.

use std::io;

use tidelog_broker::{Broker, MemoryNetwork, StartError};

use crate::client::{Client, soon};
use crate::server::builder;

#[tokio::test]
async fn a_broker_without_ports_is_reached_in_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let broker = builder().data_dir(dir.path()).no_ports().start().await;
    let broker = broker.unwrap();
    let address = broker.bootstrap_servers();
    assert!(address.starts_with("node-1:"), "{address}");
    let mut client = Client::over(broker.connect().await.unwrap());
    let topic = client.create_topic("in-memory", 1, &[]).await;
    // More than fits into the buffers of a connection.
    let large = "x".repeat(900_000);
    assert_eq!(client.put(&topic, 0, &["one", &large]).await, 0);
    let mut other = Client::over(broker.network().connect(&address).await.unwrap());
    let read = other.read(&topic, 0, 0).await;
    assert_eq!(read, [(0, "one".to_owned()), (1, large)]);
    let network = broker.network().clone();
    soon(broker.shutdown()).await.unwrap();
    client.closed().await;
    let gone = network.connect(&address).await.unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_broker_with_a_port_is_reached_in_the_process_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = builder().data_dir(dir.path()).start().await.unwrap();
    let mut inside = Client::over(broker.connect().await.unwrap());
    let topic = inside.create_topic("both", 1, &[]).await;
    inside.put(&topic, 0, &["one"]).await;
    let mut outside = Client::connect(&broker.bootstrap_servers()).await;
    assert_eq!(outside.read(&topic, 0, 0).await, [(0, "one".to_owned())]);
}

#[tokio::test]
async fn two_brokers_of_a_network_may_not_have_one_address() {
    let network = MemoryNetwork::new();
    let start = |dir: &tempfile::TempDir| {
        let builder = Broker::builder().data_dir(dir.path()).no_ports();
        builder
            .listener("PLAINTEXT://localhost:9092")
            .network(&network, "orders")
            .start()
    };
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let first = start(&dirs[0]).await.unwrap();
    assert_eq!(first.bootstrap_servers(), "orders:9092");
    let refused = start(&dirs[1]).await.unwrap_err();
    assert!(
        matches!(refused, StartError::AddressInUse { .. }),
        "{refused}"
    );
}
