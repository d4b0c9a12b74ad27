//! Places of connections: a limit in all, and a limit for one address. When all places are taken, an idle or
//! slow connection gives its place up, so that it cannot keep machines out. A connection is idle if it has
//! asked for nothing, and slow if it takes its file slower than any boot would.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Largest number of connections at once: 64 machines with two each, and room.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// Largest number of connections at once from one address. More would keep other machines out.
const MAX_CONNECTIONS_OF_PEER: usize = 16;
/// Age at which a connection is judged by its rate. The first request of a loaded machine may come late.
const JUDGED_AFTER: Duration = Duration::from_secs(20);
/// Rate in bytes per second below which a connection gives its place up when another needs it. All 256
/// connections at this rate take a tenth of a 100 Mbit/s line, and a 10 MB image would take forty minutes.
const SLOWEST_RATE: u64 = 4 << 10;

/// All places.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    came: u64,
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    peer: IpAddr,
    taking: Taking,
    /// Dropping this tells the connection that its place is needed.
    _stay: oneshot::Sender<()>,
}

/// Record of a connection's requests and of the bytes that it takes.
#[derive(Debug, Clone)]
pub(super) struct Taking {
    since: Instant,
    /// Requests answered plus bytes handed to the socket. Zero means that the connection has asked for
    /// nothing.
    taken: Arc<AtomicU64>,
}

/// The place of one connection. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
    taking: Taking,
    stay: oneshot::Receiver<()>,
}

impl Places {
    /// Takes a place, if need be that of an idle or slow connection. Returns `None` if all are in use.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Place> {
        let mut state = self.lock();
        let of_peer = state.taken.values().filter(|taken| taken.peer == peer).count();
        if of_peer >= MAX_CONNECTIONS_OF_PEER && !state.send_one_away(Some(peer)) {
            return None;
        }
        if state.taken.len() >= MAX_CONNECTIONS && !state.send_one_away(None) {
            return None;
        }
        state.came += 1;
        let (number, taking) = (state.came, Taking::start());
        let (sender, stay) = oneshot::channel();
        let taken = Taken {
            peer,
            taking: taking.clone(),
            _stay: sender,
        };
        state.taken.insert(number, taken);
        Some(Place {
            places: self.clone(),
            number,
            taking,
            stay,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send_one_away(&mut self, of: Option<IpAddr>) -> bool {
        let now = Instant::now();
        let of_peer = || {
            self.taken
                .iter()
                .filter(|(_, taken)| of.is_none_or(|of| taken.peer == of))
        };
        let idle = of_peer().find(|(_, taken)| !taken.taking.has_asked());
        let slow = || of_peer().find(|(_, taken)| taken.taking.is_slow(now));
        let Some(number) = idle.or_else(slow).map(|(number, _)| *number) else {
            return false;
        };
        self.taken.remove(&number);
        true
    }
}

impl Taking {
    fn start() -> Self {
        Self {
            since: Instant::now(),
            taken: Arc::default(),
        }
    }

    /// Records that the connection asks for a file.
    pub(super) fn asks(&self) {
        self.took(1);
    }

    /// Records the number of bytes handed to the socket.
    pub(super) fn took(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    fn has_asked(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > 0
    }

    fn is_slow(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        age >= JUDGED_AFTER && self.taken.load(Ordering::Relaxed) / age.as_secs().max(1) < SLOWEST_RATE
    }
}

impl Place {
    /// The record of this place's connection.
    pub(super) fn taking(&self) -> Taking {
        self.taking.clone()
    }

    /// Waits until another connection needs the place.
    pub(super) async fn needed(&mut self) {
        // Nothing is ever sent: the wait ends when the other half is dropped.
        let _ = (&mut self.stay).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: usize) -> IpAddr {
        [10, 0, 0, u8::try_from(last).unwrap()].into()
    }

    #[test]
    fn silent_connections_give_way_and_those_that_asked_do_not() {
        let places = Places::default();
        let mut asking = places.take(addr(1)).unwrap();
        asking.taking().asks();
        let silent: Vec<_> = (0..1000)
            .map(|number| places.take(addr(2 + number % 200)))
            .collect();
        assert!(silent.iter().all(Option::is_some), "everybody gets in");
        assert!(asking.stay.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        assert!(places.lock().taken.len() <= MAX_CONNECTIONS);
        drop((asking, silent));
        assert!(places.lock().taken.is_empty());
    }

    #[test]
    fn one_address_that_asks_again_and_again_has_its_share_and_no_more() {
        let places = Places::default();
        let taken: Vec<_> = (0..100)
            .filter_map(|_| places.take(addr(1)).inspect(|place| place.taking().asks()))
            .collect();
        assert_eq!(taken.len(), MAX_CONNECTIONS_OF_PEER);
        assert!(places.take(addr(2)).is_some());
    }

    #[test]
    fn a_connection_that_takes_a_byte_a_minute_gives_way_and_a_slow_line_does_not() {
        let places = Places::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(60);
        let (trickle, slow_line, new) = (Taking::start(), Taking::start(), Taking::start());
        trickle.asks();
        trickle.took(300);
        slow_line.asks();
        slow_line.took(60 * 20_000);
        new.asks();
        assert!(trickle.is_slow(later) && !slow_line.is_slow(later));
        assert!(!new.is_slow(start + Duration::from_secs(5)), "too early to judge");
        // Connections that began a minute ago and take almost nothing occupy all places.
        let held: Vec<_> = (0..MAX_CONNECTIONS)
            .filter_map(|number| places.take(addr(2 + number % 200)))
            .inspect(|place| place.taking().asks())
            .collect();
        assert_eq!(held.len(), MAX_CONNECTIONS);
        assert!(places.take(addr(1)).is_none(), "they are all young");
        for taken in places.lock().taken.values_mut() {
            if let Some(past) = taken.taking.since.checked_sub(Duration::from_secs(60)) {
                taken.taking.since = past;
            }
        }
        assert!(places.take(addr(1)).is_some(), "one of the slow ones gave way");
    }
}
