//! Who may have a connection: so many in all, so many of one address. Who has asked for nothing yet goes first when there
//! are too many: connections that say nothing must not keep machines out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Connections at once: 64 machines with two each, and room.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// Connections at once of one address; the others would be somebody's who keeps machines out.
const MAX_CONNECTIONS_OF_PEER: usize = 16;

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
    asked: Asked,
    /// Dropped: the place is needed.
    _stay: oneshot::Sender<()>,
}

/// Whether a connection has asked for anything.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

/// A connection's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
    asked: Asked,
    stay: oneshot::Receiver<()>,
}

impl Places {
    /// A place, if need be that of one who has asked for nothing. `None`: all are in use.
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
        let (number, asked) = (state.came, Asked::default());
        let (sender, stay) = oneshot::channel();
        let taken = Taken {
            peer,
            asked: asked.clone(),
            _stay: sender,
        };
        state.taken.insert(number, taken);
        Some(Place {
            places: self.clone(),
            number,
            asked,
            stay,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send_one_away(&mut self, of: Option<IpAddr>) -> bool {
        let is_idle = |taken: &Taken| !taken.asked.is_noted() && of.is_none_or(|of| taken.peer == of);
        let first = self.taken.iter().find(|(_, taken)| is_idle(taken));
        let Some(number) = first.map(|(number, _)| *number) else {
            return false;
        };
        self.taken.remove(&number);
        true
    }
}

impl Asked {
    /// It asks.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Place {
    /// Where to note that it asks.
    pub(super) fn asked(&self) -> Asked {
        self.asked.clone()
    }

    /// Waits until somebody else needs the place.
    pub(super) async fn needed(&mut self) {
        // Nothing is ever sent: it ends when the other half is dropped.
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
        asking.asked().note();
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
            .filter_map(|_| places.take(addr(1)).inspect(|place| place.asked().note()))
            .collect();
        assert_eq!(taken.len(), MAX_CONNECTIONS_OF_PEER);
        assert!(places.take(addr(2)).is_some());
    }
}
