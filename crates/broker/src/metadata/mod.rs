//! The metadata quorum and the controller of this node, on a thread of their own.
//!
//! The thread owns the metadata log, its snapshots, the quorum machine and, while this node leads, the controller. What other
//! nodes ask and answer comes in over a channel, like the requests to the controller. Records go to the log, of the leader
//! by way of the controller, of the others by way of fetches; when they are committed they are applied to the image, the
//! image is published, and only then requests are answered. Publishing creates files, which is why this is no task of the
//! runtime.

mod active;
mod clocks;
mod controller;
mod forward;
mod links;
mod log;
mod open;
mod publisher;
mod questions;
mod thread;
mod unserved;
mod wire;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_metadata::image::Image;
use tidelog_protocol::{Request, Response};
use tidelog_replication::quorum;
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, Str};
use tokio::sync::{Notify, oneshot, watch};

pub(crate) use self::active::ActiveController;
pub(crate) use self::open::{QuorumSetup, open};
pub(crate) use self::publisher::Publisher;
use crate::peers::{Address, PeerError};

/// What the thread is told.
enum Command {
    /// The controller is asked for something.
    Request(Box<ControllerRequest>, oneshot::Sender<ControllerResponse>),
    /// Another node, or a client, asks something of the quorum.
    Question(Box<Question>),
    /// Another node has answered a request of the quorum, or has not.
    Answered {
        request_id: u64,
        /// Where the node listens, if that is known.
        from: Option<Address>,
        answer: Result<Box<Response>, PeerError>,
    },
    /// Nobody listens at an address any more.
    Refused(Address),
    /// Publish what is committed, now and from now on.
    Follow(Box<Follow>),
    /// The metadata log was flushed, or could not be.
    Flushed(Result<Offset, String>),
    /// A snapshot was made, or could not be.
    SnapshotMade(Result<quorum::SnapshotId, String>),
    /// Hand over if this node leads, and end.
    Stop,
    /// End at once, as if the process had died.
    Abort,
}

/// A request of the quorum that came in.
struct Question {
    request: Request,
    /// The listener to which it came: the answer names addresses of that listener.
    listener: Str,
    reply: oneshot::Sender<Response>,
}

/// Somebody who follows the metadata.
struct Follow {
    publisher: Publisher,
    /// Publishing begins when all below this offset is applied.
    from: Offset,
    /// Told when all that there was is published.
    done: oneshot::Sender<()>,
}

/// The metadata as far as it is committed and applied here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) image: Arc<ArcSwap<Image>>,
    /// Everything below it is in the image.
    pub(crate) offset: Arc<AtomicI64>,
    /// Told when there is another image.
    pub(crate) changed: Arc<Notify>,
}

impl Published {
    /// Everything below it is in the image.
    pub(crate) fn offset(&self) -> Offset {
        Offset::new(self.offset.load(Ordering::Acquire))
    }
}

/// Who leads the quorum, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) leader_id: Option<NodeId>,
    pub(crate) leader_epoch: LeaderEpoch,
    /// Where its controller listener is.
    pub(crate) address: Option<Address>,
    /// Whether it is this node, and its controller is at work.
    pub(crate) is_here: bool,
    /// The level of kraft.version: 1 if the voters are part of the log (KIP-853).
    pub(crate) kraft_version: i16,
}

/// Where the rest of the node reaches the thread.
#[derive(Clone, Debug)]
pub(crate) struct ControllerHandle {
    commands: Sender<Command>,
    published: Published,
    leadership: watch::Receiver<Leadership>,
    failure: Arc<OnceLock<String>>,
}

impl ControllerHandle {
    /// Asks the controller of this node; the answer comes when its records are committed and published here. Where it is not
    /// the active one, or ceases to be, the error is `NOT_CONTROLLER`.
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

    /// Asks something of the quorum, in the name of who came over `listener`.
    pub(crate) async fn ask(&self, request: Request, listener: Str) -> Option<Response> {
        let (reply, answer) = oneshot::channel();
        let question = Question {
            request,
            listener,
            reply,
        };
        let command = Command::Question(Box::new(question));
        self.commands.send(command).ok()?;
        answer.await.ok()
    }

    /// Has `publisher` follow the metadata from `from` on; returns when this node is what the metadata says.
    pub(crate) async fn follow(&self, publisher: Publisher, from: Offset) -> Result<(), ErrorCode> {
        let (done, followed) = oneshot::channel();
        let follow = Follow {
            publisher,
            from,
            done,
        };
        self.commands
            .send(Command::Follow(Box::new(follow)))
            .map_err(|_| ErrorCode::NOT_CONTROLLER)?;
        followed.await.map_err(|_| ErrorCode::NOT_CONTROLLER)
    }

    /// The metadata as far as it is applied here.
    pub(crate) const fn published(&self) -> &Published {
        &self.published
    }

    /// Who leads, and how that changes.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Ends the thread at once, as if the process had died.
    pub(crate) fn abort(&self) {
        // One that has ended needs no telling.
        let _ = self.commands.send(Command::Abort);
    }

    /// Why the thread takes no further part in the quorum; returns when it does not.
    pub(crate) async fn failed(&self) -> String {
        let mut leadership = self.leadership.clone();
        loop {
            if let Some(failure) = self.failure() {
                return failure.to_owned();
            }
            if leadership.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why the thread takes no further part in the quorum, if so.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct MetadataHandle {
    pub(crate) controller: ControllerHandle,
    thread: Option<JoinHandle<()>>,
}

impl MetadataHandle {
    /// This handle, of which nothing but the controller's stays behind.
    pub(crate) fn take_over(&mut self) -> Self {
        Self {
            controller: self.controller.clone(),
            thread: self.thread.take(),
        }
    }

    /// Hands over if this node leads, ends the thread, and closes the metadata log.
    pub(crate) fn stop(&mut self) {
        self.end(Command::Stop);
    }

    fn end(&mut self, command: Command) {
        if let Some(thread) = self.thread.take() {
            // A thread that has ended already needs no telling.
            let _ = self.controller.commands.send(command);
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for MetadataHandle {
    fn drop(&mut self) {
        self.end(Command::Abort);
    }
}
