//! The commit log without a broker: a write-ahead log for a program of your own.
//!
//! A table of account balances lives in memory. Every change is appended to a log and flushed before it counts, and after
//! the program has died the table is made again from the log. The files are Kafka's, so Kafka's tools can read them too.
//!
//! `cargo run --example write_ahead_log`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidelog_log::{FsDir, Log, LogConfig, Start};
use tidelog_record::{BatchBuilder, Codec};
use tidelog_types::{LeaderEpoch, Now, Timestamp};

/// Balances that survive a crash.
struct Accounts {
    log: Log,
    balances: BTreeMap<String, i64>,
}

impl Accounts {
    fn open(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let dir = Arc::new(FsDir::new(directory));
        // Nobody said that the log was closed cleanly, so its end is checked, and cut if the last append is torn.
        let (log, recovery) =
            Log::open(dir, "accounts-0", LogConfig::default(), Start::NEW, now())?;
        if recovery.cut_bytes > 0 {
            println!(
                "{} bytes of an unfinished append were cut off",
                recovery.cut_bytes
            );
        }
        let mut balances = BTreeMap::new();
        for batch in log
            .reader()
            .batches(log.log_start_offset(), log.log_end_offset())
        {
            for record in batch?.records()? {
                let record = record?;
                let account = String::from_utf8(record.key.unwrap_or_default().into())?;
                let change =
                    std::str::from_utf8(&record.value.unwrap_or_default())?.parse::<i64>()?;
                *balances.entry(account).or_default() += change;
            }
        }
        Ok(Self { log, balances })
    }

    /// Moves an amount: both changes or none, since a batch is appended as a whole.
    fn transfer(&mut self, from: &str, to: &str, amount: i64) -> Result<(), Box<dyn Error>> {
        let changes = [(from, -amount), (to, amount)];
        let now = now().timestamp;
        let mut builder = BatchBuilder::new(Codec::None.into());
        for (account, change) in changes {
            builder.push(
                now,
                Some(account.as_bytes()),
                Some(change.to_string().as_bytes()),
                &[],
            );
        }
        self.log
            .append_as_leader(&builder.build()?, LeaderEpoch::new(0), now)?;
        // The append is in the page cache. A server would let a flusher thread run this while more is appended, so that one
        // flush serves many; here one transfer waits for one flush.
        if let Some(flush) = self.log.begin_flush() {
            let result = flush.run();
            self.log.flush_finished(flush, result)?;
        }
        for (account, change) in changes {
            *self.balances.entry(account.to_owned()).or_default() += change;
        }
        Ok(())
    }
}

fn now() -> Now {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(since.as_millis() as i64),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;

    let mut accounts = Accounts::open(directory.path())?;
    accounts.transfer("bank", "ada", 100)?;
    accounts.transfer("ada", "grace", 30)?;
    let before = accounts.balances.clone();
    // The program dies: nothing is closed.
    drop(accounts);

    let accounts = Accounts::open(directory.path())?;
    assert_eq!(accounts.balances, before);
    println!("{} records in the log", accounts.log.log_end_offset());
    for (account, balance) in &accounts.balances {
        println!("{account}: {balance}");
    }
    Ok(())
}
