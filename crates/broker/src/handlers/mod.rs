//! From a frame to an answer: one file per API, each of which translates, asks the rest of the broker, and translates back.

/// Lists the handlers of a role, and with them the APIs that are served and advertised on its listeners, in the order of
/// their numbers.
macro_rules! handlers {
    ($($api:ident => $module:ident,)*) => {
        /// The codec knows more.
        const SERVED: &'static [ApiKey] = &[$(ApiKey::$api),*];

        fn is_served(key: ApiKey) -> bool {
            matches!(key, $(ApiKey::$api)|*)
        }

        fn route(context: Context<Self>, request: Request) -> Started {
            match request {
                $(Request::$api(request) => Box::pin($module::handle(context, request)),)*
                other => {
                    let closed = Closed::BadRequest(format!("{} is not served here", other.key()));
                    Box::pin(std::future::ready(Answer::Close(closed)))
                }
            }
        }
    };
}

mod admin;
mod alter_replica_log_dirs;
mod api_versions;
mod authorized_operations;
pub(crate) mod controller;
mod delete_records;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_topic_partitions;
mod fetch;
mod groups;
mod init_producer_id;
mod leader_hints;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod own_configs;
mod produce;
pub(crate) mod wait;
mod write_txn_markers;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_log::FileSlice;
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_metadata::image::Image;
use tidelog_protocol::{
    ApiKey, ApiResponse, Chunk, DecodeErrorKind, EncodeError, Reader, Request, RequestHeader,
    Writer, encode_response,
};
use tidelog_types::{ErrorCode, Offset, Str};

use self::admin::{
    alter_partition_reassignments, create_partitions, create_topics, delete_topics, elect_leaders,
    list_partition_reassignments, unregister_broker, update_features,
};
use self::controller::quorum::{add_raft_voter, describe_quorum, remove_raft_voter};
pub(crate) use self::fetch::fetch;
use self::groups::{
    consumer_group_describe, consumer_group_heartbeat, delete_groups, describe_groups,
    find_coordinator, heartbeat, join_group, leave_group, list_groups, offset_commit,
    offset_delete, offset_fetch, sync_group,
};
pub(crate) use self::list_offsets::list_offsets;
use self::own_configs::{alter_configs, incremental_alter_configs};
pub(crate) use self::produce::produce;
#[cfg(feature = "testing")]
use crate::clock::Clock;
use crate::metrics::Traffic;
use crate::node::{Node, Settings};
use crate::peers;
use crate::store::partition::Partition;
#[cfg(feature = "testing")]
use crate::testing::{Connected, Probe};

/// Who is at the other end of a connection, and what its requests have left to do.
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// The listener to which it came, which decides the addresses that it is told of.
    pub(crate) listener: Str,
    /// What its requests have appended and nobody has seen to the flush of.
    pub(crate) due_flushes: DueFlushes,
    /// Whether it has named itself as what this is.
    is_of_this_kind: AtomicBool,
    /// By what tests know the connection.
    #[cfg(feature = "testing")]
    pub(crate) connected: Option<Connected>,
    /// Called when the connection is over.
    when_closed: Mutex<Option<WhenClosed>>,
}

type WhenClosed = Box<dyn FnOnce() + Send>;

impl Peer {
    pub(crate) fn new(address: SocketAddr, listener: Str) -> Self {
        // A dual-stack socket shows IPv4 clients as mapped addresses; people know the plain ones.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self {
            address,
            listener,
            due_flushes: DueFlushes::default(),
            is_of_this_kind: AtomicBool::new(false),
            #[cfg(feature = "testing")]
            connected: None,
            when_closed: Mutex::new(None),
        }
    }

    /// It has said which software it is (KIP-511).
    fn names_itself(&self, software: &str) {
        let is_of_this_kind = software == peers::SOFTWARE_NAME;
        self.is_of_this_kind
            .store(is_of_this_kind, Ordering::Relaxed);
    }

    /// Whether it is a node like this one, which may be expected to do more than the protocol demands.
    fn is_of_this_kind(&self) -> bool {
        self.is_of_this_kind.load(Ordering::Relaxed)
    }

    /// Has `call` called when the connection is over, in place of what was to be called before. It must not wait.
    fn when_closed(&self, call: impl FnOnce() + Send + 'static) {
        *self.when_closed.lock() = Some(Box::new(call));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(call) = self.when_closed.get_mut().take() {
            call();
        }
    }
}

/// Partitions that a connection's requests have appended to, until the connection has started all requests that have
/// arrived and sees to the flushes.
#[derive(Default)]
pub(crate) struct DueFlushes(Mutex<Vec<Arc<Partition>>>);

impl DueFlushes {
    fn add(&self, partition: &Arc<Partition>) {
        self.0.lock().push(Arc::clone(partition));
    }

    /// Sees to the flushes: on this very thread if it is a single one and `may_wait` says that the thread has nothing else
    /// to do, otherwise on the flusher's.
    pub(crate) fn start(&self, may_wait: impl FnOnce() -> bool) {
        let mut due = self.0.lock();
        if let [only] = &**due
            && may_wait()
            && only.flush_here()
        {
            due.clear();
        }
        for partition in due.drain(..) {
            partition.request_flush();
        }
    }
}

impl Drop for DueFlushes {
    fn drop(&mut self) {
        self.start(|| false);
    }
}

/// What comes of a request.
pub(crate) enum Answer {
    /// A response.
    Send(Response),
    /// Nothing is sent: a produce request with acks=0.
    Silent,
    /// The connection is closed.
    Close(Closed),
    /// A response, behind which the connection is closed.
    #[cfg(feature = "testing")]
    Last(Response),
}

impl Answer {
    /// How many bytes of memory it holds; pieces of files take none.
    pub(crate) fn len(&self) -> usize {
        let Self::Send(response) = self else { return 0 };
        let chunks = response.chunks.iter();
        chunks
            .map(|chunk| match chunk {
                Chunk::Bytes(bytes) => bytes.len(),
                Chunk::Deferred { .. } => 0,
            })
            .sum()
    }
}

/// Why a connection is closed.
#[derive(Debug)]
pub(crate) enum Closed {
    /// The client has ended it.
    ByClient,
    /// Nothing came for too long.
    Idle,
    /// The client sent what nobody can answer.
    BadRequest(String),
    /// A test wants it so, for this reason.
    #[cfg(feature = "testing")]
    ByFault(&'static str),
    /// The transport failed.
    Io(std::io::Error),
}

/// A response, ready to be sent: its bytes, and the pieces of files that its deferred chunks stand for.
pub(crate) struct Response {
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) files: Vec<FileSlice>,
}

/// A request in progress.
pub(crate) type Started = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What answers the requests that come to a listener.
pub(crate) trait Service: Send + Sync {
    /// What connections go by.
    fn settings(&self) -> &Settings;

    /// Where it is counted what comes and goes.
    fn traffic(&self) -> &Traffic;

    /// Reads a request and starts its handler. Where the frame is not a request that is known here there is nobody who
    /// could understand an answer, and the connection is closed.
    fn start(self: Arc<Self>, peer: &Arc<Peer>, frame: Bytes) -> Result<Started, Closed>;

    /// A connection was opened, and is so until the answer is dropped.
    #[cfg(feature = "testing")]
    fn connected(&self) -> Option<Connected>;
}

/// A node in one of its roles, with the APIs of the listeners of that role.
pub(crate) trait Role: Send + Sync + Sized + 'static {
    /// The APIs that are served and advertised, in the order of their numbers.
    const SERVED: &'static [ApiKey];

    /// Whether it is one of them.
    fn is_served(key: ApiKey) -> bool;

    /// Starts the handler of a request.
    fn route(context: Context<Self>, request: Request) -> Started;

    /// What connections go by.
    fn settings(&self) -> &Settings;

    /// Where it is counted what comes and goes.
    fn traffic(&self) -> &Traffic;

    /// The metadata of the cluster, as far as it is committed and applied here.
    fn image(&self) -> Arc<Image>;

    /// The offset of the metadata log up to which it is applied.
    fn metadata_offset(&self) -> Offset;

    /// The level of kraft.version.
    fn kraft_version(&self) -> i16;

    /// Where tests reach in.
    #[cfg(feature = "testing")]
    fn probe(&self) -> Option<(&Probe, &Clock)> {
        None
    }
}

/// A role whose listeners take requests to change the cluster.
pub(crate) trait Controlled: Role {
    /// The node as a broker, if it is one to those who ask here.
    fn as_broker(&self) -> Option<&Node> {
        None
    }

    /// Has a controller decide, in the name of a client with this address.
    fn decide(
        &self,
        client: IpAddr,
        request: ControllerRequest,
    ) -> impl Future<Output = Result<ControllerResponse, ErrorCode>> + Send;
}

/// What every handler gets besides the request itself.
pub(crate) struct Context<R = Node> {
    pub(crate) node: Arc<R>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) header: RequestHeader,
}

impl<R> Context<R> {
    /// The response to this request.
    pub(crate) fn answer<M: ApiResponse>(&self, message: &M) -> Answer {
        self.answer_with_files(message, Vec::new())
    }

    /// What comes of an answer from inside that is not of the kind that was asked for: a defect.
    pub(crate) fn mismatch(&self, answer: &dyn std::fmt::Debug) -> Answer {
        tracing::error!(api = %self.header.api_key, ?answer, "an answer of another kind");
        Answer::Close(Closed::BadRequest(
            "the broker has made a mistake".to_owned(),
        ))
    }

    /// The response to this request, whose deferred payloads are `files` by their token.
    pub(crate) fn answer_with_files<M: ApiResponse>(
        &self,
        message: &M,
        files: Vec<FileSlice>,
    ) -> Answer {
        let mut writer = Writer::new();
        let (version, id) = (self.header.api_version, self.header.correlation_id);
        let encoded = encode_response(&mut writer, version, id, message);
        encoded_answer(&self.header, writer, encoded, files)
    }
}

/// What is sent, once for all types of messages.
fn encoded_answer(
    header: &RequestHeader,
    mut writer: Writer,
    encoded: Result<(), EncodeError>,
    files: Vec<FileSlice>,
) -> Answer {
    match encoded {
        Ok(()) => Answer::Send(Response {
            chunks: writer.finish(),
            files,
        }),
        Err(error) => {
            // A response that its own version cannot express is a defect of the handler; the client must not wait.
            let (api, version) = (header.api_key, header.api_version);
            tracing::error!(%api, version, %error, "cannot encode a response");
            Answer::Close(Closed::BadRequest(error.to_string()))
        }
    }
}

impl<R: Role> Service for R {
    fn settings(&self) -> &Settings {
        Role::settings(self)
    }

    fn traffic(&self) -> &Traffic {
        Role::traffic(self)
    }

    fn start(self: Arc<Self>, peer: &Arc<Peer>, frame: Bytes) -> Result<Started, Closed> {
        let mut reader = Reader::new(frame);
        let bad = |error: tidelog_protocol::DecodeError| {
            tracing::warn!(peer = %peer.address, %error, "refused a request, the connection is closed");
            Closed::BadRequest(error.to_string())
        };
        let mut header = RequestHeader::read(&mut reader).map_err(bad)?;
        // The header outlives the frame, which is to be free for the next read as soon as its records are written.
        header.client_id = header.client_id.map(|id| id.detach());
        let api = header.api_key.api().filter(|api| R::is_served(api.key));
        let Some(api) = api else {
            return Err(Closed::BadRequest(format!(
                "{} is not served here",
                header.api_key
            )));
        };
        Role::traffic(&*self).requested(api.key);
        let version = header.api_version;
        let context = |header| Context {
            node: self,
            peer: Arc::clone(peer),
            header,
        };
        if !api.supported.contains(version) {
            if api.key != ApiKey::ApiVersions {
                let error = reader.error(DecodeErrorKind::UnsupportedVersion { version });
                return Err(bad(error.in_field(api.name, "version")));
            }
            // The client finds out which versions there are, in the only version that it must understand.
            let context = context(RequestHeader {
                api_version: 0,
                ..header
            });
            return Ok(Box::pin(api_versions::refuse_version(context)));
        }
        let request = Request::read(&mut reader, api.key, version).map_err(bad)?;
        let context = context(header);
        #[cfg(feature = "testing")]
        {
            let node = Arc::clone(&context.node);
            if let Some((probe, clock)) = node.probe() {
                return probe.start(clock, context, request);
            }
        }
        Ok(R::route(context, request))
    }

    #[cfg(feature = "testing")]
    fn connected(&self) -> Option<Connected> {
        self.probe().map(|(probe, _)| probe.connected())
    }
}

impl Role for Node {
    handlers! {
        Produce => produce,
        Fetch => fetch,
        ListOffsets => list_offsets,
        Metadata => metadata,
        OffsetCommit => offset_commit,
        OffsetFetch => offset_fetch,
        FindCoordinator => find_coordinator,
        JoinGroup => join_group,
        Heartbeat => heartbeat,
        LeaveGroup => leave_group,
        SyncGroup => sync_group,
        DescribeGroups => describe_groups,
        ListGroups => list_groups,
        ApiVersions => api_versions,
        CreateTopics => create_topics,
        DeleteTopics => delete_topics,
        DeleteRecords => delete_records,
        InitProducerId => init_producer_id,
        OffsetForLeaderEpoch => offset_for_leader_epoch,
        WriteTxnMarkers => write_txn_markers,
        DescribeConfigs => describe_configs,
        AlterConfigs => alter_configs,
        AlterReplicaLogDirs => alter_replica_log_dirs,
        DescribeLogDirs => describe_log_dirs,
        CreatePartitions => create_partitions,
        DeleteGroups => delete_groups,
        ElectLeaders => elect_leaders,
        IncrementalAlterConfigs => incremental_alter_configs,
        AlterPartitionReassignments => alter_partition_reassignments,
        ListPartitionReassignments => list_partition_reassignments,
        OffsetDelete => offset_delete,
        DescribeQuorum => describe_quorum,
        UpdateFeatures => update_features,
        DescribeCluster => describe_cluster,
        UnregisterBroker => unregister_broker,
        ConsumerGroupHeartbeat => consumer_group_heartbeat,
        ConsumerGroupDescribe => consumer_group_describe,
        DescribeTopicPartitions => describe_topic_partitions,
        AddRaftVoter => add_raft_voter,
        RemoveRaftVoter => remove_raft_voter,
    }

    fn settings(&self) -> &Settings {
        &self.config
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    fn metadata_offset(&self) -> Offset {
        Offset::new(self.metadata_offset.load(Ordering::Acquire))
    }

    fn kraft_version(&self) -> i16 {
        self.controller.local().leadership().borrow().kraft_version
    }

    #[cfg(feature = "testing")]
    fn probe(&self) -> Option<(&Probe, &Clock)> {
        Some((&self.probe, &self.clock))
    }
}

impl Controlled for Node {
    fn as_broker(&self) -> Option<&Node> {
        Some(self)
    }

    async fn decide(
        &self,
        client: IpAddr,
        request: ControllerRequest,
    ) -> Result<ControllerResponse, ErrorCode> {
        self.controller.request_for(client, request).await
    }
}
