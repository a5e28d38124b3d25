//! The list of the messages that are no requests or responses.

/// Calls a generic function for every message that is not a request or response:
/// `each_record!(check, context)` calls `check::<M>(context, set)` with the folder of its vectors.
/// This is the list: a new struct in `records/` gets its name here.
macro_rules! each_record {
    ($check:ident, $context:expr) => {
        each_record!(@list $check $context;
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
            (transaction) records::transaction: TransactionLogKey TransactionLogValue,
            (share) records::share:
                ShareSnapshotKey ShareSnapshotValue ShareUpdateKey ShareUpdateValue,
            (raft) records::raft: QuorumState,
            (storage) records::storage:
                ProducerSnapshot RemoteLogSegmentMetadataRecord
                RemoteLogSegmentMetadataSnapshotRecord RemoteLogSegmentMetadataUpdateRecord
                RemotePartitionDeleteMetadataRecord,
            (common) records::principal: DefaultPrincipal,
            (common) records::control:
                ControlRecordTypeSchema EndTxnMarker LeaderChangeMessage SnapshotHeaderRecord SnapshotFooterRecord
                KRaftVersionRecord VotersRecord,
            (common) records::consumer_protocol:
                ConsumerProtocolSubscription ConsumerProtocolAssignment,
        );
    };
    (@list $check:ident $context:expr;
        $(($set:ident) $($module:ident)::+: $($message:ident)*,)*
    ) => {
        $(each_record!(@module $check $context; $set ($($module)::+) $($message)*);)*
    };
    (@module $check:ident $context:expr; $set:ident $module:tt $($message:ident)*) => {
        $(each_record!(@one $check $context; $set $module $message);)*
    };
    (@one $check:ident $context:expr; $set:ident ($($module:ident)::+) $message:ident) => {
        $check::<tidelog_protocol::$($module)::+::$message>($context, &[stringify!($set)]);
    };
}
