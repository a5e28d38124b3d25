use std::fmt;

/// An answer of a broker that is not the wanted one: a number on the wire, a name in Kafka's documents.
///
/// A number that this version does not know survives unchanged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct ErrorCode(i16);

/// One table for constants, names, texts and whether a client may try again.
macro_rules! error_codes {
    ($($code:literal $name:ident $retriable:ident $text:literal)*) => {
        impl ErrorCode {
            $(
                #[doc = concat!($text, ".")]
                pub const $name: Self = Self($code);
            )*

            /// Every code that is known, in order.
            pub const ALL: &[Self] = &[$(Self($code)),*];

            /// Kafka's name of the code, if it is known.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// What went wrong, in a sentence.
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $($code => concat!($text, "."),)*
                    _ => "An error that this version does not know.",
                }
            }

            /// Whether the same request may succeed later, possibly after looking up leaders or coordinators again.
            pub const fn is_retriable(self) -> bool {
                match self.0 {
                    $($code => error_codes!(@$retriable),)*
                    _ => false,
                }
            }
        }
    };
    (@retry) => { true };
    (@fatal) => { false };
}

#[rustfmt::skip]
error_codes! {
    -1 UNKNOWN_SERVER_ERROR fatal "The server met an error that has no code of its own"
    0 NONE fatal "No error"
    1 OFFSET_OUT_OF_RANGE fatal "The offset lies outside the range of the partition"
    2 CORRUPT_MESSAGE retry "The batch is damaged: its length, magic or CRC is wrong"
    3 UNKNOWN_TOPIC_OR_PARTITION retry "This broker does not know the topic or partition"
    4 INVALID_FETCH_SIZE fatal "The requested fetch size is not valid"
    5 LEADER_NOT_AVAILABLE retry "The partition has no leader just now"
    6 NOT_LEADER_OR_FOLLOWER retry "This broker is not the leader, or not a replica, of the partition"
    7 REQUEST_TIMED_OUT retry "The request was not finished in time"
    8 BROKER_NOT_AVAILABLE fatal "The broker is not available"
    9 REPLICA_NOT_AVAILABLE retry "The replica is not available"
    10 MESSAGE_TOO_LARGE fatal "The batch is larger than max.message.bytes"
    11 STALE_CONTROLLER_EPOCH fatal "The controller has moved to another broker"
    12 OFFSET_METADATA_TOO_LARGE fatal "The metadata of the committed offset is larger than offset.metadata.max.bytes"
    13 NETWORK_EXCEPTION retry "The connection was lost before an answer came"
    14 COORDINATOR_LOAD_IN_PROGRESS retry "The coordinator is still loading its state"
    15 COORDINATOR_NOT_AVAILABLE retry "The coordinator is not available"
    16 NOT_COORDINATOR retry "This broker is not the coordinator"
    17 INVALID_TOPIC_EXCEPTION fatal "The topic name is not valid, or the topic is internal"
    18 RECORD_LIST_TOO_LARGE fatal "The batch is larger than a segment of the log"
    19 NOT_ENOUGH_REPLICAS retry "Fewer replicas are in sync than min.insync.replicas demands"
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND retry "The records were written, but fewer replicas are in sync than min.insync.replicas demands"
    21 INVALID_REQUIRED_ACKS fatal "acks must be -1, 0 or 1"
    22 ILLEGAL_GENERATION fatal "The generation is not the group's current one"
    23 INCONSISTENT_GROUP_PROTOCOL fatal "The member's protocols do not fit those of the group"
    24 INVALID_GROUP_ID fatal "The group id is not valid"
    25 UNKNOWN_MEMBER_ID fatal "The coordinator does not know the member"
    26 INVALID_SESSION_TIMEOUT fatal "The session timeout lies outside the range that the broker allows"
    27 REBALANCE_IN_PROGRESS fatal "The group is rebalancing; the member must join again"
    28 INVALID_COMMIT_OFFSET_SIZE fatal "The committed offset data has an invalid size"
    29 TOPIC_AUTHORIZATION_FAILED fatal "Not authorized for the topic"
    30 GROUP_AUTHORIZATION_FAILED fatal "Not authorized for the group"
    31 CLUSTER_AUTHORIZATION_FAILED fatal "Not authorized for the cluster"
    32 INVALID_TIMESTAMP fatal "The timestamp of a record lies outside the accepted range"
    33 UNSUPPORTED_SASL_MECHANISM fatal "The SASL mechanism is not supported"
    34 ILLEGAL_SASL_STATE fatal "The request does not fit the state of the SASL handshake"
    35 UNSUPPORTED_VERSION fatal "The version of the API is not supported"
    36 TOPIC_ALREADY_EXISTS fatal "The topic exists already"
    37 INVALID_PARTITIONS fatal "The number of partitions is not valid"
    38 INVALID_REPLICATION_FACTOR fatal "The replication factor is not valid, or larger than the number of available brokers"
    39 INVALID_REPLICA_ASSIGNMENT fatal "The assignment of replicas is not valid"
    40 INVALID_CONFIG fatal "The configuration is not valid"
    41 NOT_CONTROLLER retry "This node is not the active controller"
    42 INVALID_REQUEST fatal "The request is malformed or contradicts itself"
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT fatal "The message format of the broker cannot do this"
    44 POLICY_VIOLATION fatal "The request breaks a policy"
    45 OUT_OF_ORDER_SEQUENCE_NUMBER fatal "The sequence number does not follow the last one of the producer"
    46 DUPLICATE_SEQUENCE_NUMBER fatal "The sequence number was used before"
    47 INVALID_PRODUCER_EPOCH fatal "The producer's epoch is older than the current one"
    48 INVALID_TXN_STATE fatal "The operation does not fit the state of the transaction"
    49 INVALID_PRODUCER_ID_MAPPING fatal "The producer id does not belong to the transactional id"
    50 INVALID_TRANSACTION_TIMEOUT fatal "The transaction timeout is larger than transaction.max.timeout.ms"
    51 CONCURRENT_TRANSACTIONS retry "Another operation of the same transaction is still in progress"
    52 TRANSACTION_COORDINATOR_FENCED fatal "The transaction coordinator was replaced by a newer one"
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED fatal "Not authorized for the transactional id"
    54 SECURITY_DISABLED fatal "Security features are disabled"
    55 OPERATION_NOT_ATTEMPTED fatal "The operation was not attempted, since another part of the request failed"
    56 KAFKA_STORAGE_ERROR retry "The log directory failed, the partition is offline"
    57 LOG_DIR_NOT_FOUND fatal "The log directory does not exist on this broker"
    58 SASL_AUTHENTICATION_FAILED fatal "Authentication failed"
    59 UNKNOWN_PRODUCER_ID fatal "The producer id is not known to the partition"
    60 REASSIGNMENT_IN_PROGRESS fatal "A reassignment of the partition is in progress"
    61 DELEGATION_TOKEN_AUTH_DISABLED fatal "Delegation tokens are not enabled"
    62 DELEGATION_TOKEN_NOT_FOUND fatal "The delegation token does not exist"
    63 DELEGATION_TOKEN_OWNER_MISMATCH fatal "The delegation token belongs to somebody else"
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED fatal "Delegation tokens may not be requested on this connection"
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED fatal "Not authorized for the delegation token"
    66 DELEGATION_TOKEN_EXPIRED fatal "The delegation token has expired"
    67 INVALID_PRINCIPAL_TYPE fatal "The type of the principal is not supported"
    68 NON_EMPTY_GROUP fatal "The group is not empty"
    69 GROUP_ID_NOT_FOUND fatal "The group does not exist"
    70 FETCH_SESSION_ID_NOT_FOUND retry "The fetch session does not exist"
    71 INVALID_FETCH_SESSION_EPOCH retry "The epoch of the fetch session is not the expected one"
    72 LISTENER_NOT_FOUND retry "The leader has no listener of the name over which the request came"
    73 TOPIC_DELETION_DISABLED fatal "Deleting topics is disabled"
    74 FENCED_LEADER_EPOCH retry "The leader epoch of the request is older than the broker's"
    75 UNKNOWN_LEADER_EPOCH retry "The leader epoch of the request is newer than the broker's"
    76 UNSUPPORTED_COMPRESSION_TYPE fatal "The compression type is not supported by this version of the API"
    77 STALE_BROKER_EPOCH fatal "The broker epoch is outdated"
    78 OFFSET_NOT_AVAILABLE retry "The leader does not yet know its high watermark"
    79 MEMBER_ID_REQUIRED fatal "The member must join again with the id it was given"
    80 PREFERRED_LEADER_NOT_AVAILABLE retry "The preferred leader is not available"
    81 GROUP_MAX_SIZE_REACHED fatal "The group has as many members as it may have"
    82 FENCED_INSTANCE_ID fatal "Another member has taken over the group instance id"
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE retry "No eligible leader is available"
    84 ELECTION_NOT_NEEDED retry "The partition needs no election"
    85 NO_REASSIGNMENT_IN_PROGRESS fatal "No reassignment of the partition is in progress"
    86 GROUP_SUBSCRIBED_TO_TOPIC fatal "The group is subscribed to the topic"
    87 INVALID_RECORD fatal "A record breaks a rule of the broker"
    88 UNSTABLE_OFFSET_COMMIT retry "Offsets of an open transaction are not decided yet"
    89 THROTTLING_QUOTA_EXCEEDED retry "The quota of changes to the cluster is used up"
    90 PRODUCER_FENCED fatal "A newer producer with the same transactional id has taken over"
    91 RESOURCE_NOT_FOUND fatal "The resource does not exist"
    92 DUPLICATE_RESOURCE fatal "The resource is named twice"
    93 UNACCEPTABLE_CREDENTIAL fatal "The credential does not meet the requirements"
    94 INCONSISTENT_VOTER_SET fatal "The voter sets of sender and receiver differ"
    95 INVALID_UPDATE_VERSION fatal "The feature level is not valid"
    96 FEATURE_UPDATE_FAILED fatal "The feature could not be updated"
    97 PRINCIPAL_DESERIALIZATION_FAILURE fatal "The forwarded principal cannot be read"
    98 SNAPSHOT_NOT_FOUND fatal "The snapshot does not exist"
    99 POSITION_OUT_OF_RANGE fatal "The position lies outside the snapshot"
    100 UNKNOWN_TOPIC_ID retry "This broker does not know the topic id"
    101 DUPLICATE_BROKER_REGISTRATION fatal "The node id is registered already and its session is alive"
    102 BROKER_ID_NOT_REGISTERED fatal "The broker is not registered"
    103 INCONSISTENT_TOPIC_ID retry "The topic id of the log and of the request differ"
    104 INCONSISTENT_CLUSTER_ID fatal "The cluster ids of sender and receiver differ"
    105 TRANSACTIONAL_ID_NOT_FOUND fatal "The transactional id does not exist"
    106 FETCH_SESSION_TOPIC_ID_ERROR retry "The topic ids of the fetch session and of the request do not fit"
    107 INELIGIBLE_REPLICA fatal "The new in-sync replica set has a replica that may not be in it"
    108 NEW_LEADER_ELECTED fatal "A new leader was elected by this change"
    109 OFFSET_MOVED_TO_TIERED_STORAGE fatal "The offset has moved to tiered storage"
    110 FENCED_MEMBER_EPOCH fatal "The member epoch is not the current one, the member must join again"
    111 UNRELEASED_INSTANCE_ID fatal "The group instance id is still held by a living member"
    112 UNSUPPORTED_ASSIGNOR fatal "The server-side assignor is not supported"
    113 STALE_MEMBER_EPOCH fatal "The member epoch is outdated, the request may be tried again with the new one"
    114 MISMATCHED_ENDPOINT_TYPE fatal "The request came to the wrong type of endpoint"
    115 UNSUPPORTED_ENDPOINT_TYPE fatal "This type of endpoint is not known"
    116 UNKNOWN_CONTROLLER_ID fatal "The controller id is not known"
    117 UNKNOWN_SUBSCRIPTION_ID fatal "The telemetry subscription is not known"
    118 TELEMETRY_TOO_LARGE fatal "The telemetry payload is larger than telemetry.max.bytes"
    119 INVALID_REGISTRATION fatal "The registration is not valid"
    120 TRANSACTION_ABORTABLE fatal "The transaction must be aborted, then the producer may go on"
    121 INVALID_RECORD_STATE fatal "The record is not in a state that allows this"
    122 SHARE_SESSION_NOT_FOUND retry "The share session does not exist"
    123 INVALID_SHARE_SESSION_EPOCH retry "The epoch of the share session is not the expected one"
    124 FENCED_STATE_EPOCH fatal "The state epoch is outdated"
    125 INVALID_VOTER_KEY fatal "The voter key does not belong to this node"
    126 DUPLICATE_VOTER fatal "The voter is a voter already"
    127 VOTER_NOT_FOUND fatal "The voter does not exist"
    128 INVALID_REGULAR_EXPRESSION fatal "The regular expression is not valid"
    129 REBOOTSTRAP_REQUIRED fatal "The client should start again from its bootstrap servers"
    130 STREAMS_INVALID_TOPOLOGY fatal "The streams topology is not valid"
    131 STREAMS_INVALID_TOPOLOGY_EPOCH fatal "The epoch of the streams topology is not the expected one"
    132 STREAMS_TOPOLOGY_FENCED fatal "The member's streams topology is outdated"
    133 SHARE_SESSION_LIMIT_REACHED retry "The broker has as many share sessions as it may have"
}

impl ErrorCode {
    /// Wraps a number from the wire.
    pub const fn new(code: i16) -> Self {
        Self(code)
    }

    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self.0
    }

    /// Whether this is [`ErrorCode::NONE`].
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// Whether this is anything but [`ErrorCode::NONE`].
    pub const fn is_err(self) -> bool {
        self.0 != 0
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        Self(code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name().unwrap_or("UNKNOWN"), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_kafka() {
        let kafkas = include_str!("../testdata/errors.tsv");
        let ours = |error: &ErrorCode| {
            let name = error.name().unwrap_or_default();
            format!("{}\t{name}\t{}", error.code(), error.is_retriable())
        };
        let kafkas: Vec<_> = kafkas.lines().filter(|l| !l.starts_with('#')).collect();
        let ours: Vec<_> = ErrorCode::ALL.iter().map(ours).collect();
        assert_eq!(ours, kafkas);
    }

    #[test]
    fn an_unknown_code_survives() {
        assert_eq!(ErrorCode::new(999).code(), 999);
        assert_eq!(ErrorCode::new(999).to_string(), "UNKNOWN (999)");
        assert!(!ErrorCode::new(999).is_retriable());
    }
}
