//! A thread for what other nodes must hear from this one, however busy its disks and its clients keep it.
//!
//! A connection's thread may wait for a flush, and a flush may take seconds. Who hears nothing of a node for that long would
//! take it for stalled. So the node's connections to others as a member of the cluster, and its controller listeners, have a
//! thread on which nothing ever waits.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

/// The thread; dropping it ends it, with all that runs there.
#[derive(Debug)]
pub(crate) struct Aside {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Aside {
    /// A thread of its own.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("tidelog-cluster".into());
        let thread = thread.spawn(move || {
            // An error says that the sender is gone, which means the same.
            let _ = runtime.block_on(stopped);
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// None: a node that is alone has nobody to hear from it.
    pub(crate) fn none() -> Self {
        Self {
            handle: Handle::current(),
            stop: None,
            thread: None,
        }
    }

    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
