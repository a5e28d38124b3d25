//! The metadata of a cluster: what it is, and who decides about it. Without I/O.
//!
//! - [`image`] is the state: topics, partitions, brokers, configs, features, as the records of the metadata log make it.
//! - [`controller`] is the machine that answers requests by writing such records.
//! - [`bootstrap`] says with which records a cluster begins, and which record formats it may use.
//! - [`configs`] are the tables of all configs, and the rules by which they are set.
//!
//! The key decision: there is one way to change an image, [`image::Image::apply`], for the controller that has just
//! written a record as for a broker that reads it years later. So what a controller believes is what every other node
//! will believe, and after a failure nothing needs to be undone.

pub mod bootstrap;
pub mod configs;
pub mod controller;
mod delta;
mod error;
pub mod image;

pub use delta::Delta;
pub use error::ApiError;
