//! Sockets and threads that listen for LLDP in the background.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ka_host::netif::{self, Interface};
use ka_host::packet::{PacketSocket, Packets};
use ka_proto::wiring::Wiring;

use crate::frame;
use crate::neighbours::Neighbours;

/// Most interfaces that are listened on: more than a machine has ports.
const MAX_INTERFACES: usize = 32;
/// Longest frame that is read; jumbo frames have no more fields.
const MAX_FRAME: usize = 1600;
/// Pause after a fault of a socket. The interface is down, or is gone.
const FAULT_PAUSE: Duration = Duration::from_secs(2);
/// Interval in which a thread looks if the listener is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Least time between two messages about one line. A stranger who invents switches does not flood the run.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// Open sockets, one for each Ethernet interface. They can be opened with `CAP_NET_RAW`, and used without.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(Interface, PacketSocket)>);

impl Sockets {
    /// Opens a socket on each Ethernet interface. An interface on which that is not possible is left out: the
    /// order of a chain is no reason to fail.
    #[must_use]
    pub fn open() -> Self {
        let interfaces = netif::ethernet().unwrap_or_else(|error| {
            tracing::debug!(%error, "LLDP is not listened for");
            Vec::new()
        });
        let opened = interfaces.into_iter().take(MAX_INTERFACES).filter_map(open);
        Self(opened.collect())
    }
}

fn open(interface: Interface) -> Option<(Interface, PacketSocket)> {
    match PacketSocket::open(&interface.name, interface.index, Packets::Lldp) {
        Ok(socket) => Some((interface, socket)),
        Err(error) => {
            tracing::debug!(%error, "LLDP is not listened for");
            None
        }
    }
}

/// Called when something new was heard, from the thread of the interface, with its name.
type Told = Arc<dyn Fn(&str, &Wiring) + Send + Sync>;

#[derive(Default)]
struct Heard {
    /// Neighbours on each interface, by its name.
    lines: BTreeMap<String, Neighbours>,
    told: Vec<Told>,
}

/// The state that threads and handles share.
struct Shared {
    began: Instant,
    heard: Mutex<Heard>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle that does not keep a listener alive.
#[derive(Clone)]
pub struct WeakListener(Weak<Shared>);

impl WeakListener {
    /// Returns the listener if it still listens.
    #[must_use]
    pub fn upgrade(&self) -> Option<Listener> {
        self.0.upgrade().map(Listener)
    }
}

impl std::fmt::Debug for WeakListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakListener")
    }
}

/// Listens for LLDP in the background, as long as a handle exists. Clones are handles of the same listener.
#[derive(Clone)]
pub struct Listener(Arc<Shared>);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl Default for Listener {
    /// Returns a listener that listens on no interface yet.
    fn default() -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            heard: Mutex::default(),
        }))
    }
}

impl Listener {
    /// Listens on open sockets.
    #[must_use]
    pub fn start(sockets: Sockets) -> Self {
        let listener = Self::default();
        for (interface, socket) in sockets.0 {
            listener.spawn(interface, socket);
        }
        listener
    }

    /// Returns a handle that does not keep the listener alive. For functions that the listener itself holds.
    #[must_use]
    pub fn downgrade(&self) -> WeakListener {
        WeakListener(Arc::downgrade(&self.0))
    }

    /// Listens on one more interface, unless it does already.
    pub fn listen_on(&self, name: &str, index: u32) {
        let heard = self.0.lock();
        let is_known = heard.lines.contains_key(name) || heard.lines.len() >= MAX_INTERFACES;
        drop(heard);
        let interface = Interface {
            name: name.to_owned(),
            index,
        };
        if let Some((interface, socket)) = (!is_known).then(|| open(interface)).flatten() {
            self.spawn(interface, socket);
        }
    }

    /// Returns the switch port at the other end of the line over which this machine has `addr`.
    #[must_use]
    pub fn wiring_of(&self, addr: IpAddr) -> Option<Wiring> {
        let lines = netif::lines_of(addr).unwrap_or_default();
        let heard = self.0.lock();
        let now = self.0.began.elapsed();
        let mut found = lines.iter().filter_map(|name| {
            let wiring = heard.lines.get(name)?.nearest(now)?;
            Some((name, wiring.clone()))
        });
        let (name, wiring) = found.next()?;
        drop(heard);
        Some(with_speed(name, wiring))
    }

    /// Calls `told` with the interface's name and the switch port: at once for those that are known, and whenever
    /// another one is heard, but not more often than every few seconds on each interface.
    pub fn when_heard(&self, told: impl Fn(&str, &Wiring) + Send + Sync + 'static) {
        let told: Told = Arc::new(told);
        let mut heard = self.0.lock();
        let now = self.0.began.elapsed();
        let known = heard.lines.iter().filter_map(|(name, line)| {
            let wiring = line.nearest(now)?;
            Some((name.clone(), wiring.clone()))
        });
        let known: Vec<_> = known.collect();
        heard.told.push(Arc::clone(&told));
        drop(heard);
        for (name, wiring) in known {
            told(&name, &with_speed(&name, wiring));
        }
    }

    fn spawn(&self, interface: Interface, socket: PacketSocket) {
        self.0.lock().lines.entry(interface.name.clone()).or_default();
        let shared = Arc::downgrade(&self.0);
        let thread = thread::Builder::new().name(format!("lldp-{}", interface.name));
        if let Err(error) = thread.spawn(move || listen(&shared, &interface, &socket)) {
            tracing::debug!(%error, "LLDP is not listened for");
        }
    }
}

/// Adds the speed that the machine's own interface has.
fn with_speed(interface: &str, wiring: Wiring) -> Wiring {
    Wiring {
        speed_mbit: netif::speed_mbit(interface),
        ..wiring
    }
}

/// The thread of one interface.
fn listen(shared: &Weak<Shared>, interface: &Interface, socket: &PacketSocket) {
    let mut buffer = [0; MAX_FRAME];
    let mut last: Option<Wiring> = None;
    let mut next_telling = Duration::ZERO;
    loop {
        let received = socket.recv(&mut buffer, LOOK_INTERVAL);
        let Some(shared) = shared.upgrade() else { return };
        let now = shared.began.elapsed();
        match received {
            Ok(Some(count)) => take(&shared, &interface.name, now, &buffer[..count]),
            Ok(None) => {}
            Err(_) => thread::sleep(FAULT_PAUSE),
        }
        if now < next_telling {
            continue;
        }
        let heard = shared.lock();
        let nearest = heard.lines.get(&interface.name);
        let nearest = nearest.and_then(|known| known.nearest(now)).cloned();
        let told = heard.told.clone();
        drop(heard);
        if let Some(wiring) = nearest.filter(|wiring| last.as_ref() != Some(wiring)) {
            last = Some(wiring.clone());
            let wiring = with_speed(&interface.name, wiring);
            told.iter().for_each(|told| told(&interface.name, &wiring));
            next_telling = now + TELL_INTERVAL;
        }
    }
}

fn take(shared: &Shared, interface: &str, now: Duration, lldpdu: &[u8]) {
    match frame::parse(lldpdu) {
        Ok(heard) => {
            if let Some(known) = shared.lock().lines.get_mut(interface) {
                known.hear(now, heard);
            }
        }
        Err(error) => tracing::debug!(interface, %error, "an LLDP frame is ignored"),
    }
}
