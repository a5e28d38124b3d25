//! Where calls go that change the cluster, and how often they are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

use tidelog_protocol::ApiRequest;
use tidelog_protocol::messages::metadata::MetadataRequest;
use tidelog_types::{ErrorCode, NodeId, Str};
use tokio::time::Instant;

use crate::{Broker, Client, ClientError, Connection, EndpointType};

impl Client {
    /// A connection to the node to which changes of the cluster are sent. It is the active controller, or in a cluster without
    /// ZooKeeper a broker that passes them on to it; on a controller listener it is the active controller again (KIP-919).
    pub(crate) async fn controller(&self) -> Result<Arc<Connection>, ClientError> {
        let serves_metadata = self.any().await?.version::<MetadataRequest>(i16::MAX);
        let (controller, nodes) = match serves_metadata {
            Some(_) => {
                let metadata = self.metadata(Some(&[])).await?;
                let brokers = metadata.brokers.into_iter().map(|broker| Broker {
                    id: broker.node_id,
                    host: broker.host,
                    port: broker.port,
                });
                (metadata.controller_id, brokers.collect::<Vec<_>>())
            }
            None => {
                let cluster = self.describe_cluster(EndpointType::Controllers).await?;
                let nodes = cluster.nodes.into_iter().map(|node| node.broker);
                let controller = cluster.controller.unwrap_or(NodeId::NONE);
                (controller, nodes.collect())
            }
        };
        match nodes.iter().find(|node| node.id == controller) {
            Some(node) => match self.at(&node.address()).await {
                // The one that was named may be gone and nobody have noticed; any other passes requests on, or says that it
                // cannot.
                Err(_) if serves_metadata.is_some() => self.any().await,
                connection => connection,
            },
            None => Err(ClientError::Refused {
                subject: "the controller".to_owned(),
                code: ErrorCode::NOT_CONTROLLER,
                message: Some(Str::from_static("the cluster has none just now")),
            }),
        }
    }

    /// Sends a request to the [controller](Self::controller), and again while it turns out to be another node. `code` reads
    /// the error of an answer as a whole.
    pub(crate) async fn ask_controller<R: ApiRequest>(
        &self,
        request: &R,
        code: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, ClientError> {
        let until = Instant::now() + self.config().retry_timeout;
        loop {
            let answer = match self.controller().await {
                Ok(connection) => connection.send(request).await,
                Err(error) => Err(error),
            };
            let moved = match &answer {
                Ok(answer) => is_elsewhere(code(answer)),
                Err(error) => error.code().is_some_and(is_elsewhere),
            };
            if !moved || Instant::now() + self.config().retry_backoff > until {
                return answer;
            }
            tokio::time::sleep(self.config().retry_backoff).await;
        }
    }

    /// Calls for all items, and again for those of which the answer says that another node is to be asked, for
    /// [`Config::retry_timeout`](crate::Config::retry_timeout) at most. What the call leaves out becomes an error of its own.
    pub(crate) async fn settle<K, T, F>(
        &self,
        items: BTreeSet<K>,
        call: impl Fn(BTreeSet<K>) -> F,
    ) -> Result<BTreeMap<K, Result<T, ClientError>>, ClientError>
    where
        K: Ord + Clone + Display,
        F: Future<Output = Result<Vec<(K, Result<T, ClientError>)>, ClientError>>,
    {
        let until = Instant::now() + self.config().retry_timeout;
        let mut settled = BTreeMap::new();
        let mut pending = items;
        while !pending.is_empty() {
            let is_last = Instant::now() + self.config().retry_backoff > until;
            let again = |error: &ClientError| !is_last && error.code().is_some_and(is_elsewhere);
            match call(pending.clone()).await {
                Err(error) if again(&error) => {}
                Err(error) => return Err(error),
                Ok(answers) => {
                    let mut retried = BTreeSet::new();
                    for (item, answer) in answers {
                        pending.remove(&item);
                        match &answer {
                            Err(error) if again(error) => drop(retried.insert(item)),
                            _ => drop(settled.insert(item, answer)),
                        }
                    }
                    for item in std::mem::replace(&mut pending, retried) {
                        let left_out = ClientError::Refused {
                            subject: item.to_string(),
                            code: ErrorCode::UNKNOWN_SERVER_ERROR,
                            message: Some(Str::from_static("the answer leaves it out")),
                        };
                        settled.insert(item, Err(left_out));
                    }
                }
            }
            if !pending.is_empty() {
                tokio::time::sleep(self.config().retry_backoff).await;
            }
        }
        Ok(settled)
    }

    /// How long a broker may take for what is asked of it, in milliseconds.
    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.config().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Whether an answer says nothing but that the right node, or a better moment, has to be found first. Fewer codes than are
/// called retriable: that a topic is not known, for example, is the answer to a call that deletes it.
const fn is_elsewhere(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_CONTROLLER
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::THROTTLING_QUOTA_EXCEEDED
    )
}
