//! What the tests of this crate share: the list of messages, the vectors, and a reader that knows
//! nothing but schemas.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;
use tidelog_protocol::{DecodeError, Field, Kind, Message, Reader, Schema, Version};

/// Bytes that Kafka wrote, with what Kafka says is in them.
pub(crate) struct Vector {
    pub(crate) version: i16,
    pub(crate) bytes: Bytes,
    pub(crate) json: Value,
}

/// Where the vectors are: `TIDELOG_VECTORS`, or the crate's own.
fn directory() -> PathBuf {
    std::env::var_os("TIDELOG_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"),
        PathBuf::from,
    )
}

/// The vectors of a message, in the order of the file.
pub(crate) fn vectors(set: &str, name: &str) -> Vec<Vector> {
    let path = directory().join(set).join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("a line is JSON");
            Vector {
                version: line["version"].as_i64().expect("a version") as i16,
                bytes: unhex(line["hex"].as_str().expect("hex")),
                json: line["json"].clone(),
            }
        })
        .collect()
}

/// Calls a generic function for every message there is: `each_message!(check)` calls
/// `check::<M>(set)` with the folder in which the vectors of `M` are.
macro_rules! each_message {
    ($check:ident) => {
        each_message!(@list $check
            (api) messages::produce: ProduceRequest ProduceResponse,
            (api) messages::fetch: FetchRequest FetchResponse,
            (api) messages::list_offsets: ListOffsetsRequest ListOffsetsResponse,
            (api) messages::metadata: MetadataRequest MetadataResponse,
            (api) messages::offset_commit: OffsetCommitRequest OffsetCommitResponse,
            (api) messages::offset_fetch: OffsetFetchRequest OffsetFetchResponse,
            (api) messages::find_coordinator: FindCoordinatorRequest FindCoordinatorResponse,
            (api) messages::join_group: JoinGroupRequest JoinGroupResponse,
            (api) messages::heartbeat: HeartbeatRequest HeartbeatResponse,
            (api) messages::leave_group: LeaveGroupRequest LeaveGroupResponse,
            (api) messages::sync_group: SyncGroupRequest SyncGroupResponse,
            (api) messages::describe_groups: DescribeGroupsRequest DescribeGroupsResponse,
            (api) messages::list_groups: ListGroupsRequest ListGroupsResponse,
            (api) messages::api_versions: ApiVersionsRequest ApiVersionsResponse,
            (api) messages::create_topics: CreateTopicsRequest CreateTopicsResponse,
            (api) messages::delete_topics: DeleteTopicsRequest DeleteTopicsResponse,
            (api) messages::delete_records: DeleteRecordsRequest DeleteRecordsResponse,
            (api) messages::init_producer_id: InitProducerIdRequest InitProducerIdResponse,
            (api) messages::offset_for_leader_epoch:
                OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
            (api) messages::describe_configs: DescribeConfigsRequest DescribeConfigsResponse,
            (api) messages::alter_configs: AlterConfigsRequest AlterConfigsResponse,
            (api) messages::create_partitions: CreatePartitionsRequest CreatePartitionsResponse,
            (api) messages::delete_groups: DeleteGroupsRequest DeleteGroupsResponse,
            (api) messages::incremental_alter_configs:
                IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
            (api) messages::offset_delete: OffsetDeleteRequest OffsetDeleteResponse,
            (api) messages::describe_cluster: DescribeClusterRequest DescribeClusterResponse,
            (api) messages::describe_topic_partitions:
                DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
            (metadata) records::metadata:
                AbortTransactionRecord AccessControlEntryRecord BeginTransactionRecord
                BrokerRegistrationChangeRecord ClearElrRecord ClientQuotaRecord ConfigRecord
                DelegationTokenRecord EndTransactionRecord FeatureLevelRecord FenceBrokerRecord
                NoOpRecord PartitionChangeRecord PartitionRecord ProducerIdsRecord
                RegisterBrokerRecord RegisterControllerRecord RemoveAccessControlEntryRecord
                RemoveDelegationTokenRecord RemoveTopicRecord RemoveUserScramCredentialRecord
                TopicRecord UnfenceBrokerRecord UnregisterBrokerRecord UserScramCredentialRecord
                ZkMigrationStateRecord,
            (group) records::group::classic:
                GroupMetadataKey GroupMetadataValue OffsetCommitKey OffsetCommitValue,
            (group) records::group::consumer:
                ConsumerGroupCurrentMemberAssignmentKey
                ConsumerGroupCurrentMemberAssignmentValue ConsumerGroupMemberMetadataKey
                ConsumerGroupMemberMetadataValue ConsumerGroupMetadataKey
                ConsumerGroupMetadataValue ConsumerGroupPartitionMetadataKey
                ConsumerGroupPartitionMetadataValue ConsumerGroupRegularExpressionKey
                ConsumerGroupRegularExpressionValue ConsumerGroupTargetAssignmentMemberKey
                ConsumerGroupTargetAssignmentMemberValue
                ConsumerGroupTargetAssignmentMetadataKey
                ConsumerGroupTargetAssignmentMetadataValue,
            (group) records::group::share:
                ShareGroupCurrentMemberAssignmentKey ShareGroupCurrentMemberAssignmentValue
                ShareGroupMemberMetadataKey ShareGroupMemberMetadataValue ShareGroupMetadataKey
                ShareGroupMetadataValue ShareGroupStatePartitionMetadataKey
                ShareGroupStatePartitionMetadataValue ShareGroupTargetAssignmentMemberKey
                ShareGroupTargetAssignmentMemberValue ShareGroupTargetAssignmentMetadataKey
                ShareGroupTargetAssignmentMetadataValue,
            (group) records::group::streams:
                StreamsGroupCurrentMemberAssignmentKey StreamsGroupCurrentMemberAssignmentValue
                StreamsGroupMemberMetadataKey StreamsGroupMemberMetadataValue
                StreamsGroupMetadataKey StreamsGroupMetadataValue
                StreamsGroupTargetAssignmentMemberKey StreamsGroupTargetAssignmentMemberValue
                StreamsGroupTargetAssignmentMetadataKey
                StreamsGroupTargetAssignmentMetadataValue StreamsGroupTopologyKey
                StreamsGroupTopologyValue,
            (common) records::control:
                EndTxnMarker LeaderChangeMessage SnapshotHeaderRecord SnapshotFooterRecord
                KRaftVersionRecord VotersRecord,
            (common) records::consumer_protocol:
                ConsumerProtocolSubscription ConsumerProtocolAssignment,
        );
    };
    (@list $check:ident $(($set:ident) $($module:ident)::+: $($message:ident)*,)*) => {
        $(each_message!(@module $check $set ($($module)::+) $($message)*);)*
    };
    (@module $check:ident $set:ident $module:tt $($message:ident)*) => {
        $(each_message!(@one $check $set $module $message);)*
    };
    (@one $check:ident $set:ident ($($module:ident)::+) $message:ident) => {
        $check::<tidelog_protocol::$($module)::+::$message>(stringify!($set));
    };
}

/// What Kafka's JSON converter would print for `bytes`, found by the schema alone.
pub(crate) fn to_json<M: Message>(bytes: &Bytes, version: i16) -> Result<Value, DecodeError> {
    let version = M::version(version).expect("the vectors have known versions");
    let mut reader = Reader::new(bytes.clone());
    let json = read_struct(&mut reader, version, M::SCHEMA)?;
    reader.finish()?;
    Ok(json)
}

fn read_struct(
    reader: &mut Reader,
    version: Version,
    schema: &Schema,
) -> Result<Value, DecodeError> {
    let mut json = serde_json::Map::new();
    let there = |field: &&Field| field.versions.contains(version.number);
    for field in schema
        .fields
        .iter()
        .filter(there)
        .filter(|f| f.tag.is_none())
    {
        json.insert(field.name.into(), read_field(reader, version, field)?);
    }
    if version.flexible {
        let mut tags = reader.begin_tags()?;
        while let Some(tag) = reader.next_tag(&mut tags)? {
            match schema
                .fields
                .iter()
                .filter(there)
                .find(|f| f.tag == Some(tag))
            {
                Some(field) => {
                    json.insert(field.name.into(), read_field(reader, version, field)?);
                }
                None => reader.unknown_tag(&tags)?,
            }
            reader.end_tag(&tags)?;
        }
    }
    Ok(Value::Object(json))
}

fn read_field(reader: &mut Reader, version: Version, field: &Field) -> Result<Value, DecodeError> {
    match field.kind {
        Kind::Nullable(kind) if !field.nullable.contains(version.number) => {
            read(reader, version, *kind)
        }
        kind => read(reader, version, kind),
    }
}

fn read(reader: &mut Reader, version: Version, kind: Kind) -> Result<Value, DecodeError> {
    Ok(match kind {
        Kind::Bool => reader.bool()?.into(),
        Kind::Int8 => reader.i8()?.into(),
        Kind::Int16 => reader.i16()?.into(),
        Kind::Uint16 => reader.u16()?.into(),
        Kind::Int32 => reader.i32()?.into(),
        Kind::Uint32 => reader.u32()?.into(),
        Kind::Int64 => reader.i64()?.into(),
        Kind::Float64 => reader.f64()?.into(),
        Kind::Uuid => reader.uuid()?.to_string().into(),
        Kind::String => match reader.str_len(version)? {
            Some(len) => reader.str(len)?.as_str().into(),
            None => Value::Null,
        },
        Kind::Bytes | Kind::Records => match reader.bytes_len(version)? {
            Some(len) => base64(&reader.slice(len)?).into(),
            None => Value::Null,
        },
        Kind::Array(element) => match reader.array_len(version)? {
            Some(len) => reader
                .elements(len, |reader| read(reader, version, *element))?
                .into(),
            None => Value::Null,
        },
        Kind::Nullable(Kind::Struct(schema)) => match reader.i8()? {
            1 => read_struct(reader, version, schema)?,
            _ => Value::Null,
        },
        Kind::Nullable(kind) => read(reader, version, *kind)?,
        Kind::Struct(schema) => read_struct(reader, version, schema)?,
    })
}

/// Fails unless both are the same message, apart from how names are written, and from records, of
/// which Kafka prints the size.
pub(crate) fn assert_same(ours: &Value, kafkas: &Value, place: &str) {
    match (ours, kafkas) {
        (Value::Object(ours), Value::Object(kafkas)) => {
            let plain = |name: &str| name.replace('_', "").to_lowercase();
            let names = |names: serde_json::map::Keys<'_>| -> BTreeSet<String> {
                names
                    .map(|n| plain(n.strip_suffix("SizeInBytes").unwrap_or(n)))
                    .collect()
            };
            assert_eq!(names(ours.keys()), names(kafkas.keys()), "{place}");
            for (name, ours) in ours.iter().filter(|(name, _)| *name != "records") {
                let kafkas = kafkas
                    .iter()
                    .find(|(k, _)| plain(k) == plain(name))
                    .expect("compared above")
                    .1;
                assert_same(ours, kafkas, &format!("{place}.{name}"));
            }
        }
        (Value::Array(ours), Value::Array(kafkas)) => {
            assert_eq!(ours.len(), kafkas.len(), "{place}");
            for (i, (ours, kafkas)) in ours.iter().zip(kafkas).enumerate() {
                assert_same(ours, kafkas, &format!("{place}[{i}]"));
            }
        }
        _ => assert_eq!(ours, kafkas, "{place}"),
    }
}

fn unhex(text: &str) -> Bytes {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}
