//! The event by which other threads wake the pump: an eventfd that its poll(2) watches.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd with a flag for the sleeping pump. Waking a pump that is awake costs no system call.
#[derive(Debug)]
pub(super) struct WakeEvent {
    event: OwnedFd,
    asleep: AtomicBool,
}

impl WakeEvent {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            asleep: AtomicBool::new(false),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// From here on [`WakeEvent::wake`] writes to the event.
    pub(super) fn announce_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// From here on [`WakeEvent::wake`] has nothing to do.
    pub(super) fn stay_awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Wakes the pump if it sleeps.
    pub(super) fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // Fails only when the counter is full, and then the pump is awake anyway.
            rustix::io::write(&self.event, &1u64.to_ne_bytes()).ok();
        }
    }

    /// Makes the event unreadable again.
    pub(super) fn clear(&self) {
        let mut counter = [0; 8];
        // The read does not block. Whatever it returns, the pump now looks at everything.
        rustix::io::read(&self.event, &mut counter).ok();
    }

    /// True when the event is readable; clears it.
    #[cfg(test)]
    pub(super) fn was_written(&self) -> bool {
        rustix::io::read(&self.event, &mut [0; 8]).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeping_pump_is_woken_and_only_once() {
        let event = WakeEvent::new().unwrap();
        event.wake();
        assert!(!event.was_written());
        event.announce_sleep();
        event.wake();
        assert!(event.was_written());
        event.wake();
        assert!(!event.was_written());
        event.announce_sleep();
        event.stay_awake();
        event.wake();
        assert!(!event.was_written());
    }
}
