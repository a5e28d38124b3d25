//! Idempotent and transactional producers (KIP-98): what Kafka answers to each batch, and what survives a restart.

mod support;

use support::*;
use tidelog_log::testing::{Crash, FaultDir};
use tidelog_log::{Appended, Log, LogConfig, LogError, Start};
use tidelog_record::control::{EndTxnMarker, TransactionResult};
use tidelog_types::{ErrorCode, Offset, ProducerEpoch, ProducerId};

fn config() -> LogConfig {
    LogConfig {
        producer_id_expiration_ms: i64::MAX,
        ..LogConfig::default()
    }
}

fn new_log() -> (FaultDir, Log) {
    let dir = FaultDir::new();
    let (log, _) = open(&dir, &config(), Start::NEW);
    (dir, log)
}

fn send(
    log: &mut Log,
    producer_epoch: i16,
    sequence: i32,
    records: usize,
) -> Result<Appended, LogError> {
    let batch = idempotent(7, producer_epoch, sequence, records);
    log.append_as_leader(&batch, epoch(0), now().timestamp)
}

fn refused(result: Result<Appended, LogError>) -> ErrorCode {
    result.unwrap_err().error_code()
}

fn transactional(producer: i64, sequence: i32, records: usize) -> tidelog_record::Batch {
    let mut builder = producer_builder(producer, 0, sequence).transactional(true);
    push(&mut builder, &vec![1000; records], 10);
    builder.build().unwrap()
}

fn end_txn(
    log: &mut Log,
    producer: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
    result: TransactionResult,
) -> Result<Appended, LogError> {
    let marker = EndTxnMarker {
        result,
        coordinator_epoch,
    };
    let (id, e) = (
        ProducerId::new(producer),
        ProducerEpoch::new(producer_epoch),
    );
    log.append_as_leader(
        &marker.batch(id, e, now().timestamp),
        epoch(0),
        now().timestamp,
    )
}

#[test]
fn any_of_the_last_five_batches_may_be_sent_again() {
    let (_, mut log) = new_log();
    for i in 0..7 {
        send(&mut log, 0, i * 2, 2).unwrap();
    }
    for i in 2..7 {
        let again = send(&mut log, 0, i * 2, 2).unwrap();
        assert!(again.duplicate);
        assert_eq!(
            again.base_offset,
            offset(i64::from(i) * 2),
            "the first answer again"
        );
        assert_eq!(
            again.log_append_time,
            millis(1000),
            "with the timestamp of the batch"
        );
        assert_eq!(again.end.offset, offset(14), "and nothing appended");
    }
    let sixth_oldest = refused(send(&mut log, 0, 2, 2));
    assert_eq!(sixth_oldest, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    // The same first sequence with another number of records is another batch.
    assert_eq!(
        refused(send(&mut log, 0, 12, 1)),
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
    );
}

/// A snapshot of the producers remembers the last batch of each (that is Kafka's format); the log remembers them all.
#[test]
fn any_of_the_last_five_batches_may_be_sent_again_after_a_restart() {
    let (dir, mut log) = new_log();
    for i in 0..7 {
        send(&mut log, 0, i * 2, 2).unwrap();
        // Another producer's batches lie between.
        let other = idempotent(8, 0, i, 1);
        log.append_as_leader(&other, epoch(0), now().timestamp)
            .unwrap();
    }
    let reopened = |log: Log, dir: &FaultDir| {
        let recovery_point = { log }.close().unwrap().log_end_offset();
        let start = Start {
            recovery_point,
            ..Start::NEW
        };
        open(dir, &config(), start).0
    };
    let mut log = reopened(log, &dir);
    // What comes too late or too early is refused all the same, and does not stand in the way of what follows.
    let out_of_order = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
    assert_eq!(refused(send(&mut log, 0, 2, 2)), out_of_order);
    assert_eq!(refused(send(&mut log, 0, 16, 2)), out_of_order);
    for i in 2..7 {
        let again = send(&mut log, 0, i * 2, 2).unwrap();
        assert!(again.duplicate);
        assert_eq!(again.base_offset, offset(i64::from(i) * 3));
        assert_eq!(again.end.offset, offset(21), "and nothing appended");
    }
    // Once more, with one batch behind the snapshot.
    let mut log = reopened(log, &dir);
    send(&mut log, 0, 14, 2).unwrap();
    let oldest = send(&mut log, 0, 6, 2).unwrap();
    assert_eq!((oldest.duplicate, oldest.base_offset), (true, offset(9)));
    assert_eq!(refused(send(&mut log, 0, 4, 2)), out_of_order);
    // The batches of an earlier epoch are none of a later one.
    send(&mut log, 1, 0, 2).unwrap();
    let mut log = reopened(log, &dir);
    assert_eq!(refused(send(&mut log, 1, 12, 2)), out_of_order);
    assert!(send(&mut log, 1, 0, 2).unwrap().duplicate);
}

#[test]
fn a_gap_is_refused_and_an_unknown_producer_may_begin_anywhere() {
    let (_, mut log) = new_log();
    send(&mut log, 3, 1000, 5).unwrap();
    assert_eq!(
        refused(send(&mut log, 3, 1006, 1)),
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
    );
    send(&mut log, 3, 1005, 1).unwrap();
}

#[test]
fn sequences_go_from_the_largest_number_on_to_zero() {
    let (_, mut log) = new_log();
    send(&mut log, 0, i32::MAX - 1, 1).unwrap();
    // This batch has the sequences MAX and 0.
    let over = send(&mut log, 0, i32::MAX, 2).unwrap();
    send(&mut log, 0, 1, 1).unwrap();
    let again = send(&mut log, 0, i32::MAX, 2).unwrap();
    assert!(again.duplicate);
    assert_eq!(again.base_offset, over.base_offset);
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
    let (_, mut log) = new_log();
    send(&mut log, 0, 0, 1).unwrap();
    assert_eq!(
        refused(send(&mut log, 1, 1, 1)),
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
    );
    send(&mut log, 1, 0, 1).unwrap();
    assert_eq!(
        refused(send(&mut log, 0, 1, 1)),
        ErrorCode::INVALID_PRODUCER_EPOCH
    );
    // Also what the old epoch has sent before: its batches are forgotten.
    assert_eq!(
        refused(send(&mut log, 0, 0, 1)),
        ErrorCode::INVALID_PRODUCER_EPOCH
    );
}

#[test]
fn sequences_survive_restarts_clean_or_not() {
    for clean in [true, false] {
        let (dir, mut log) = new_log();
        send(&mut log, 0, 0, 3).unwrap();
        send(&mut log, 0, 3, 3).unwrap();
        flush(&mut log);
        let start = if clean {
            let recovery_point = log.close().unwrap().log_end_offset();
            Start {
                recovery_point,
                clean,
                ..Start::NEW
            }
        } else {
            drop(log);
            Start::NEW
        };
        dir.crash(Crash::LoseUnsynced);
        let (mut log, _) = open(&dir, &config(), start);
        let again = send(&mut log, 0, 3, 3).unwrap();
        assert!(again.duplicate);
        assert_eq!(again.base_offset, offset(3));
        send(&mut log, 0, 6, 1).unwrap();
    }
}

#[test]
fn an_idle_producer_is_forgotten_unless_its_transaction_is_open() {
    let dir = FaultDir::new();
    let config = LogConfig {
        producer_id_expiration_ms: 500,
        ..config()
    };
    let (mut log, _) = open(&dir, &config, Start::NEW);
    send(&mut log, 0, 0, 1).unwrap();
    log.append_as_leader(&transactional(8, 0, 1), epoch(0), now().timestamp)
        .unwrap();
    log.expire_producers(now());
    let left: Vec<_> = log.producers().unwrap().map(|(id, _)| id.value()).collect();
    assert_eq!(left, [8]);
    send(&mut log, 0, 99, 1).unwrap();
}

#[test]
fn the_last_stable_offset_waits_for_markers_and_for_the_high_watermark() {
    let (_, mut log) = new_log();
    let append = |log: &mut Log, batch| log.append_as_leader(&batch, epoch(0), now().timestamp);
    append(&mut log, batch(&[1000], 10)).unwrap();
    append(&mut log, transactional(1, 0, 2)).unwrap(); // 1, 2
    append(&mut log, transactional(2, 0, 1)).unwrap(); // 3
    assert_eq!(log.last_stable_offset(offset(4)), offset(1));
    end_txn(&mut log, 1, 0, 0, TransactionResult::Commit).unwrap(); // 4
    assert_eq!(
        log.last_stable_offset(offset(4)),
        offset(1),
        "the marker is not replicated"
    );
    assert_eq!(log.last_stable_offset(offset(5)), offset(3));
    end_txn(&mut log, 2, 0, 0, TransactionResult::Abort).unwrap(); // 5
    assert_eq!(log.last_stable_offset(offset(6)), offset(6));
    let aborted = log
        .reader()
        .aborted_between(Offset::ZERO, offset(6))
        .unwrap();
    assert_eq!(aborted.len(), 1);
    assert_eq!(
        (aborted[0].first_offset, aborted[0].last_offset),
        (offset(3), offset(5))
    );
    assert_eq!(aborted[0].last_stable_offset, offset(6));
    // A transaction goes on with the next sequence.
    append(&mut log, transactional(1, 2, 1)).unwrap();
    let plain = append(&mut log, idempotent(1, 0, 3, 1));
    assert_eq!(refused(plain), ErrorCode::INVALID_TXN_STATE);
}

#[test]
fn markers_of_old_coordinators_and_old_producers_are_refused() {
    let (_, mut log) = new_log();
    send(&mut log, 2, 0, 1).unwrap();
    end_txn(&mut log, 7, 2, 5, TransactionResult::Commit).unwrap();
    let fenced = end_txn(&mut log, 7, 2, 4, TransactionResult::Commit);
    assert_eq!(refused(fenced), ErrorCode::TRANSACTION_COORDINATOR_FENCED);
    let old = end_txn(&mut log, 7, 1, 5, TransactionResult::Commit);
    assert_eq!(refused(old), ErrorCode::INVALID_PRODUCER_EPOCH);
}

#[test]
fn aborted_transactions_survive_a_crash_and_a_truncation() {
    let (dir, mut log) = new_log();
    for i in 0..3 {
        log.append_as_leader(&transactional(1, i, 1), epoch(0), now().timestamp)
            .unwrap();
        end_txn(&mut log, 1, 0, 0, TransactionResult::Abort).unwrap();
        flush(&mut log);
    }
    drop(log);
    dir.crash(Crash::LoseUnsynced);
    // From a recovery point behind the first two on, and from the beginning.
    for recovery_point in [offset(4), Offset::ZERO] {
        let (log, _) = open(
            &dir,
            &config(),
            Start {
                recovery_point,
                ..Start::NEW
            },
        );
        let aborted = log
            .reader()
            .aborted_between(Offset::ZERO, offset(6))
            .unwrap();
        assert_eq!(
            aborted
                .iter()
                .map(|a| a.first_offset.value())
                .collect::<Vec<_>>(),
            [0, 2, 4]
        );
        drop(log);
        dir.crash(Crash::KeepAll);
    }
    let (mut log, _) = open(&dir, &config(), Start::NEW);
    log.truncate_to(offset(3), now()).unwrap();
    let aborted = log
        .reader()
        .aborted_between(Offset::ZERO, offset(6))
        .unwrap();
    assert_eq!(
        aborted
            .iter()
            .map(|a| a.first_offset.value())
            .collect::<Vec<_>>(),
        [0]
    );
    assert_eq!(
        log.last_stable_offset(offset(3)),
        offset(2),
        "the second one is open again"
    );
}

/// KIP-1228: from transaction.version 2 on a marker that comes late ends nothing that has begun since.
#[test]
fn a_late_marker_ends_no_later_transaction() {
    let (_, mut log) = new_log();
    let takes = |log: &mut Log, epoch: i16, version: i8| {
        let state = log.producer(ProducerId::new(7)).unwrap();
        state.is_none_or(|state| state.takes_marker(ProducerEpoch::new(epoch), version))
    };
    assert!(takes(&mut log, 0, 2), "nothing is known of the producer");
    let send = |log: &mut Log, epoch_of: i16, sequence: i32| {
        let mut builder = producer_builder(7, epoch_of, sequence).transactional(true);
        push(&mut builder, &[1000], 10);
        log.append_as_leader(&builder.build().unwrap(), epoch(0), now().timestamp)
            .unwrap();
    };
    send(&mut log, 0, 0);
    assert!(takes(&mut log, 0, 1), "an epoch may have many transactions");
    assert!(!takes(&mut log, 0, 2), "each transaction has an epoch");
    assert!(takes(&mut log, 1, 2));
    end_txn(&mut log, 7, 1, 0, TransactionResult::Commit).unwrap();
    assert!(takes(&mut log, 1, 2), "the same once more does no harm");
    assert!(!takes(&mut log, 0, 1) && !takes(&mut log, 0, 2));
    send(&mut log, 1, 0);
    assert!(!takes(&mut log, 1, 2), "late");
    assert!(takes(&mut log, 2, 2));
    send(&mut log, i16::MAX, 0);
    assert!(takes(&mut log, i16::MAX, 2), "there is no later epoch");
}
