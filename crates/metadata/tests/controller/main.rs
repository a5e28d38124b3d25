//! The controller as a whole: told as scenarios, and under random requests.

mod properties;
mod scenario;
mod scenarios;
mod world;
