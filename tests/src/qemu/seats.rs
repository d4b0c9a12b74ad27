//! How many machines run at once: an emulated machine takes a whole processor, and a third would make all three late.

use std::sync::{Condvar, Mutex, PoisonError};

/// As many as the smallest machine that builds KA has processors.
pub const SEATS: usize = 2;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// Places for machines; given back on drop.
#[derive(Debug)]
pub struct Seats(usize);

/// Waits until so many machines more may run. All at once: taken one by one, two tests could wait for each other.
///
/// # Panics
/// More than [`SEATS`] are asked for.
#[must_use]
pub fn take(count: usize) -> Seats {
    assert!(count <= SEATS, "{count} machines at once are too many");
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut taken = FREED
        .wait_while(taken, |taken| *taken + count > SEATS)
        .unwrap_or_else(PoisonError::into_inner);
    *taken += count;
    Seats(count)
}

impl Drop for Seats {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FREED.notify_all();
    }
}
