//! What the derive promises, shown on real messages.

use bytes::Bytes;
use tidelog_protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use tidelog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use tidelog_protocol::{Chunk, EncodeErrorKind, Message, Payload, Reader, Writer, encode_response};
use tidelog_types::{NodeId, Offset};

#[test]
fn what_a_version_cannot_carry_and_must_not_lose_is_an_error() {
    let request = HeartbeatRequest {
        group_instance_id: Some("i".into()),
        ..Default::default()
    };
    let error = request.to_bytes(2).unwrap_err();
    assert_eq!(error.kind(), EncodeErrorKind::NotCarried { version: 2 });
    assert_eq!(error.field(), ("HeartbeatRequest", "group_instance_id"));
    assert_eq!(
        error.to_string(),
        "HeartbeatRequest.group_instance_id: version 2 has no place for it"
    );
    request.to_bytes(3).unwrap();
}

#[test]
fn null_is_an_error_where_it_cannot_be_said() {
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert_eq!(
        all.to_bytes(0).unwrap_err().kind(),
        EncodeErrorKind::Null { version: 0 }
    );
    assert_eq!(all.to_bytes(1).unwrap(), &[0xff; 4][..]);

    let nameless = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic::default()]),
        ..Default::default()
    };
    let error = nameless.to_bytes(9).unwrap_err();
    assert_eq!(error.field(), ("MetadataRequestTopic", "name"));
    nameless.to_bytes(10).unwrap();
}

#[test]
fn a_decode_error_names_the_field_and_the_place() {
    // A group id of one byte, a generation of which two bytes are missing.
    let error =
        HeartbeatRequest::from_bytes(Bytes::from_static(&[0, 1, b'g', 0, 0]), 0).unwrap_err();
    assert_eq!(error.field(), ("HeartbeatRequest", "generation_id"));
    assert_eq!(error.position(), 3);
    assert_eq!(
        error.to_string(),
        "HeartbeatRequest.generation_id: the bytes end 2 too early (at byte 3)"
    );
}

#[test]
fn defaults_are_kafkas() {
    let partition = PartitionData::default();
    assert_eq!(partition.last_stable_offset, Offset::NONE);
    assert_eq!(partition.preferred_read_replica, NodeId::NONE);
    assert!(MetadataRequest::default().allow_auto_topic_creation);
}

fn response(records: Payload) -> FetchResponse {
    let partition = |index, records| PartitionData {
        partition_index: index,
        records: Some(records),
        ..Default::default()
    };
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: "t".into(),
            partitions: vec![partition(0, records), partition(1, Payload::default())],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn records_in_a_file_are_left_out_and_counted() {
    let records = Bytes::from(vec![7; 5000]);
    for version in FetchResponse::VERSIONS.iter() {
        let mut writer = Writer::new();
        let response_in_memory = response(records.clone().into());
        encode_response(&mut writer, version, 1, &response_in_memory).unwrap();
        let whole = writer.finish_contiguous().unwrap();

        let deferred = response(Payload::Deferred {
            len: 5000,
            token: 42,
        });
        encode_response(&mut writer, version, 1, &deferred).unwrap();
        let mut filled = Vec::new();
        for chunk in writer.finish() {
            match chunk {
                Chunk::Bytes(bytes) => filled.extend_from_slice(&bytes),
                Chunk::Deferred { len, token } => {
                    assert_eq!((len, token), (5000, 42));
                    filled.extend_from_slice(&records);
                }
            }
        }
        assert_eq!(filled, whole, "version {version}");
    }
}

#[test]
fn records_are_slices_on_the_way_in_and_out() {
    let records = Bytes::from(vec![7; 5000]);
    let request = ProduceRequest {
        topic_data: vec![TopicProduceData {
            name: "t".into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(records.clone()),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut writer = Writer::new();
    request.write(&mut writer, 9).unwrap();
    let chunks = writer.finish();
    assert!(matches!(&chunks[1], Chunk::Bytes(bytes) if bytes.as_ptr() == records.as_ptr()));

    let body = request.to_bytes(9).unwrap();
    let read = ProduceRequest::read(&mut Reader::new(body.clone()), 9).unwrap();
    let slice = read.topic_data[0].partition_data[0]
        .records
        .as_ref()
        .unwrap();
    assert!(body.as_ptr_range().contains(&slice.as_ptr()));
    assert_eq!(read, request);
}
