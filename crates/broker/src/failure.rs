//! What becomes of a node whose disks fail.
//!
//! A log that fails because of its disk takes its directory with it: partitions of other directories go on, and the controller hears of it
//! in the heartbeats. A node without its metadata log, or without any directory, stops; the program that runs it learns why.

use std::sync::Arc;

use tidelog_metadata::image::directory;
use tokio::sync::watch;

use crate::error::Failure;
use crate::metadata::ControllerHandle;
use crate::store::Store;

/// Stops a node that cannot go on.
#[derive(Clone)]
pub(crate) struct Ending {
    stops: [watch::Sender<bool>; 2],
    metadata: ControllerHandle,
    failure: watch::Sender<Option<Failure>>,
}

impl Ending {
    /// What is told by these to stop, and the metadata thread, belong to the node.
    pub(crate) fn new(stops: [watch::Sender<bool>; 2], metadata: ControllerHandle) -> Self {
        Self {
            stops,
            metadata,
            failure: watch::Sender::new(None),
        }
    }

    /// Stops the node at once, as a crash would. The first reason is the one that is told.
    pub(crate) fn end(&self, failure: Failure) {
        tracing::error!(%failure, "the node stops");
        self.metadata.abort();
        for stop in &self.stops {
            stop.send_replace(true);
        }
        self.failure.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(failure);
            is_first
        });
    }

    /// Why the node has stopped; returns when it has.
    pub(crate) async fn failure(&self) -> Failure {
        let mut failure = self.failure.subscribe();
        loop {
            if let Some(failure) = &*failure.borrow_and_update() {
                return failure.clone();
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Looks after the disks of a node.
pub(crate) struct Disks {
    pub(crate) store: Arc<Store>,
    /// The directory of the metadata log, if it is one of the store's. A log elsewhere says itself that it has failed.
    pub(crate) metadata_directory: Option<usize>,
    pub(crate) metadata: ControllerHandle,
    pub(crate) ending: Ending,
}

impl Disks {
    /// Takes out of service what fails, until `stopped`.
    pub(crate) async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut failed = self.store.failed_directories();
        loop {
            tokio::select! {
                logs = self.store.outbox.failures() => {
                    for log in logs {
                        let partition = &log.partition;
                        if log.by_disk {
                            self.store.fail_directory(partition.directory());
                        } else {
                            // The others in the directory have nothing to do with it, so that only this one is given up.
                            let (topic, index) = (partition.topic_id, partition.name.partition);
                            self.store.assignments.add(topic, index, directory::LOST);
                        }
                    }
                }
                _ = failed.changed() => self.look(),
                reason = self.metadata.failed() => {
                    return self.ending.end(Failure::MetadataLog { reason });
                }
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Stops the node if it cannot do without a directory that has failed.
    fn look(&self) {
        let directories = self.store.directories();
        let metadata = self.metadata_directory.map(|at| &directories[at]);
        if directories.iter().all(|directory| directory.has_failed()) {
            let last = metadata.or_else(|| directories.last());
            let path = last.map_or_else(Default::default, |last| last.path.clone());
            self.ending.end(Failure::LastLogDirectory { path });
        } else if let Some(metadata) = metadata.filter(|metadata| metadata.has_failed()) {
            let path = metadata.path.display();
            let reason = format!("its directory {path} is out of service");
            self.ending.end(Failure::MetadataLog { reason });
        }
    }
}
