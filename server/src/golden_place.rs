//! The place of the golden node's line in the room, as LLDP tells it. The chain begins at its switch.

use std::net::IpAddr;
use std::sync::Arc;

use ka_lldp::Listener;
use ka_proto::wiring::Wiring;
use ka_report::run::RunEvent;
use ka_transport::Server;

use crate::monitor::Monitor;

/// The place of this machine's line. Nothing waits for it.
pub(crate) struct GoldenPlace {
    listener: Listener,
    /// The addresses at which nodes reach this machine.
    addrs: Arc<[IpAddr]>,
}

impl GoldenPlace {
    /// Tells the run, and the log, of each place that is heard.
    pub(crate) fn listen(listener: Listener, server: &Arc<Server>, monitor: &Arc<Monitor>) -> Self {
        let addrs: Arc<[IpAddr]> = server.local_addrs().reachable.clone().into();
        let place = Self { listener, addrs };
        let weak = (
            place.listener.downgrade(),
            Arc::downgrade(server),
            Arc::downgrade(monitor),
        );
        let addrs = Arc::clone(&place.addrs);
        place.listener.when_heard(move |interface, wiring| {
            let (Some(listener), Some(server), Some(monitor)) =
                (weak.0.upgrade(), weak.1.upgrade(), weak.2.upgrade())
            else {
                return;
            };
            let text = format!("this machine's {interface} is plugged into {wiring}");
            monitor.emit(&RunEvent::Detail { text });
            if let Some(own) = wiring_of(&listener, &addrs) {
                server.set_wiring(own);
            }
        });
        place
    }

    /// Returns the switch port at the other end of the line by which nodes reach this machine.
    pub(crate) fn wiring(&self) -> Option<Wiring> {
        wiring_of(&self.listener, &self.addrs)
    }
}

fn wiring_of(listener: &Listener, addrs: &[IpAddr]) -> Option<Wiring> {
    addrs.iter().find_map(|addr| listener.wiring_of(*addr))
}
