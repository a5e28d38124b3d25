//! The cluster image and the controller that writes its records, without I/O.

pub mod bootstrap;
pub mod configs;
pub mod controller;
mod delta;
mod error;
pub mod image;

pub use delta::Delta;
pub use error::ApiError;
