//! Where connections wait that have not proved themselves: the same on every port of ours.
//!
//! Everybody gets in at once, so that a flood cannot keep a node out by being first. When all places are taken, somebody
//! leaves: of the address that has most of them, who came first. A stranger's thousand connections so push out each other,
//! and a node, which needs its place for milliseconds, keeps it. Memory and descriptors are bounded by the places, time by
//! the limit of each.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// Bits of an IPv6 address that are one site's network: whoever has one address there has 2^64 of them.
const SITE_BITS: u32 = 64;
/// Connections that were sent away and whose task has not yet run to close them. Accepting waits when there are more:
/// accepting is quicker than closing, and descriptors would pile up.
const MAX_LEAVING: usize = 64;

/// The places of one port.
#[derive(Debug, Clone)]
pub(crate) struct Lobby {
    places: usize,
    sockets: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    came: u64,
    guests: BTreeMap<u64, Guest>,
    /// Never zero.
    of_peer: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Guest {
    peer: IpAddr,
    /// Dropped: the place is needed.
    _stay: oneshot::Sender<()>,
}

/// A place in the lobby, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    lobby: Lobby,
    number: u64,
    _socket: Option<OwnedSemaphorePermit>,
    /// Ends when somebody else needs the place.
    stay: oneshot::Receiver<()>,
}

impl Lobby {
    /// A lobby of so many places, at least one.
    pub(crate) fn new(places: usize) -> Self {
        Self {
            places: places.max(1),
            sockets: Arc::new(Semaphore::new(places.max(1) + MAX_LEAVING)),
            state: Arc::default(),
        }
    }

    /// Waits until one more connection may be accepted: the time that those who were sent away need to go.
    pub(crate) async fn opening(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        Arc::clone(&self.sockets).acquire_owned().await.ok()
    }

    /// Takes a place, if need be somebody else's, for a connection that was accepted after [`Self::opening`].
    pub(crate) fn enter(&self, peer: IpAddr, opening: Option<OwnedSemaphorePermit>) -> Place {
        let (peer, mut state) = (site_of(peer), self.lock());
        while state.guests.len() >= self.places {
            state.send_one_away();
        }
        state.came += 1;
        let number = state.came;
        let (sender, stay) = oneshot::channel();
        state.guests.insert(number, Guest { peer, _stay: sender });
        *state.of_peer.entry(peer).or_default() += 1;
        Place {
            lobby: self.clone(),
            number,
            _socket: opening,
            stay,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send_one_away(&mut self) {
        let most = self.of_peer.values().copied().max().unwrap_or(0);
        let has_most = |guest: &Guest| self.of_peer.get(&guest.peer) == Some(&most);
        let first = self.guests.iter().find(|(_, guest)| has_most(guest));
        if let Some(number) = first.map(|(number, _)| *number) {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) {
        let Some(guest) = self.guests.remove(&number) else {
            return;
        };
        if let Some(count) = self.of_peer.get_mut(&guest.peer) {
            *count -= 1;
            if *count == 0 {
                self.of_peer.remove(&guest.peer);
            }
        }
    }
}

impl Place {
    /// Waits for `proof`, at most `limit`, and no longer than the place is not needed.
    ///
    /// # Errors
    /// Its own, that it took too long, or that it had to leave.
    pub(crate) async fn during<T>(
        mut self,
        limit: Duration,
        proof: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        tokio::select! {
            proved = timeout(limit, proof) => proved
                .unwrap_or_else(|_| Err(format!("said nothing valid in {} s", limit.as_secs_f32()))),
            _ = &mut self.stay => Err("had said nothing valid when its place was needed".to_owned()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.lock().forget(self.number);
    }
}

/// Whom an address counts for.
fn site_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(addr) => {
            let mask = u128::MAX << (u128::BITS - SITE_BITS);
            Ipv6Addr::from_bits(addr.to_bits() & mask).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn has_left(place: &mut Place) -> bool {
        place.stay.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_flood_of_one_address_pushes_out_itself_and_nobody_else() {
        let lobby = Lobby::new(4);
        let mut node = lobby.enter(addr(1), None);
        let mut flood: Vec<_> = (0..1000).map(|_| lobby.enter(addr(66), None)).collect();
        assert!(!has_left(&mut node));
        let staying = flood
            .iter_mut()
            .filter_map(|place| (!has_left(place)).then_some(()))
            .count();
        assert_eq!(staying, 3);
        // One that comes while all places are the stranger's gets one of them.
        drop(node);
        let mut late = lobby.enter(addr(2), None);
        flood.extend((0..1000).map(|_| lobby.enter(addr(66), None)));
        assert!(!has_left(&mut late));
    }

    #[test]
    fn places_are_free_again_and_never_counted_twice() {
        let lobby = Lobby::new(2);
        for _ in 0..10 {
            let (first, mut second) = (lobby.enter(addr(1), None), lobby.enter(addr(2), None));
            let third = lobby.enter(addr(1), None);
            assert!(
                !has_left(&mut second),
                "the first of the address with most places leaves"
            );
            drop((first, second, third));
        }
        let state = lobby.lock();
        assert!(state.guests.is_empty() && state.of_peer.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_its_ipv4() {
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let two: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        assert_eq!(site_of(one), site_of(two));
        assert_ne!(site_of(one), site_of("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(site_of("::ffff:10.0.0.1".parse().unwrap()), addr(1));
    }

    #[tokio::test]
    async fn who_says_nothing_leaves_in_time_or_when_the_place_is_needed() {
        let lobby = Lobby::new(1);
        let silent = std::future::pending::<Result<(), String>>();
        let late = lobby
            .enter(addr(1), None)
            .during(Duration::from_millis(10), silent)
            .await;
        assert!(late.unwrap_err().contains("said nothing valid in 0.01 s"));
        let place = lobby.enter(addr(1), None);
        let _next = lobby.enter(addr(1), None);
        let silent = std::future::pending::<Result<(), String>>();
        let pushed = place.during(Duration::from_secs(60), silent).await;
        assert!(pushed.unwrap_err().contains("its place was needed"));
        let proved = lobby
            .enter(addr(1), None)
            .during(Duration::from_secs(60), async { Ok(7) })
            .await;
        assert_eq!(proved, Ok(7));
    }

    #[tokio::test]
    async fn no_more_connections_are_open_than_places_and_those_about_to_leave() {
        let lobby = Lobby::new(1);
        let mut places = Vec::new();
        for _ in 0..=MAX_LEAVING {
            places.push(lobby.enter(addr(1), lobby.opening().await));
        }
        let mut opening = Box::pin(lobby.opening());
        assert!(timeout(Duration::from_millis(20), &mut opening).await.is_err());
        places.pop();
        assert!(timeout(Duration::from_secs(5), opening).await.unwrap().is_some());
    }
}
