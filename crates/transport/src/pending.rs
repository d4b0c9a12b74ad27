//! Connections that have not authenticated themselves, in a bounded number of slots: the same on every port
//! of ours.
//!
//! Every connection is accepted at once, so that a flood cannot keep a node out by being first. When all
//! slots are taken, one connection is closed: the oldest one of the address that holds most slots. A
//! stranger's thousand connections so push out each other, and a node, which needs its slot for milliseconds,
//! keeps it. The slots bound memory and descriptors; each slot's limit bounds time.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

/// Bits of an IPv6 address that are one site's network. A site with one address there has 2^64 of them.
const SITE_BITS: u32 = 64;
/// Connections that were evicted and whose task has not yet run to close them. Accepting waits when there are
/// more: accepting is quicker than closing, and descriptors would pile up.
const MAX_EVICTED: usize = 64;
/// Pause after accept(2) failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of one port that have not authenticated themselves.
#[derive(Debug, Clone)]
pub(crate) struct PendingConnections {
    slots: usize,
    sockets: Arc<Semaphore>,
    state: Arc<Mutex<Slots>>,
}

#[derive(Debug, Default)]
struct Slots {
    came: u64,
    peers: BTreeMap<u64, Entry>,
    /// Never zero.
    of_peer: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    peer: IpAddr,
    /// Dropping it evicts the connection.
    _kept: oneshot::Sender<()>,
}

/// One connection's slot, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct PendingSlot {
    pending: PendingConnections,
    number: u64,
    _socket: Option<OwnedSemaphorePermit>,
    /// Ends when another connection needs the slot.
    evicted: oneshot::Receiver<()>,
}

impl PendingConnections {
    /// So many slots, at least one.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: slots.max(1),
            sockets: Arc::new(Semaphore::new(slots.max(1) + MAX_EVICTED)),
            state: Arc::default(),
        }
    }

    /// Accepts connections until the task is dropped; each is served in a slot and a task of its own.
    pub(crate) async fn serve<Served>(
        self,
        listener: TcpListener,
        serve: impl Fn(TcpStream, SocketAddr, PendingSlot) -> Served,
    ) where
        Served: Future<Output = ()> + Send + 'static,
    {
        loop {
            let permit = self.permit().await;
            match listener.accept().await {
                Ok((socket, from)) => {
                    tokio::spawn(serve(socket, from, self.admit(from.ip(), permit)));
                }
                // Descriptors may be short for a moment; spinning would make it worse.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// Waits until one more connection may be accepted: the time that evicted ones need to close.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        Arc::clone(&self.sockets).acquire_owned().await.ok()
    }

    /// Takes a slot for a connection that was accepted after [`Self::permit`]; evicts another one if all are
    /// taken.
    fn admit(&self, peer: IpAddr, permit: Option<OwnedSemaphorePermit>) -> PendingSlot {
        let (peer, mut state) = (site_of(peer), self.lock());
        while state.peers.len() >= self.slots {
            state.evict_one();
        }
        state.came += 1;
        let number = state.came;
        let (sender, evicted) = oneshot::channel();
        state.peers.insert(number, Entry { peer, _kept: sender });
        *state.of_peer.entry(peer).or_default() += 1;
        PendingSlot {
            pending: self.clone(),
            number,
            _socket: permit,
            evicted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn evict_one(&mut self) {
        let most = self.of_peer.values().copied().max().unwrap_or(0);
        let has_most = |entry: &Entry| self.of_peer.get(&entry.peer) == Some(&most);
        let first = self.peers.iter().find(|(_, entry)| has_most(entry));
        if let Some(number) = first.map(|(number, _)| *number) {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) {
        let Some(entry) = self.peers.remove(&number) else {
            return;
        };
        if let Some(count) = self.of_peer.get_mut(&entry.peer) {
            *count -= 1;
            if *count == 0 {
                self.of_peer.remove(&entry.peer);
            }
        }
    }
}

impl PendingSlot {
    /// Waits for `proof`, at most `limit`, and no longer than the slot is kept.
    ///
    /// # Errors
    /// The error of `proof`, or one line: it took too long, or the connection was evicted.
    pub(crate) async fn authenticate<T>(
        mut self,
        limit: Duration,
        proof: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        tokio::select! {
            proved = timeout(limit, proof) => proved
                .unwrap_or_else(|_| Err(format!("said nothing valid in {} s", limit.as_secs_f32()))),
            _ = &mut self.evicted => Err("had said nothing valid when its slot was needed".to_owned()),
        }
    }
}

impl Drop for PendingSlot {
    fn drop(&mut self) {
        self.pending.lock().forget(self.number);
    }
}

/// Returns the address under which connections of `peer` are counted.
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

    fn is_evicted(slot: &mut PendingSlot) -> bool {
        slot.evicted.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_flood_of_one_address_pushes_out_itself_and_nobody_else() {
        let pending = PendingConnections::new(4);
        let mut node = pending.admit(addr(1), None);
        let mut flood: Vec<_> = (0..1000).map(|_| pending.admit(addr(66), None)).collect();
        assert!(!is_evicted(&mut node));
        let staying = flood
            .iter_mut()
            .filter_map(|slot| (!is_evicted(slot)).then_some(()))
            .count();
        assert_eq!(staying, 3);
        // A node that comes while the stranger has all slots gets one of them.
        drop(node);
        let mut late = pending.admit(addr(2), None);
        flood.extend((0..1000).map(|_| pending.admit(addr(66), None)));
        assert!(!is_evicted(&mut late));
    }

    #[test]
    fn places_are_free_again_and_never_counted_twice() {
        let pending = PendingConnections::new(2);
        for _ in 0..10 {
            let (first, mut second) = (pending.admit(addr(1), None), pending.admit(addr(2), None));
            let third = pending.admit(addr(1), None);
            assert!(
                !is_evicted(&mut second),
                "the first of the address with most slots leaves"
            );
            drop((first, second, third));
        }
        let state = pending.lock();
        assert!(state.peers.is_empty() && state.of_peer.is_empty());
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
        let pending = PendingConnections::new(1);
        let silent = std::future::pending::<Result<(), String>>();
        let late = pending
            .admit(addr(1), None)
            .authenticate(Duration::from_millis(10), silent)
            .await;
        assert!(late.unwrap_err().contains("said nothing valid in 0.01 s"));
        let slot = pending.admit(addr(1), None);
        let _next = pending.admit(addr(1), None);
        let silent = std::future::pending::<Result<(), String>>();
        let pushed = slot.authenticate(Duration::from_secs(60), silent).await;
        assert!(pushed.unwrap_err().contains("its slot was needed"));
        let proved = pending
            .admit(addr(1), None)
            .authenticate(Duration::from_secs(60), async { Ok(7) })
            .await;
        assert_eq!(proved, Ok(7));
    }

    #[tokio::test]
    async fn no_more_connections_are_open_than_places_and_those_about_to_leave() {
        let pending = PendingConnections::new(1);
        let mut slots = Vec::new();
        for _ in 0..=MAX_EVICTED {
            slots.push(pending.admit(addr(1), pending.permit().await));
        }
        let mut permit = Box::pin(pending.permit());
        assert!(timeout(Duration::from_millis(20), &mut permit).await.is_err());
        slots.pop();
        assert!(timeout(Duration::from_secs(5), permit).await.unwrap().is_some());
    }
}
