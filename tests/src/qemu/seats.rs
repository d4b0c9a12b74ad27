//! Limits on machines that run at once, and on tests that have machines: an emulated machine takes a whole
//! processor, and a third would make all three late.

use std::sync::{Condvar, Mutex, PoisonError};

/// Most machines at once: the smallest machine that builds KA has this many processors.
pub const SEATS: usize = 2;
/// Most tests at once: one more would start a server, and its time limits, while it waits for a seat.
const ROOMS: usize = 2;

static SEATED: Limit = Limit::new(SEATS);
static OPEN_ROOMS: Limit = Limit::new(ROOMS);

/// Places for machines, or for a test; given back on drop.
#[derive(Debug)]
pub struct Seats {
    of: &'static Limit,
    count: usize,
}

/// Waits until `count` more machines may run. It takes all at once: if they were taken one by one, two tests
/// could wait for each other.
///
/// # Panics
/// More than [`SEATS`] are asked for.
#[must_use]
pub fn take(count: usize) -> Seats {
    SEATED.take(count)
}

/// Waits until one more test may have a room with machines.
pub(crate) fn take_room() -> Seats {
    OPEN_ROOMS.take(1)
}

/// A limit on things that exist at once.
#[derive(Debug)]
struct Limit {
    most: usize,
    taken: Mutex<usize>,
    freed: Condvar,
}

impl Limit {
    const fn new(most: usize) -> Self {
        Self {
            most,
            taken: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    fn take(&'static self, count: usize) -> Seats {
        let most = self.most;
        assert!(count <= most, "{count} at once are too many: {most} at most");
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self
            .freed
            .wait_while(taken, |taken| *taken + count > most)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += count;
        Seats { of: self, count }
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        *self.of.taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.count;
        self.of.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::Limit;

    #[test]
    fn who_comes_when_all_is_taken_waits_for_the_first_to_go() {
        static TWO: Limit = Limit::new(2);
        let both = TWO.take(2);
        let third = thread::spawn(|| drop(TWO.take(1)));
        thread::sleep(Duration::from_millis(50));
        assert!(!third.is_finished());
        drop(both);
        assert!(third.join().is_ok());
    }
}
