use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use tidelog_record::control::{ControlType, EndTxnMarker, TransactionResult};
use tidelog_record::crc::crc32c;
use tidelog_record::{Batch, BatchError, BatchHeader};
use tidelog_types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::error::LogError;
use crate::transactions::AbortedTransaction;

/// How many batches of a producer are remembered to recognize one that is sent again (KIP-98).
const BATCHES_MAX: usize = 5;

/// From this level of transaction.version on each transaction of a producer has an epoch of its own, and the marker that ends it
/// has the next one (KIP-890).
pub const EPOCH_PER_TRANSACTION_VERSION: i8 = 2;

/// A batch of an idempotent producer, as far as it is needed to recognize it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The sequence number of the last record.
    pub last_sequence: i32,
    /// The offset of the last record.
    pub last_offset: Offset,
    /// The last offset less the first one.
    pub offset_delta: i32,
    /// The largest timestamp.
    pub timestamp: Timestamp,
}

impl ProducerBatch {
    /// The offset of the first record.
    pub fn base_offset(&self) -> Offset {
        self.last_offset + -i64::from(self.offset_delta)
    }

    /// The sequence number of the first record; they go from `i32::MAX` on to 0.
    pub const fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

impl From<&BatchHeader> for ProducerBatch {
    fn from(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        }
    }
}

/// What a log knows about a producer that wrote to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// The incarnation that wrote last.
    pub producer_epoch: ProducerEpoch,
    /// The epoch of the coordinator that ended its last transaction, -1 if none did.
    pub coordinator_epoch: i32,
    /// The largest timestamp of its last batch.
    pub last_timestamp: Timestamp,
    /// Where its open transaction begins.
    pub current_txn_first_offset: Option<Offset>,
    /// Its last batches of this epoch, oldest first.
    pub batches: VecDeque<ProducerBatch>,
}

impl Default for ProducerState {
    fn default() -> Self {
        Self {
            producer_epoch: ProducerEpoch::NONE,
            coordinator_epoch: -1,
            last_timestamp: Timestamp::NONE,
            current_txn_first_offset: None,
            batches: VecDeque::new(),
        }
    }
}

impl ProducerState {
    /// The sequence number of the last record, -1 if it wrote none in this epoch.
    pub fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |batch| batch.last_sequence)
    }

    /// Whether a marker of that epoch ends the transaction that is open, or one of before (KIP-1228).
    ///
    /// From transaction.version 2 on the marker of each transaction has an epoch of its own, which is that of the next one.
    /// So one of an epoch that has written already is late: the same marker once more, which does no harm as long as nothing
    /// is open, or one that must not end what has begun since.
    pub fn takes_marker(&self, epoch: ProducerEpoch, transaction_version: i8) -> bool {
        if transaction_version < EPOCH_PER_TRANSACTION_VERSION || epoch > self.producer_epoch {
            return epoch >= self.producer_epoch;
        }
        let is_last = epoch == ProducerEpoch::new(i16::MAX);
        epoch == self.producer_epoch && (self.current_txn_first_offset.is_none() || is_last)
    }

    fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if self.producer_epoch != epoch {
            self.batches.clear();
            self.producer_epoch = epoch;
        }
    }

    fn is_expired(&self, now: Timestamp, expiration_ms: i64) -> bool {
        self.current_txn_first_offset.is_none()
            && now.millis_since(self.last_timestamp) >= expiration_ms
    }
}

/// The producers of one log and their transactions.
///
/// It is a function of the log up to `end`: the same whether built by appending, by replaying, or by a snapshot and a
/// replay of the rest; but a snapshot keeps only the last batch of a producer. Where an earlier one is asked for, the log
/// is read for it, see [`look_back`](Self::look_back).
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    states: HashMap<ProducerId, ProducerState>,
    /// Open transactions: first offset and producer.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// Transactions whose marker may not be below the high watermark yet: first offset and marker.
    unreplicated: BTreeMap<Offset, Offset>,
    /// Up to where the log is reflected.
    end: Offset,
    /// Where the snapshot ends that this began with.
    restored_until: Offset,
    /// The producers for whose earlier batches the log was read since.
    looked_back: HashSet<ProducerId>,
}

/// The marker in a control batch; `None` if it is of another kind.
pub(crate) fn marker_of(batch: &Batch) -> Result<Option<(EndTxnMarker, Timestamp)>, BatchError> {
    if !batch.header().attributes.is_control() || !batch.header().has_producer_id() {
        return Ok(None);
    }
    let malformed = |source| BatchError::Record { index: 0, source };
    let mut walk = batch.walk()?;
    let Some(record) = walk.next_record()? else {
        return Ok(None);
    };
    let control_type =
        ControlType::decode_key(record.key.unwrap_or_default()).map_err(malformed)?;
    let marker = EndTxnMarker::decode(control_type, record.value.unwrap_or_default());
    Ok(marker
        .map_err(malformed)?
        .map(|marker| (marker, record.timestamp)))
}

impl Producers {
    pub(crate) fn starting_at(offset: Offset) -> Self {
        Self {
            end: offset,
            ..Self::default()
        }
    }

    /// Up to where the log is reflected.
    pub(crate) const fn end(&self) -> Offset {
        self.end
    }

    pub(crate) fn states(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.states.iter().map(|(id, state)| (*id, state))
    }

    pub(crate) fn state(&self, id: ProducerId) -> Option<&ProducerState> {
        self.states.get(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether a client's batch may be appended. Answers the batch it repeats, if it does.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Option<ProducerBatch>, LogError> {
        let producer_id = header.producer_id;
        let Some(state) = self.states.get(&producer_id) else {
            return Ok(None);
        };
        let (epoch, sequence) = (header.producer_epoch, header.base_sequence);
        if epoch == state.producer_epoch {
            let repeated = state.batches.iter().find(|batch| {
                batch.first_sequence() == sequence && batch.last_sequence == header.last_sequence()
            });
            if let Some(batch) = repeated {
                return Ok(Some(*batch));
            }
        }
        check_epoch(state, header)?;
        // After i32::MAX comes 0, and 0 comes first in every epoch.
        let expected = match state.last_sequence() {
            last if epoch == state.producer_epoch => last.wrapping_add(1) & i32::MAX,
            _ => 0,
        };
        let first_ever = state.producer_epoch == ProducerEpoch::NONE;
        if sequence != expected && !first_ever {
            return Err(LogError::OutOfOrderSequence {
                producer_id,
                epoch,
                sequence,
                expected,
            });
        }
        match state.current_txn_first_offset {
            Some(first_offset) if !header.attributes.is_transactional() => {
                Err(LogError::InvalidTxnState {
                    producer_id,
                    first_offset,
                })
            }
            _ => Ok(None),
        }
    }

    /// Where the log may have batches that came before those that are remembered of a producer, of which one may be what
    /// `header` repeats. Answers so once for each producer: whoever asks reads what lies before that offset, and
    /// [recalls](Self::recall) what it finds.
    pub(crate) fn look_back(&mut self, header: &BatchHeader) -> Option<Offset> {
        let state = self.states.get(&header.producer_id)?;
        let oldest = state.batches.front()?;
        let is_remembered_from_snapshot = oldest.last_offset < self.restored_until;
        // Half of all sequence numbers come before, the others after.
        let distance = oldest.first_sequence().wrapping_sub(header.base_sequence) & i32::MAX;
        let comes_before = distance > 0 && distance <= i32::MAX / 2;
        let may_repeat = header.producer_epoch == state.producer_epoch
            && is_remembered_from_snapshot
            && state.batches.len() < BATCHES_MAX
            && comes_before;
        (may_repeat && self.looked_back.insert(header.producer_id)).then(|| oldest.base_offset())
    }

    /// Remembers the batches, oldest first, that come before those which are remembered of this producer.
    pub(crate) fn recall(&mut self, producer_id: ProducerId, earlier: &[BatchHeader]) {
        let Some(state) = self.states.get_mut(&producer_id) else {
            return;
        };
        for header in earlier.iter().rev() {
            if state.batches.len() == BATCHES_MAX {
                break;
            }
            state.batches.push_front(ProducerBatch::from(header));
        }
    }

    /// Whether a coordinator's marker may be appended.
    pub(crate) fn check_marker(
        &self,
        header: &BatchHeader,
        marker: EndTxnMarker,
    ) -> Result<(), LogError> {
        let Some(state) = self.states.get(&header.producer_id) else {
            return Ok(());
        };
        check_epoch(state, header)?;
        if marker.coordinator_epoch < state.coordinator_epoch {
            return Err(LogError::CoordinatorFenced {
                producer_id: header.producer_id,
                epoch: marker.coordinator_epoch,
                latest: state.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// Takes in a batch that stands in the log now. Answers the transaction that it aborts.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        marker: Option<(EndTxnMarker, Timestamp)>,
    ) -> Option<AbortedTransaction> {
        self.end = header.next_offset();
        if !header.has_producer_id() {
            return None;
        }
        if header.attributes.is_control() {
            let (marker, timestamp) = marker?;
            return self.end_transaction(header, marker, timestamp);
        }
        let state = self.states.entry(header.producer_id).or_default();
        state.set_epoch(header.producer_epoch);
        if state.batches.len() == BATCHES_MAX {
            state.batches.pop_front();
        }
        state.batches.push_back(ProducerBatch::from(header));
        state.last_timestamp = header.max_timestamp;
        if header.attributes.is_transactional() && state.current_txn_first_offset.is_none() {
            state.current_txn_first_offset = Some(header.base_offset);
            self.ongoing.insert(header.base_offset, header.producer_id);
        }
        None
    }

    fn end_transaction(
        &mut self,
        header: &BatchHeader,
        marker: EndTxnMarker,
        timestamp: Timestamp,
    ) -> Option<AbortedTransaction> {
        let state = self.states.entry(header.producer_id).or_default();
        state.set_epoch(header.producer_epoch);
        state.coordinator_epoch = marker.coordinator_epoch;
        state.last_timestamp = timestamp;
        let first_offset = state.current_txn_first_offset.take()?;
        let last_offset = header.base_offset;
        self.ongoing.remove(&first_offset);
        self.unreplicated.insert(first_offset, last_offset);
        (marker.result == TransactionResult::Abort).then(|| AbortedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset,
            last_stable_offset: self.first_ongoing().unwrap_or_else(|| last_offset.next()),
        })
    }

    /// Whether no transaction ended at the high watermark or behind it.
    pub(crate) fn is_decided(&mut self, high_watermark: Offset) -> bool {
        self.first_unstable(high_watermark) == self.first_ongoing() && self.unreplicated.is_empty()
    }

    /// Where the oldest open transaction begins.
    pub(crate) fn first_ongoing(&self) -> Option<Offset> {
        self.ongoing.keys().next().copied()
    }

    /// The first offset of a transaction that is open, or whose end is not below the high watermark.
    pub(crate) fn first_unstable(&mut self, high_watermark: Offset) -> Option<Offset> {
        self.unreplicated
            .retain(|_, marker| *marker >= high_watermark);
        let unreplicated = self.unreplicated.keys().next().copied();
        match (unreplicated, self.first_ongoing()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Forgets the producers that have been idle too long.
    pub(crate) fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        self.states
            .retain(|_, state| !state.is_expired(now, expiration_ms));
        let states = &self.states;
        self.looked_back.retain(|id| states.contains_key(id));
    }

    /// Notes that the log begins at `offset` now.
    pub(crate) fn advance_log_start(&mut self, offset: Offset) {
        self.unreplicated.retain(|_, marker| *marker >= offset);
        self.end = self.end.max(offset);
    }

    /// The snapshot of the state as a file, see `docs/formats.md`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut states: Vec<_> = self.states.iter().collect();
        states.sort_unstable_by_key(|(id, _)| **id);
        let mut body = (states.len() as i32).to_be_bytes().to_vec();
        for (id, state) in states {
            let last = state.batches.back();
            body.extend_from_slice(&id.value().to_be_bytes());
            body.extend_from_slice(&state.producer_epoch.value().to_be_bytes());
            body.extend_from_slice(&state.last_sequence().to_be_bytes());
            let last_offset = last.map_or(Offset::NONE, |batch| batch.last_offset);
            body.extend_from_slice(&last_offset.value().to_be_bytes());
            body.extend_from_slice(&last.map_or(0, |batch| batch.offset_delta).to_be_bytes());
            body.extend_from_slice(&state.last_timestamp.as_millis().to_be_bytes());
            body.extend_from_slice(&state.coordinator_epoch.to_be_bytes());
            let first_offset = state.current_txn_first_offset.unwrap_or(Offset::NONE);
            body.extend_from_slice(&first_offset.value().to_be_bytes());
        }
        let mut out = SNAPSHOT_VERSION.to_be_bytes().to_vec();
        out.extend_from_slice(&crc32c(&body).to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// Reads the snapshot at `end`. The error says what is wrong with it.
    pub(crate) fn decode(bytes: &[u8], end: Offset) -> Result<Self, String> {
        let mut rest = bytes;
        let version = i16::from_be_bytes(take(&mut rest)?);
        if version != SNAPSHOT_VERSION {
            return Err(format!("version {version}, expected {SNAPSHOT_VERSION}"));
        }
        let (stored, computed) = (u32::from_be_bytes(take(&mut rest)?), crc32c(rest));
        if stored != computed {
            return Err(format!(
                "the CRC is {computed:08x}, the file says {stored:08x}"
            ));
        }
        let count = i32::from_be_bytes(take(&mut rest)?);
        let mut producers = Self::starting_at(end);
        producers.restored_until = end;
        for _ in 0..count {
            let id = ProducerId::new(i64::from_be_bytes(take(&mut rest)?));
            let producer_epoch = ProducerEpoch::new(i16::from_be_bytes(take(&mut rest)?));
            let last_sequence = i32::from_be_bytes(take(&mut rest)?);
            let last_offset = Offset::new(i64::from_be_bytes(take(&mut rest)?));
            let offset_delta = i32::from_be_bytes(take(&mut rest)?);
            let last_timestamp = Timestamp::from_millis(i64::from_be_bytes(take(&mut rest)?));
            let coordinator_epoch = i32::from_be_bytes(take(&mut rest)?);
            let first_offset = Offset::new(i64::from_be_bytes(take(&mut rest)?));
            let batch = ProducerBatch {
                last_sequence,
                last_offset,
                offset_delta,
                timestamp: last_timestamp,
            };
            let current_txn_first_offset = (first_offset >= Offset::ZERO).then_some(first_offset);
            if let Some(first_offset) = current_txn_first_offset {
                producers.ongoing.insert(first_offset, id);
            }
            let state = ProducerState {
                producer_epoch,
                coordinator_epoch,
                last_timestamp,
                current_txn_first_offset,
                batches: (last_offset >= Offset::ZERO)
                    .then_some(batch)
                    .into_iter()
                    .collect(),
            };
            producers.states.insert(id, state);
        }
        Ok(producers)
    }
}

const SNAPSHOT_VERSION: i16 = 1;

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], String> {
    let (front, rest) = bytes
        .split_first_chunk()
        .ok_or_else(|| "it ends too early".to_owned())?;
    *bytes = rest;
    Ok(*front)
}

fn check_epoch(state: &ProducerState, header: &BatchHeader) -> Result<(), LogError> {
    if header.producer_epoch < state.producer_epoch {
        return Err(LogError::InvalidProducerEpoch {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            latest: state.producer_epoch,
        });
    }
    Ok(())
}
