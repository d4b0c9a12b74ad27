//! The running DHCP service. It passes requests from the sockets to [`Full`] or [`Proxy`] and carries out
//! their actions.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ka_mac::MacAddr;

use crate::dhcp::answer::{Action, Arrival};
use crate::dhcp::clock::LeaseClock;
use crate::dhcp::full::Full;
use crate::dhcp::prober::{Prober, Step};
use crate::dhcp::proxy::Proxy;
use crate::dhcp::search::refuse_other_server;
use crate::dhcp::store::LeaseFile;
use crate::dhcp::wire::Wire;
use crate::dhcp::{BootFileFor, DhcpConfig, DhcpError, DhcpEvent, DhcpMode, EventSink, Interface};

/// Largest number of waiting requests handled together: one write to disk then saves all their leases.
const BATCH: usize = 64;
/// Time within which the same warning is not repeated. Machines repeat themselves, and a wire can be full of
/// machines; [`MAX_WARNINGS`] therefore limits the number of warnings within this time.
const WARN_AGAIN: Duration = Duration::from_secs(60);
const MAX_WARNINGS: usize = 32;

/// A DHCP server that is bound and does not answer yet.
pub struct Dhcp {
    server: Server,
    wire: Wire,
    prober: Prober,
    warned: Warned,
    clock: LeaseClock,
    events: EventSink,
}

enum Server {
    Full(Box<Full>, LeaseFile),
    Proxy(Proxy),
}

/// Binds the ports and serves until `stop` completes. In mode `off` it only waits for `stop`.
///
/// # Errors
/// Fails as [`Dhcp::bind`] and [`Dhcp::serve`] do.
pub async fn serve(
    config: &DhcpConfig,
    boot_file: BootFileFor,
    events: EventSink,
    stop: impl Future<Output = ()>,
) -> Result<(), DhcpError> {
    match Dhcp::bind(config, boot_file, events).await? {
        Some(dhcp) => dhcp.serve(stop).await,
        None => {
            stop.await;
            Ok(())
        }
    }
}

impl Dhcp {
    /// Checks the configuration, opens the ports and reads the leases. In `full` mode it also searches for
    /// another server, for about five seconds. Returns `None` in mode `off`. Needs a tokio runtime with I/O
    /// and time, and the rights to bind port 67 and to open packet sockets.
    ///
    /// # Errors
    /// Fails with one line that names the obstacle.
    pub async fn bind(
        config: &DhcpConfig,
        boot_file: BootFileFor,
        events: EventSink,
    ) -> Result<Option<Self>, DhcpError> {
        let near = match &config.mode {
            DhcpMode::Off => return Ok(None),
            DhcpMode::Proxy => None,
            DhcpMode::Full(full) => Some(full.pool.first),
        };
        let interface = Interface::find(&config.iface, near)?;
        config.check(&interface)?;
        let wire = Wire::bind(&config.iface, interface)?;
        let server = match &config.mode {
            DhcpMode::Full(full) => {
                let (file, kept) = LeaseFile::open(&config.state_dir, &config.iface)?;
                refuse_other_server(&config.iface, &interface).await?;
                let full = Full::new(interface.subnet, config, full, &kept, boot_file);
                Server::Full(Box::new(full), file)
            }
            DhcpMode::Proxy | DhcpMode::Off => Server::Proxy(Proxy::new(interface.address(), boot_file)),
        };
        Ok(Some(Self {
            server,
            wire,
            prober: Prober::default(),
            warned: Warned::default(),
            clock: LeaseClock::start(),
            events,
        }))
    }

    /// Answers requests until `stop` completes.
    ///
    /// # Errors
    /// Fails if a socket fails.
    pub async fn serve(mut self, stop: impl Future<Output = ()>) -> Result<(), DhcpError> {
        tokio::pin!(stop);
        loop {
            let due = self.prober.next();
            tokio::select! {
                () = &mut stop => return Ok(()),
                arrival = self.wire.request() => self.requests(arrival?),
                claim = self.wire.claim() => self.claimed(claim?),
                () = at(due), if due.is_some() => self.ask(),
            }
        }
    }

    /// Handles one request, and those that wait behind it.
    fn requests(&mut self, first: Arrival) {
        let mut actions = Vec::new();
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(arrival) = next else { break };
            let handled = match &mut self.server {
                Server::Full(full, _) => full.handle(&arrival, self.clock.now()),
                Server::Proxy(proxy) => proxy.handle(&arrival),
            };
            actions.extend(handled.into_iter().map(|action| (action, arrival.to_pxe_port)));
            next = self.wire.waiting_request();
        }
        self.act(actions);
    }

    fn claimed(&mut self, claim: (MacAddr, Ipv4Addr)) {
        if self.prober.claimed(claim) {
            let (owner, address) = claim;
            self.probed(address, Some(owner));
        }
    }

    fn ask(&mut self) {
        for step in self.prober.due(Instant::now()) {
            match step {
                Step::Ask(address) => self.wire.ask(address),
                Step::Unused(address) => self.probed(address, None),
            }
        }
    }

    fn probed(&mut self, address: Ipv4Addr, owner: Option<MacAddr>) {
        let Server::Full(full, _) = &mut self.server else {
            return;
        };
        let actions = full.probed(address, owner, self.clock.now());
        self.act(actions.into_iter().map(|action| (action, false)).collect());
    }

    /// Saves the leases first, then sends the answers that promise them. If the leases cannot be saved, no
    /// answer goes out.
    fn act(&mut self, actions: Vec<(Action, bool)>) {
        let kept = self.keep();
        for (action, from_pxe_port) in actions {
            match action {
                Action::Send(packet, to) if kept => self.wire.send(&packet, to, from_pxe_port),
                Action::Send(..) => {}
                Action::Probe(address) => self.prober.start(address, Instant::now()),
                Action::Event(event) => self.tell(event),
            }
        }
    }

    fn keep(&mut self) -> bool {
        let Server::Full(full, file) = &mut self.server else {
            return true;
        };
        let Some(kept) = full.unsaved(self.clock.now()) else {
            return true;
        };
        if let Err(err) = file.save(&self.clock.for_file(kept)) {
            self.tell(DhcpEvent::Warning(format!("{err}; no address is given")));
            return false;
        }
        full.set_saved();
        true
    }

    fn tell(&mut self, event: DhcpEvent) {
        if let DhcpEvent::Warning(text) = &event
            && !self.warned.is_new(text, Instant::now())
        {
            return;
        }
        (self.events)(event);
    }
}

async fn at(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}

/// Recent warnings and their times.
#[derive(Debug, Default)]
struct Warned(VecDeque<(Instant, String)>);

impl Warned {
    fn is_new(&mut self, text: &str, now: Instant) -> bool {
        while self.0.front().is_some_and(|(told, _)| *told + WARN_AGAIN <= now) {
            self.0.pop_front();
        }
        if self.0.len() >= MAX_WARNINGS || self.0.iter().any(|(_, told)| told == text) {
            return false;
        }
        self.0.push_back((now, text.to_owned()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_told_again_after_a_minute_and_a_flood_is_not_told() {
        let (mut warned, start) = (Warned::default(), Instant::now());
        assert!(warned.is_new("pool", start));
        assert!(!warned.is_new("pool", start));
        for index in 1..MAX_WARNINGS {
            assert!(warned.is_new(&index.to_string(), start), "{index}");
        }
        assert!(!warned.is_new("one too many", start));
        assert!(warned.is_new("pool", start + WARN_AGAIN));
    }
}
