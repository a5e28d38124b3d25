use tidelog_types::properties::{format_property, parse_properties};
use tidelog_types::{NodeId, Uuid};

use crate::directory::DirectoryError;

/// Whose a log directory is: the file `meta.properties`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// The cluster, as the operator wrote it; usually a uuid in base64.
    pub cluster_id: String,
    /// The node.
    pub node_id: NodeId,
    /// The directory itself, so that a cluster can tell which replicas are lost with it (KIP-858). Files of Kafka before
    /// 3.7 have none.
    pub directory_id: Option<Uuid>,
}

impl MetaProperties {
    /// Checks that the directory belongs to this cluster and node.
    pub fn check(&self, cluster_id: &str, node_id: NodeId) -> Result<(), DirectoryError> {
        if self.cluster_id != cluster_id {
            let (found, expected) = (self.cluster_id.clone(), cluster_id.to_owned());
            return Err(DirectoryError::ForeignCluster { found, expected });
        }
        if self.node_id != node_id {
            return Err(DirectoryError::ForeignNode {
                found: self.node_id,
                expected: node_id,
            });
        }
        Ok(())
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
        let properties = parse_properties(text).map_err(|error| error.to_string())?;
        // As in Java, the last one of a key counts.
        let property = |name: &str| {
            let found = properties.iter().rfind(|property| property.key == name);
            found.map(|property| property.value.as_str())
        };
        let required = |name: &str| {
            let found = property(name).filter(|value| !value.is_empty());
            found.ok_or_else(|| format!("{name} is missing"))
        };
        match required("version")? {
            "1" => {}
            "0" => return Err("version 0 was written by a broker that used ZooKeeper".to_owned()),
            version => return Err(format!("version is {version}, expected 1")),
        }
        let node_id = required("node.id")?;
        let node_id = node_id.parse().ok().filter(|id| *id >= 0);
        let directory_id = property("directory.id").map(str::parse).transpose();
        Ok(Self {
            cluster_id: required("cluster.id")?.to_owned(),
            node_id: NodeId::new(node_id.ok_or("node.id is not a number from 0 up")?),
            directory_id: directory_id.map_err(|error| format!("directory.id: {error}"))?,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let node_id = self.node_id.to_string();
        let directory_id = self.directory_id.map(|id| id.to_string());
        let properties = [
            ("version", Some("1")),
            ("cluster.id", Some(&self.cluster_id)),
            ("node.id", Some(&node_id)),
            ("directory.id", directory_id.as_deref()),
        ];
        let given = properties
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        let lines = given.map(|(key, value)| format_property(key, value) + "\n");
        lines.collect::<String>().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KAFKAS: &str = "#\n#Sun Nov 22 22:26:01 UTC 2026\nnode.id=1\n\
        directory.id=6vs2e6t7Q1axMtaBRNKoDg\nversion=1\ncluster.id=dGlkZWxvZy1maXh0dXJlMQ\n";

    #[test]
    fn a_file_of_kafka_is_read() {
        let properties = MetaProperties::parse(KAFKAS.as_bytes()).unwrap();
        assert_eq!(properties.cluster_id, "dGlkZWxvZy1maXh0dXJlMQ");
        assert_eq!(properties.node_id, NodeId::new(1));
        let directory_id = properties.directory_id.unwrap();
        assert_eq!(directory_id.to_string(), "6vs2e6t7Q1axMtaBRNKoDg");
        assert_eq!(MetaProperties::parse(&properties.encode()), Ok(properties));
    }

    #[test]
    fn damage_is_named() {
        let parse = |text: &str| MetaProperties::parse(text.as_bytes()).unwrap_err();
        assert_eq!(parse(""), "version is missing");
        assert_eq!(parse("version=2\n"), "version is 2, expected 1");
        assert_eq!(parse("version=1\nnode.id=1\n"), "cluster.id is missing");
        assert_eq!(
            parse("version=1\ncluster.id=c\nnode.id=x\n"),
            "node.id is not a number from 0 up"
        );
        assert!(parse("version=0\nbroker.id=1\n").contains("ZooKeeper"));
        assert!(parse("version=1\ncluster.id=\\u12\n").starts_with("line 2: "));
    }

    #[test]
    fn another_cluster_or_node_is_refused_with_advice() {
        let properties = MetaProperties::parse(KAFKAS.as_bytes()).unwrap();
        let cluster_id = properties.cluster_id.clone();
        properties.check(&cluster_id, NodeId::new(1)).unwrap();
        let error = properties
            .check("other", NodeId::new(1))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("says cluster dGlkZWxvZy1maXh0dXJlMQ"),
            "{error}"
        );
        let error = properties
            .check(&cluster_id, NodeId::new(2))
            .unwrap_err()
            .to_string();
        assert!(error.contains("correct node.id"), "{error}");
    }
    proptest! {
        #[test]
        fn what_is_written_is_read_back(cluster_id in ".+", node_id in 0.., uuid: Option<[u8; 16]>) {
            let properties = MetaProperties {
                cluster_id,
                node_id: NodeId::new(node_id),
                directory_id: uuid.map(Uuid::from_bytes),
            };
            prop_assert_eq!(MetaProperties::parse(&properties.encode()), Ok(properties));
        }
    }
}
