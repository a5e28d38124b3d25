//! An event store inside a program: what has happened to each order is appended to one log, and read back by offset, by time,
//! and from where a reader has stopped.
//!
//! One thread writes and the flusher's thread makes durable what it wrote, in groups. A projection reads beside it, and never
//! waits for the writer. Old events are dropped by deleting whole segments.
//!
//! `cargo run --example event_store`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tidelog_log::{FlushTarget, Flusher, FsDir, Log, LogConfig, LogReader, Start, Upkeep};
use tidelog_record::{BatchBuilder, Codec};
use tidelog_types::{LeaderEpoch, Now, Offset, Timestamp};

/// A log with the lock around it, which is held for moments only: never while the disk works.
struct Events {
    log: Mutex<Log>,
    /// Told up to where events are durable.
    durable: Sender<Offset>,
}

/// The store: events go in at one end, readers come and go.
struct EventStore {
    events: Arc<Events>,
    flusher: Flusher,
}

impl Events {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no thread panics with the lock")
    }
}

impl FlushTarget for Events {
    fn flush(&self) -> Option<Upkeep> {
        let pending = self.log().begin_flush()?;
        // The lock is free: more events are appended while the disk works, and the next flush serves all of them.
        let result = pending.run();
        match self.log().flush_finished(pending, result) {
            Ok(end) => drop(self.durable.send(end)),
            // From now on the log refuses every append, and says why.
            Err(error) => println!("the log failed: {error}"),
        }
        self.log().begin_upkeep()
    }
}

impl EventStore {
    fn open(directory: &Path, durable: Sender<Offset>) -> Result<Self, Box<dyn Error>> {
        let config = LogConfig {
            // Small segments, so that the example has several.
            segment_bytes: 1000,
            retention_ms: 24 * 60 * 60 * 1000,
            ..LogConfig::default()
        };
        let dir = Arc::new(FsDir::new(directory));
        let (log, _) = Log::open(dir, "orders-0", config, Start::NEW, at(0))?;
        Ok(Self {
            events: Arc::new(Events {
                log: Mutex::new(log),
                durable,
            }),
            flusher: Flusher::start("event-store")?,
        })
    }

    /// Appends what happened, all of it or nothing. It counts when the channel says that its offset is durable.
    fn append(
        &self,
        happened: Timestamp,
        events: &[(&str, &str)],
    ) -> Result<Offset, Box<dyn Error>> {
        let mut batch = BatchBuilder::new(Codec::None.into());
        for (order, event) in events {
            batch.push(
                happened,
                Some(order.as_bytes()),
                Some(event.as_bytes()),
                &[],
            );
        }
        let batch = batch.build()?;
        let appended = self
            .events
            .log()
            .append_as_leader(&batch, LeaderEpoch::new(0), happened)?;
        self.flusher.request(self.events.clone());
        Ok(appended.last_offset.next())
    }

    /// Readers share nothing with the writer but the files.
    fn reader(&self) -> LogReader {
        self.events.log().reader()
    }

    /// Deletes segments of which every event is older than a day.
    fn drop_old(&self, now: Now) -> Result<usize, Box<dyn Error>> {
        let mut log = self.events.log();
        let end = log.log_end_offset();
        let deleted = log.delete_old_segments(now, end)?;
        drop(log);
        let count = deleted.len();
        for segment in deleted {
            segment.remove()?;
        }
        Ok(count)
    }
}

/// The last event of each order: a view that can be built from any offset on, and goes on where it stopped.
#[derive(Default)]
struct Projection {
    next: Offset,
    orders: BTreeMap<String, String>,
}

impl Projection {
    fn catch_up(&mut self, reader: &LogReader, until: Offset) -> Result<(), Box<dyn Error>> {
        for batch in reader.batches(self.next, until) {
            let batch = batch?;
            for record in batch.records()? {
                let record = record?;
                let text = |bytes: Option<bytes::Bytes>| {
                    String::from_utf8(bytes.unwrap_or_default().into())
                };
                self.orders.insert(text(record.key)?, text(record.value)?);
            }
            self.next = batch.header().next_offset();
        }
        Ok(())
    }
}

/// A clock that the example sets.
fn at(hours: i64) -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(1_700_000_000_000 + hours * 60 * 60 * 1000),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (durable, is_durable) = mpsc::channel();
    let store = EventStore::open(directory.path(), durable)?;

    let mut end = Offset::ZERO;
    for hour in 0..48 {
        let order = format!("order-{}", hour % 3);
        let events = [(order.as_str(), "paid"), (order.as_str(), "shipped")];
        end = store.append(at(hour).timestamp, &events)?;
    }
    // Wait until the last of them is on the disk.
    while is_durable.recv()? < end {}
    println!("{end} events are durable");

    let reader = store.reader();
    let mut view = Projection::default();
    view.catch_up(&reader, end)?;
    println!(
        "orders: {}",
        view.orders.keys().cloned().collect::<Vec<_>>().join(", ")
    );

    let since = reader.offset_for_timestamp(at(40).timestamp, end)?;
    println!(
        "since hour 40: from offset {}",
        since.map_or(end, |found| found.offset)
    );
    let newest = reader.max_timestamp(end)?;
    println!(
        "the newest event is at offset {}",
        newest.map_or(end, |found| found.offset)
    );

    let end = store.append(at(48).timestamp, &[("order-1", "returned")])?;
    view.catch_up(&reader, end)?;
    println!("order-1 was {}", view.orders["order-1"]);

    let deleted = store.drop_old(at(48))?;
    let begins = reader.log_start_offset();
    println!("{deleted} segments deleted, the store begins at offset {begins}");
    Ok(())
}
