//! Whole clusters in one thread from one seed.
//!
//! The nodes are the real thing but for their shell: the partitions' cores, the quorum, the controller, and logs on a disk in
//! memory that loses what was not flushed. The network, the clocks and the disks are simulated, and fail as the seed says. An
//! oracle sees everything, and says what should not be.
//!
//! The key decision: **nothing is mocked that decides**. What a node does between a machine and its log is `tidelog-node`,
//! which the broker runs too; only what the broker does with sockets, threads and timers is done here in another way.
//!
//! ```
//! use tidelog_sim::{Plan, run};
//!
//! let outcome = run(&Plan::new(7), None, false);
//! assert_eq!(outcome.wrong, None);
//! assert!(outcome.acknowledged_count > 0);
//! ```

mod check;
mod client;
mod clock;
mod consumer;
mod event;
mod io;
mod message;
mod network;
mod node;
mod plan;
mod planted;
mod random;
mod settings;
mod shrink;
mod world;
mod writer;

pub use self::plan::Plan;
pub use self::planted::Bug;
pub use self::shrink::shrink;
pub use self::world::{Outcome, run};
