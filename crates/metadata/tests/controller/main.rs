//! The controller as a whole: told as scenarios, and under random requests.

mod partition_properties;
mod partitions;
mod properties;
mod scenario;
mod scenarios;
mod world;
