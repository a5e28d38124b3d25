//! Waiting until an instant, to some microseconds: the timers of the runtime count milliseconds, which would be most of a latency.

use std::io;
use std::time::Instant;

#[cfg(target_os = "linux")]
pub(super) use self::linux::Timer;
#[cfg(not(target_os = "linux"))]
pub(super) use self::portable::Timer;

#[cfg(target_os = "linux")]
mod linux {
    use super::{Instant, io};
    use std::os::fd::OwnedFd;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// A timer of the kernel that wakes the runtime like a socket.
    pub(in super::super) struct Timer {
        descriptor: AsyncFd<OwnedFd>,
    }

    impl Timer {
        pub(in super::super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[allow(
                deprecated,
                reason = "it is unsound for what gives other descriptors than it owns, and this owns the one it gives"
            )]
            let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
            Ok(Self { descriptor })
        }

        /// Waits, unless it is that late already.
        pub(in super::super) async fn wait_until(&self, due: Instant) -> io::Result<()> {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let once = Itimerspec {
                it_interval: Timespec::default(),
                it_value: Timespec::try_from(left).map_err(io::Error::other)?,
            };
            timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
            let mut expirations = [0; 8];
            self.descriptor
                .async_io(Interest::READABLE, |descriptor| {
                    Ok(rustix::io::read(descriptor, &mut expirations)?)
                })
                .await?;
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use super::{Instant, io};

    /// The runtime's own timer.
    pub(in super::super) struct Timer;

    impl Timer {
        pub(in super::super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Waits, unless it is that late already.
        pub(in super::super) async fn wait_until(&self, due: Instant) -> io::Result<()> {
            tokio::time::sleep_until(due.into()).await;
            Ok(())
        }
    }
}
