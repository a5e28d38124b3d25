//! What the feature `testing` gives to those who test with a broker.

mod clock;
mod crash;
mod faults;
