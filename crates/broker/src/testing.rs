//! What tests do to a broker, and what they see of it. Behind the feature `testing`.

pub use crate::clock::Clock;
use crate::{Broker, Builder};

impl Builder {
    /// Has the broker go by this clock, which a test can stop and move, and which several brokers may share.
    #[must_use]
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }
}

impl Broker {
    /// The clock that this broker goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}
