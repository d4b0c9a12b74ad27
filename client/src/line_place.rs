//! The place of this node's line in the room, as LLDP tells it: for the node's log and for the server, which orders
//! the chain by it. Nothing waits for it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ka_lldp::Listener;
use ka_proto::wiring::Wiring;
use ka_report::event::Step;
use ka_transport::{EventSender, Node, WiringSource};

use crate::journal::Journal;

/// The run that is told of the place: its connection, this node's address there, and the last word.
struct Told {
    events: EventSender,
    local: IpAddr,
    last: Option<Wiring>,
}

/// The place of this node's line.
pub(crate) struct LinePlace {
    listener: Listener,
    told: Arc<Mutex<Option<Told>>>,
}

impl LinePlace {
    /// Tells the journal, and the server once there is one, of each place that is heard.
    pub(crate) fn listen(listener: Listener, journal: &Arc<Journal>) -> Self {
        let place = Self {
            listener,
            told: Arc::default(),
        };
        let (journal, told) = (Arc::downgrade(journal), Arc::clone(&place.told));
        let wiring_of = place.wiring_of();
        place.listener.when_heard(move |interface, wiring| {
            if let Some(journal) = journal.upgrade() {
                journal.here(Step::FindServer, format!("{interface} is plugged into {wiring}"));
            }
            tell(&told, &wiring_of);
        });
        place
    }

    /// Returns the source from which a join takes the place.
    pub(crate) fn source(&self) -> WiringSource {
        WiringSource::new(self.wiring_of())
    }

    /// From now on the server of this run is told, too.
    pub(crate) fn connect(&self, node: &Node) {
        *lock(&self.told) = Some(Told {
            events: node.event_sender(),
            local: node.joined().local.ip(),
            last: node.joined().wiring.clone(),
        });
        tell(&self.told, &self.wiring_of());
    }

    /// The control connection is gone.
    pub(crate) fn disconnect(&self) {
        *lock(&self.told) = None;
    }

    /// Returns a function that does not keep the listener alive.
    fn wiring_of(&self) -> impl Fn(IpAddr) -> Option<Wiring> + Send + Sync + 'static {
        let listener = self.listener.downgrade();
        move |addr| listener.upgrade()?.wiring_of(addr)
    }
}

/// Tells the server the place of the line by which this node reaches it, unless it knows it.
fn tell(told: &Mutex<Option<Told>>, wiring_of: &impl Fn(IpAddr) -> Option<Wiring>) {
    let mut told = lock(told);
    let Some(told) = told.as_mut() else { return };
    let wiring = wiring_of(told.local);
    if let Some(wiring) = wiring.filter(|wiring| told.last.as_ref() != Some(wiring)) {
        // A server that is lost is noticed elsewhere.
        drop(told.events.wiring(wiring.clone()));
        told.last = Some(wiring);
    }
}

fn lock(told: &Mutex<Option<Told>>) -> MutexGuard<'_, Option<Told>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}
