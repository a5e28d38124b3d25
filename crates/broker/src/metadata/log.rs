//! The log of the metadata quorum, `__cluster_metadata-0`.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use parking_lot::Mutex;
use tidelog_log::{FlushTarget, Flusher, Log, Upkeep};

use super::Command;

/// The metadata log: its thread appends, the flusher of its directory flushes.
pub(super) struct MetadataLog {
    log: Mutex<Log>,
    flusher: Arc<Flusher>,
    commands: Sender<Command>,
}

impl MetadataLog {
    pub(super) fn new(log: Log, flusher: Arc<Flusher>, commands: Sender<Command>) -> Arc<Self> {
        Arc::new(Self {
            log: Mutex::new(log),
            flusher,
            commands,
        })
    }

    /// Runs `change` on the log.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut Log) -> R) -> R {
        change(&mut self.log.lock())
    }

    /// Asks for a flush; [`Command::Flushed`] tells of its end.
    pub(super) fn request_flush(self: &Arc<Self>) {
        self.flusher
            .request(Arc::clone(self) as Arc<dyn FlushTarget>);
    }
}

impl FlushTarget for MetadataLog {
    fn flush(&self) -> Option<Upkeep> {
        let pending = self.log.lock().begin_flush()?;
        let result = pending.run();
        let flushed = self
            .log
            .lock()
            .flush_finished(pending, result)
            .map_err(|e| e.to_string());
        // Nobody listens any more when the broker is stopping.
        let _ = self.commands.send(Command::Flushed(flushed));
        None
    }
}
