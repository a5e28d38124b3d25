//! The one list of APIs, and what follows from it: keys, versions, headers, and dispatch.

use std::fmt;

use bytes::Bytes;

use crate::messages::*;
use crate::show::brief;
use crate::{
    DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, Message, Reader, RequestHeader,
    ResponseHeader, Schema, VersionRange, Writer,
};

/// The number of an API. Numbers that are not known survive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ApiKey(i16);

/// Where requests of an API may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The listeners of a broker.
    Broker,
    /// The listeners of a controller.
    Controller,
}

/// One API: a line of the list.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// The number.
    pub key: ApiKey,
    /// Kafka's name.
    pub name: &'static str,
    /// Every version that was ever released, and the unstable one that may come next: what this
    /// crate reads and writes.
    pub versions: VersionRange,
    /// The versions that Apache Kafka 4.3.1 understands. Kafka 4.0 dropped those before (KIP-896);
    /// those behind are unstable.
    pub supported: VersionRange,
    /// The versions that an ApiVersions response of Apache Kafka 4.3.1 lists.
    ///
    /// They differ from [`supported`](Self::supported) for Produce, which is listed from 0 on,
    /// since librdkafka takes its lowest version for a sign of which codecs there are.
    pub advertised: VersionRange,
    /// The versions with flexible encoding (KIP-482).
    pub flexible: VersionRange,
    /// Where the API may be called.
    pub listeners: &'static [Listener],
    /// What a request looks like on the wire.
    pub request: &'static Schema,
    /// What a response looks like on the wire.
    pub response: &'static Schema,
}

/// A message that is sent to a broker or controller.
pub trait ApiRequest: Message {
    /// The API.
    const KEY: ApiKey;
    /// What is sent back.
    type Response: ApiResponse;
}

/// A message that answers an [`ApiRequest`].
pub trait ApiResponse: Message {
    /// The API.
    const KEY: ApiKey;
}

/// The enum over the messages of one direction.
macro_rules! any_message {
    ($any:ident, $what:literal, $api:ident: $($name:ident($message:ty),)*) => {
        #[doc = concat!("A ", $what, " of any API.")]
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum $any {
            $(
                #[doc = concat!("A ", $what, " of ", stringify!($name), ".")]
                $name($message),
            )*
        }

        /// Short enough for a log line, and without secrets.
        impl fmt::Display for $any {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{} ", $what, " "), self.key())?;
                match self {
                    $(Self::$name(message) => brief(message, f),)*
                }
            }
        }

        impl $any {
            #[doc = concat!("The API of the ", $what, ".")]
            pub const fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => <$message as $api>::KEY,)*
                }
            }

            #[doc = concat!("Reads a ", $what, " of `key` in `version`, without its header. Bytes")]
            /// behind it are left, as Kafka does.
            pub fn read(
                reader: &mut Reader,
                key: ApiKey,
                version: i16,
            ) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$name => <$message>::read(reader, version).map(Self::$name),)*
                    _ => Err(unknown_key(reader, key)),
                }
            }

            #[doc = concat!("Writes the ", $what, " without its header.")]
            pub fn write(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(message) => message.write(writer, version),)*
                }
            }
        }

        $(
            impl From<$message> for $any {
                fn from(message: $message) -> Self {
                    Self::$name(message)
                }
            }
        )*
    };
}

/// `Name = key, module::Request => Response, [listeners], supported versions;`
///
/// One API a line, in the order of the keys. The supported versions are those that Apache Kafka
/// 4.3.1 understands; `advertised 0..` behind them lowers the first version that it lists. All that
/// this crate speaks is said by the struct of the request: `#[wire(versions = ..)]` has every
/// version ever released, and the unstable one if there is one, which is the one behind the
/// supported ones. A new line needs a module in `messages.rs`, and nothing else: the constants of
/// [`ApiKey`], [`Request`], [`Response`] and the dispatch follow from it.
macro_rules! apis {
    (retired: $($retired:ident = $retired_key:literal),*;
    $(
        $name:ident = $key:literal, $module:ident::$request:ident => $response:ident,
        [$($listener:ident)*], $min:literal..=$max:literal $(, advertised $first:literal..)?;
    )*) => {
        #[allow(non_upper_case_globals, reason = "keys are matched by Kafka's names of the APIs")]
        impl ApiKey {
            $(
                #[doc = concat!(stringify!($name), ", number ", stringify!($key), ".")]
                pub const $name: Self = Self($key);
            )*
            $(
                #[doc = concat!(stringify!($retired), ", number ", stringify!($retired_key), ".")]
                ///
                /// Retired: brokers with ZooKeeper spoke it among themselves, until Kafka 4.0.
                pub const $retired: Self = Self($retired_key);
            )*
        }

        /// Every API that is known, in the order of the numbers; without those that are
        /// [retired](RETIRED).
        pub const APIS: &[Api] = &[$({
            const SUPPORTED: VersionRange = VersionRange::new($min, $max);
            #[allow(unused_mut, reason = "few lines widen the range")]
            let mut advertised = SUPPORTED;
            $(advertised.min = $first;)?
            Api {
                key: ApiKey::$name,
                name: stringify!($name),
                versions: $module::$request::VERSIONS,
                supported: SUPPORTED,
                advertised,
                flexible: $module::$request::FLEXIBLE,
                listeners: &[$(Listener::$listener),*],
                request: $module::$request::SCHEMA,
                response: $module::$response::SCHEMA,
            }
        }),*];

        /// The numbers that no API has any more, and the names that they had.
        pub const RETIRED: &[(ApiKey, &str)] = &[$((ApiKey::$retired, stringify!($retired))),*];

        $(
            impl ApiRequest for $module::$request {
                const KEY: ApiKey = ApiKey::$name;
                type Response = $module::$response;
            }

            impl ApiResponse for $module::$response {
                const KEY: ApiKey = ApiKey::$name;
            }
        )*

        any_message! {
            Request, "request", ApiRequest:
            $($name($module::$request),)*
        }

        any_message! {
            Response, "response", ApiResponse:
            $($name($module::$response),)*
        }
    };
}

#[rustfmt::skip]
apis! {
    retired: LeaderAndIsr = 4, StopReplica = 5, UpdateMetadata = 6, ControlledShutdown = 7;

    Produce = 0, produce::ProduceRequest => ProduceResponse, [Broker], 3..=13, advertised 0..;
    Fetch = 1, fetch::FetchRequest => FetchResponse, [Broker Controller], 4..=18;
    ListOffsets = 2, list_offsets::ListOffsetsRequest => ListOffsetsResponse, [Broker], 1..=11;
    Metadata = 3, metadata::MetadataRequest => MetadataResponse, [Broker], 0..=13;
    OffsetCommit = 8, offset_commit::OffsetCommitRequest => OffsetCommitResponse, [Broker], 2..=10;
    OffsetFetch = 9, offset_fetch::OffsetFetchRequest => OffsetFetchResponse, [Broker], 1..=10;
    FindCoordinator = 10, find_coordinator::FindCoordinatorRequest => FindCoordinatorResponse, [Broker], 0..=6;
    JoinGroup = 11, join_group::JoinGroupRequest => JoinGroupResponse, [Broker], 0..=9;
    Heartbeat = 12, heartbeat::HeartbeatRequest => HeartbeatResponse, [Broker], 0..=4;
    LeaveGroup = 13, leave_group::LeaveGroupRequest => LeaveGroupResponse, [Broker], 0..=5;
    SyncGroup = 14, sync_group::SyncGroupRequest => SyncGroupResponse, [Broker], 0..=5;
    DescribeGroups = 15, describe_groups::DescribeGroupsRequest => DescribeGroupsResponse, [Broker], 0..=6;
    ListGroups = 16, list_groups::ListGroupsRequest => ListGroupsResponse, [Broker], 0..=5;
    SaslHandshake = 17, sasl_handshake::SaslHandshakeRequest => SaslHandshakeResponse, [Broker Controller], 0..=1;
    ApiVersions = 18, api_versions::ApiVersionsRequest => ApiVersionsResponse, [Broker Controller], 0..=4;
    CreateTopics = 19, create_topics::CreateTopicsRequest => CreateTopicsResponse, [Broker Controller], 2..=7;
    DeleteTopics = 20, delete_topics::DeleteTopicsRequest => DeleteTopicsResponse, [Broker Controller], 1..=6;
    DeleteRecords = 21, delete_records::DeleteRecordsRequest => DeleteRecordsResponse, [Broker], 0..=2;
    InitProducerId = 22, init_producer_id::InitProducerIdRequest => InitProducerIdResponse, [Broker], 0..=5;
    OffsetForLeaderEpoch = 23, offset_for_leader_epoch::OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse, [Broker], 2..=4;
    AddPartitionsToTxn = 24, add_partitions_to_txn::AddPartitionsToTxnRequest => AddPartitionsToTxnResponse, [Broker], 0..=5;
    AddOffsetsToTxn = 25, add_offsets_to_txn::AddOffsetsToTxnRequest => AddOffsetsToTxnResponse, [Broker], 0..=4;
    EndTxn = 26, end_txn::EndTxnRequest => EndTxnResponse, [Broker], 0..=5;
    WriteTxnMarkers = 27, write_txn_markers::WriteTxnMarkersRequest => WriteTxnMarkersResponse, [Broker], 1..=2;
    TxnOffsetCommit = 28, txn_offset_commit::TxnOffsetCommitRequest => TxnOffsetCommitResponse, [Broker], 0..=5;
    DescribeAcls = 29, describe_acls::DescribeAclsRequest => DescribeAclsResponse, [Broker Controller], 1..=3;
    CreateAcls = 30, create_acls::CreateAclsRequest => CreateAclsResponse, [Broker Controller], 1..=3;
    DeleteAcls = 31, delete_acls::DeleteAclsRequest => DeleteAclsResponse, [Broker Controller], 1..=3;
    DescribeConfigs = 32, describe_configs::DescribeConfigsRequest => DescribeConfigsResponse, [Broker Controller], 1..=4;
    AlterConfigs = 33, alter_configs::AlterConfigsRequest => AlterConfigsResponse, [Broker Controller], 0..=2;
    AlterReplicaLogDirs = 34, alter_replica_log_dirs::AlterReplicaLogDirsRequest => AlterReplicaLogDirsResponse, [Broker], 1..=2;
    DescribeLogDirs = 35, describe_log_dirs::DescribeLogDirsRequest => DescribeLogDirsResponse, [Broker], 1..=5;
    SaslAuthenticate = 36, sasl_authenticate::SaslAuthenticateRequest => SaslAuthenticateResponse, [Broker Controller], 0..=2;
    CreatePartitions = 37, create_partitions::CreatePartitionsRequest => CreatePartitionsResponse, [Broker Controller], 0..=3;
    CreateDelegationToken = 38, create_delegation_token::CreateDelegationTokenRequest => CreateDelegationTokenResponse, [Broker Controller], 1..=3;
    RenewDelegationToken = 39, renew_delegation_token::RenewDelegationTokenRequest => RenewDelegationTokenResponse, [Broker Controller], 1..=2;
    ExpireDelegationToken = 40, expire_delegation_token::ExpireDelegationTokenRequest => ExpireDelegationTokenResponse, [Broker Controller], 1..=2;
    DescribeDelegationToken = 41, describe_delegation_token::DescribeDelegationTokenRequest => DescribeDelegationTokenResponse, [Broker Controller], 1..=3;
    DeleteGroups = 42, delete_groups::DeleteGroupsRequest => DeleteGroupsResponse, [Broker], 0..=2;
    ElectLeaders = 43, elect_leaders::ElectLeadersRequest => ElectLeadersResponse, [Broker Controller], 0..=2;
    IncrementalAlterConfigs = 44, incremental_alter_configs::IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse, [Broker Controller], 0..=1;
    AlterPartitionReassignments = 45, alter_partition_reassignments::AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse, [Broker Controller], 0..=1;
    ListPartitionReassignments = 46, list_partition_reassignments::ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse, [Broker Controller], 0..=0;
    OffsetDelete = 47, offset_delete::OffsetDeleteRequest => OffsetDeleteResponse, [Broker], 0..=0;
    DescribeClientQuotas = 48, describe_client_quotas::DescribeClientQuotasRequest => DescribeClientQuotasResponse, [Broker], 0..=1;
    AlterClientQuotas = 49, alter_client_quotas::AlterClientQuotasRequest => AlterClientQuotasResponse, [Broker Controller], 0..=1;
    DescribeUserScramCredentials = 50, describe_user_scram_credentials::DescribeUserScramCredentialsRequest => DescribeUserScramCredentialsResponse, [Broker Controller], 0..=0;
    AlterUserScramCredentials = 51, alter_user_scram_credentials::AlterUserScramCredentialsRequest => AlterUserScramCredentialsResponse, [Broker Controller], 0..=0;
    Vote = 52, vote::VoteRequest => VoteResponse, [Controller], 0..=2;
    BeginQuorumEpoch = 53, begin_quorum_epoch::BeginQuorumEpochRequest => BeginQuorumEpochResponse, [Controller], 0..=1;
    EndQuorumEpoch = 54, end_quorum_epoch::EndQuorumEpochRequest => EndQuorumEpochResponse, [Controller], 0..=1;
    DescribeQuorum = 55, describe_quorum::DescribeQuorumRequest => DescribeQuorumResponse, [Broker Controller], 0..=2;
    AlterPartition = 56, alter_partition::AlterPartitionRequest => AlterPartitionResponse, [Controller], 2..=3;
    UpdateFeatures = 57, update_features::UpdateFeaturesRequest => UpdateFeaturesResponse, [Broker Controller], 0..=2;
    Envelope = 58, envelope::EnvelopeRequest => EnvelopeResponse, [Controller], 0..=0;
    FetchSnapshot = 59, fetch_snapshot::FetchSnapshotRequest => FetchSnapshotResponse, [Controller], 0..=1;
    DescribeCluster = 60, describe_cluster::DescribeClusterRequest => DescribeClusterResponse, [Broker Controller], 0..=2;
    DescribeProducers = 61, describe_producers::DescribeProducersRequest => DescribeProducersResponse, [Broker], 0..=0;
    BrokerRegistration = 62, broker_registration::BrokerRegistrationRequest => BrokerRegistrationResponse, [Controller], 0..=4;
    BrokerHeartbeat = 63, broker_heartbeat::BrokerHeartbeatRequest => BrokerHeartbeatResponse, [Controller], 0..=2;
    UnregisterBroker = 64, unregister_broker::UnregisterBrokerRequest => UnregisterBrokerResponse, [Broker Controller], 0..=0;
    DescribeTransactions = 65, describe_transactions::DescribeTransactionsRequest => DescribeTransactionsResponse, [Broker], 0..=0;
    ListTransactions = 66, list_transactions::ListTransactionsRequest => ListTransactionsResponse, [Broker], 0..=2;
    AllocateProducerIds = 67, allocate_producer_ids::AllocateProducerIdsRequest => AllocateProducerIdsResponse, [Controller], 0..=0;
    ConsumerGroupHeartbeat = 68, consumer_group_heartbeat::ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse, [Broker], 0..=1;
    ConsumerGroupDescribe = 69, consumer_group_describe::ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse, [Broker], 0..=1;
    ControllerRegistration = 70, controller_registration::ControllerRegistrationRequest => ControllerRegistrationResponse, [Controller], 0..=0;
    GetTelemetrySubscriptions = 71, get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest => GetTelemetrySubscriptionsResponse, [Broker], 0..=0;
    PushTelemetry = 72, push_telemetry::PushTelemetryRequest => PushTelemetryResponse, [Broker], 0..=0;
    AssignReplicasToDirs = 73, assign_replicas_to_dirs::AssignReplicasToDirsRequest => AssignReplicasToDirsResponse, [Controller], 0..=0;
    ListConfigResources = 74, list_config_resources::ListConfigResourcesRequest => ListConfigResourcesResponse, [Broker], 0..=1;
    DescribeTopicPartitions = 75, describe_topic_partitions::DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse, [Broker], 0..=0;
    ShareGroupHeartbeat = 76, share_group_heartbeat::ShareGroupHeartbeatRequest => ShareGroupHeartbeatResponse, [Broker], 1..=1;
    ShareGroupDescribe = 77, share_group_describe::ShareGroupDescribeRequest => ShareGroupDescribeResponse, [Broker], 1..=1;
    ShareFetch = 78, share_fetch::ShareFetchRequest => ShareFetchResponse, [Broker], 1..=2;
    ShareAcknowledge = 79, share_acknowledge::ShareAcknowledgeRequest => ShareAcknowledgeResponse, [Broker], 1..=2;
    AddRaftVoter = 80, add_raft_voter::AddRaftVoterRequest => AddRaftVoterResponse, [Broker Controller], 0..=1;
    RemoveRaftVoter = 81, remove_raft_voter::RemoveRaftVoterRequest => RemoveRaftVoterResponse, [Broker Controller], 0..=0;
    UpdateRaftVoter = 82, update_raft_voter::UpdateRaftVoterRequest => UpdateRaftVoterResponse, [Controller], 0..=0;
    InitializeShareGroupState = 83, initialize_share_group_state::InitializeShareGroupStateRequest => InitializeShareGroupStateResponse, [Broker], 0..=0;
    ReadShareGroupState = 84, read_share_group_state::ReadShareGroupStateRequest => ReadShareGroupStateResponse, [Broker], 0..=0;
    WriteShareGroupState = 85, write_share_group_state::WriteShareGroupStateRequest => WriteShareGroupStateResponse, [Broker], 0..=1;
    DeleteShareGroupState = 86, delete_share_group_state::DeleteShareGroupStateRequest => DeleteShareGroupStateResponse, [Broker], 0..=0;
    ReadShareGroupStateSummary = 87, read_share_group_state_summary::ReadShareGroupStateSummaryRequest => ReadShareGroupStateSummaryResponse, [Broker], 0..=1;
    StreamsGroupHeartbeat = 88, streams_group_heartbeat::StreamsGroupHeartbeatRequest => StreamsGroupHeartbeatResponse, [Broker], 0..=0;
    StreamsGroupDescribe = 89, streams_group_describe::StreamsGroupDescribeRequest => StreamsGroupDescribeResponse, [Broker], 0..=0;
    DescribeShareGroupOffsets = 90, describe_share_group_offsets::DescribeShareGroupOffsetsRequest => DescribeShareGroupOffsetsResponse, [Broker], 0..=1;
    AlterShareGroupOffsets = 91, alter_share_group_offsets::AlterShareGroupOffsetsRequest => AlterShareGroupOffsetsResponse, [Broker], 0..=0;
    DeleteShareGroupOffsets = 92, delete_share_group_offsets::DeleteShareGroupOffsetsRequest => DeleteShareGroupOffsetsResponse, [Broker], 0..=0;
}

impl ApiKey {
    /// Wraps a number from the wire.
    pub const fn new(key: i16) -> Self {
        Self(key)
    }

    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self.0
    }

    /// The line of the list, if the API is known.
    pub fn api(self) -> Option<&'static Api> {
        APIS.binary_search_by_key(&self, |api| api.key)
            .ok()
            .map(|i| &APIS[i])
    }

    /// Kafka's name of the API, if it is known or [retired](RETIRED).
    pub fn name(self) -> Option<&'static str> {
        let retired = || RETIRED.iter().find(|(key, _)| *key == self);
        match self.api() {
            Some(api) => Some(api.name),
            None => retired().map(|(_, name)| *name),
        }
    }

    /// Whether a request of `version` has a header with tagged fields; `None` if the API is not
    /// known.
    pub fn has_flexible_request_header(self, version: i16) -> Option<bool> {
        self.api().map(|api| api.flexible.contains(version))
    }

    /// Whether a response of `version` has a header with tagged fields.
    pub fn has_flexible_response_header(self, version: i16) -> bool {
        self != Self::ApiVersions && self.has_flexible_request_header(version) == Some(true)
    }
}

impl Api {
    /// Whether the API may be called on `listener`.
    pub fn is_on(&self, listener: Listener) -> bool {
        self.listeners.contains(&listener)
    }

    /// The version that is known and may still change before it is released.
    pub fn unstable(&self) -> Option<i16> {
        (self.versions.max > self.supported.max).then_some(self.versions.max)
    }

    /// The versions of the headers of a request and of its response, for a request of `version`.
    pub fn header_versions(&self, version: i16) -> (i16, i16) {
        let request = self.flexible.contains(version);
        let response = self.key.has_flexible_response_header(version);
        (1 + i16::from(request), i16::from(response))
    }

    /// The versions of all headers that there are: `1/0 2/1`, those of a request and its response.
    pub fn headers(&self) -> String {
        let versions = self.versions.iter().map(|v| self.header_versions(v));
        let mut headers: Vec<_> = versions.map(|(q, p)| format!("{q}/{p}")).collect();
        headers.dedup();
        headers.join(" ")
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broker => "broker",
            Self::Controller => "controller",
        })
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "API {}", self.0),
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<i16> for ApiKey {
    fn from(key: i16) -> Self {
        Self(key)
    }
}

impl Request {
    /// Reads a header and the request behind it: all of a frame.
    pub fn read_frame(frame: Bytes) -> Result<(RequestHeader, Self), DecodeError> {
        let mut reader = Reader::new(frame);
        let header = RequestHeader::read(&mut reader)?;
        let request = Self::read(&mut reader, header.api_key, header.api_version)?;
        Ok((header, request))
    }
}

/// Writes a whole request: its length, header and body.
///
/// If it cannot be written, the writer holds what it held before.
pub fn encode_request<M: ApiRequest>(
    writer: &mut Writer,
    version: i16,
    correlation_id: i32,
    client_id: Option<&tidelog_types::Str>,
    request: &M,
) -> Result<(), EncodeError> {
    let header = RequestHeader {
        api_key: M::KEY,
        api_version: version,
        correlation_id,
        client_id: client_id.cloned(),
    };
    encode_frame(writer, |writer| {
        header.write(writer)?;
        request.write(writer, version)
    })
}

/// Writes a whole response: its length, header and body. Several responses may be written one after
/// the other before the writer's chunks are taken.
///
/// If it cannot be written, the writer holds what it held before.
pub fn encode_response<M: ApiResponse>(
    writer: &mut Writer,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<(), EncodeError> {
    encode_frame(writer, |writer| {
        ResponseHeader { correlation_id }.write(writer, M::KEY, version);
        response.write(writer, version)
    })
}

impl Response {
    /// Writes a whole response, like [`encode_response`].
    pub fn encode(
        &self,
        writer: &mut Writer,
        version: i16,
        correlation_id: i32,
    ) -> Result<(), EncodeError> {
        encode_frame(writer, |writer| {
            ResponseHeader { correlation_id }.write(writer, self.key(), version);
            self.write(writer, version)
        })
    }
}

fn encode_frame(
    writer: &mut Writer,
    body: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = writer.mark();
    writer.put_u32(0);
    let after_length = writer.mark();
    let written = body(writer).and_then(|()| {
        let length = writer.len_since(after_length);
        i32::try_from(length).map_err(|_| EncodeError::new(EncodeErrorKind::TooLong { length }))
    });
    match written {
        Ok(length) => {
            writer.set_u32_at(start, length as u32);
            Ok(())
        }
        Err(error) => {
            writer.rewind(start);
            Err(error)
        }
    }
}

#[cold]
fn unknown_key(reader: &Reader, key: ApiKey) -> DecodeError {
    reader
        .error(DecodeErrorKind::UnknownKey {
            key: i32::from(key.code()),
        })
        .in_field("RequestHeader", "api_key")
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::Chunk;
    use crate::frame::next_frame;
    use crate::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

    #[test]
    fn the_list_is_sorted_and_each_key_finds_its_line() {
        assert!(APIS.is_sorted_by_key(|api| api.key));
        for api in APIS {
            assert_eq!(api.key.name(), Some(api.name));
        }
        assert_eq!(ApiKey::new(4).to_string(), "LeaderAndIsr");
        assert!(ApiKey::LeaderAndIsr.api().is_none());
        assert_eq!(ApiKey::new(9999).to_string(), "API 9999");
    }

    #[test]
    fn the_table_is_that_of_kafka() {
        let ours = |key: ApiKey| {
            let name = key.name().unwrap_or_default();
            let Some(api) = key.api() else {
                return format!("{}\t{name}\t0\t-1\t-1\t\t", key.code());
            };
            let headers = (api.supported.min..=api.versions.max).map(|version| {
                let (request, response) = api.header_versions(version);
                format!("{request}/{response}")
            });
            let headers: Vec<_> = headers.collect();
            let listeners: Vec<_> = api.listeners.iter().map(Listener::to_string).collect();
            format!(
                "{}\t{name}\t{}\t{}\t{}\t{}\t{}",
                key.code(),
                api.supported.min,
                api.supported.max,
                api.versions.max,
                listeners.join(","),
                headers.join(","),
            )
        };
        let kafkas = include_str!("../testdata/apis.tsv");
        let kafkas: Vec<_> = kafkas.lines().filter(|l| !l.starts_with('#')).collect();
        let retired = RETIRED.iter().map(|(key, _)| *key);
        let mut keys: Vec<_> = APIS.iter().map(|api| api.key).chain(retired).collect();
        keys.sort();
        assert_eq!(keys.into_iter().map(ours).collect::<Vec<_>>(), kafkas);
    }

    #[test]
    fn produce_is_advertised_from_zero_and_supported_from_three() {
        let produce = ApiKey::Produce.api().unwrap();
        assert_eq!(produce.advertised, VersionRange::new(0, 13));
        assert_eq!(produce.supported, VersionRange::new(3, 13));
    }

    #[test]
    fn an_unstable_version_is_known_and_not_advertised() {
        let api = ApiKey::InitProducerId.api().unwrap();
        assert_eq!(api.advertised, VersionRange::new(0, 5));
        assert_eq!(api.unstable(), Some(6));
        assert_eq!(ApiKey::Fetch.api().unwrap().unstable(), None);
    }

    #[test]
    fn an_api_without_flexible_versions_never_has_a_flexible_header() {
        assert_eq!(
            ApiKey::OffsetDelete.has_flexible_request_header(0),
            Some(false)
        );
        assert_eq!(
            ApiKey::OffsetDelete.has_flexible_request_header(9),
            Some(false)
        );
    }

    #[test]
    fn a_request_survives_its_frame() {
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: 3,
            ..Default::default()
        };
        let mut writer = Writer::new();
        encode_request(&mut writer, 4, 77, Some(&"me".into()), &request).unwrap();
        let bytes = writer.finish_contiguous().unwrap();
        let frame = next_frame(&mut BytesMut::from(&bytes[..]), 1000)
            .unwrap()
            .unwrap();
        let (header, read) = Request::read_frame(frame).unwrap();
        assert_eq!(header.correlation_id, 77);
        assert_eq!(header.client_id.as_deref(), Some("me"));
        assert_eq!(read, Request::from(request));
    }

    #[test]
    fn a_response_that_cannot_be_written_leaves_no_trace() {
        let mut writer = Writer::new();
        encode_response(&mut writer, 0, 1, &HeartbeatResponse::default()).unwrap();
        let before = writer.len();
        encode_response(&mut writer, 99, 2, &HeartbeatResponse::default()).unwrap_err();
        assert_eq!(writer.len(), before);
        encode_response(&mut writer, 0, 3, &HeartbeatResponse::default()).unwrap();
        let expected = [0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 6, 0, 0, 0, 3, 0, 0];
        assert_eq!(
            writer.finish(),
            [Chunk::Bytes(Bytes::copy_from_slice(&expected))]
        );
    }
}
