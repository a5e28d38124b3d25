//! The metadata quorum and the controller of this node, on a thread of their own.
//!
//! The thread owns the metadata log, the quorum machine and, while this node leads, the controller. Requests come in over a
//! channel; records go to the log, and when they are committed they are applied to the image, published, and only then
//! answered. Publishing creates files, which is why this is no task of the runtime.

mod control;
mod log;
mod open;
mod publisher;
pub(crate) mod snapshot;
mod thread;
mod unserved;

use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_types::{ErrorCode, Offset};
use tokio::sync::oneshot;

pub(crate) use self::open::open;
pub(crate) use self::publisher::Publisher;

/// The folder of the metadata log.
const METADATA_FOLDER: &str = "__cluster_metadata-0";

/// What the thread is told.
enum Command {
    /// The controller is asked for something.
    Request(Box<ControllerRequest>, oneshot::Sender<ControllerResponse>),
    /// Publish what is committed, now and from now on; tell when all that there is was published.
    Follow(Box<Publisher>, oneshot::Sender<()>),
    /// The metadata log was flushed, or could not be.
    Flushed(Result<Offset, String>),
    /// Finish what is in progress, and end.
    Stop,
}

/// Where the rest of the broker reaches the controller.
#[derive(Clone)]
pub(crate) struct ControllerHandle {
    commands: Sender<Command>,
}

impl ControllerHandle {
    /// Asks the controller; the answer comes when its records are committed and published on this node. Without a
    /// controller the error is `NOT_CONTROLLER`.
    pub(crate) async fn request(
        &self,
        request: ControllerRequest,
    ) -> Result<ControllerResponse, ErrorCode> {
        let (sender, receiver) = oneshot::channel();
        let command = Command::Request(Box::new(request), sender);
        self.commands
            .send(command)
            .map_err(|_| ErrorCode::NOT_CONTROLLER)?;
        receiver.await.map_err(|_| ErrorCode::NOT_CONTROLLER)
    }

    /// Has `publisher` follow the metadata; returns when this node is what the metadata says.
    pub(crate) async fn follow(&self, publisher: Publisher) -> Result<(), ErrorCode> {
        let (sender, receiver) = oneshot::channel();
        let command = Command::Follow(Box::new(publisher), sender);
        self.commands
            .send(command)
            .map_err(|_| ErrorCode::NOT_CONTROLLER)?;
        receiver.await.map_err(|_| ErrorCode::NOT_CONTROLLER)
    }
}

/// The running thread.
pub(crate) struct MetadataHandle {
    pub(crate) controller: ControllerHandle,
    /// The epoch of this node's last registration, if it did not leave in order.
    pub(crate) former_epoch: Option<i64>,
    thread: Option<JoinHandle<()>>,
}

impl MetadataHandle {
    /// Ends the thread, and closes the metadata log.
    pub(crate) fn stop(&mut self) {
        // A thread that has ended already needs no telling.
        let _ = self.controller.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for MetadataHandle {
    fn drop(&mut self) {
        self.stop();
    }
}
