//! The metadata log with its snapshots: what the machine of the quorum wants of them, and what they say when they are opened.
//!
//! Nothing here holds the log: it is an argument, so that its owner decides who else may use it, and who flushes.

pub mod control;
mod log;
mod roles;
mod snapshot;
mod snapshots;

pub use self::log::{
    Applied, Opened, append_control, append_fetched, apply_committed, batch_of, everything,
    forget_lost_log, install_snapshot, open, store_quorum_state, trim,
};
pub use self::roles::{broker, role};
pub use self::snapshot::{Snapshot, SnapshotError, read_snapshot};
pub use self::snapshots::{Plan, Retention, Snapshots};

/// The folder of the metadata log.
pub const METADATA_FOLDER: &str = "__cluster_metadata-0";
