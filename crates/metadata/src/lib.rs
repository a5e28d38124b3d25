//! The cluster image and the controller that writes its records, without I/O.

pub mod configs;
mod error;

pub use error::ApiError;
