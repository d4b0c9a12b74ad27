//! The DHCP server that gives addresses (RFC 2131 §4.3). Pure: packets, ARP results and the time go in,
//! [`Action`]s come out.
//!
//! The server checks by ARP that an address is unused before it gives the address away (`Action::Probe`). The
//! request waits until the caller reports the result ([`Full::probed`]). Addresses behind a relay cannot be
//! checked: ARP does not cross routers.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ka_dhcp::{CLIENT_PORT, DhcpOption, MessageType, Outgoing, Packet};
use ka_mac::MacAddr;

use crate::dhcp::answer::{Action, Arrival, Destination, add_boot, event_of, pxe_port};
use crate::dhcp::config::{DhcpConfig, FullConfig, KnownMachine, Pool};
use crate::dhcp::iface::Subnet;
use crate::dhcp::lease::{Kept, Leases, QUARANTINE, UnixTime};
use crate::dhcp::vendor::{Client, IPXE_NO_PROXY, IPXE_OPTIONS};
use crate::dhcp::{BootFileFor, DhcpEvent};

/// Largest number of requests that wait for an ARP result: all machines of a large room switched on together.
/// Further machines repeat their requests by themselves.
const MAX_WAITING: usize = 1024;

/// Addresses and settings of one subnet.
#[derive(Debug, Clone)]
struct Scope {
    subnet: Subnet,
    pool: Pool,
    router: Option<Ipv4Addr>,
    relayed: bool,
}

/// A request that waits for an ARP result, and the answer it will then get.
#[derive(Debug, Clone)]
struct Waiting {
    arrival: Arrival,
    grant: MessageType,
}

/// The DHCP server of `full` mode.
pub(crate) struct Full {
    server: Ipv4Addr,
    scopes: Vec<Scope>,
    leases: Leases,
    lease_time: Duration,
    dns: Vec<Ipv4Addr>,
    domain: Option<String>,
    names: HashMap<MacAddr, String>,
    boot: BootFileFor,
    waiting: HashMap<Ipv4Addr, Waiting>,
    changed: bool,
}

impl Full {
    /// Creates a server. `own` is its address and prefix; the caller has checked the configuration against
    /// it.
    pub(crate) fn new(
        own: Subnet,
        config: &DhcpConfig,
        full: &FullConfig,
        kept: &Kept,
        boot: BootFileFor,
    ) -> Self {
        let scopes = scopes(own, full);
        let usable =
            |address| scopes.iter().any(|scope| scope.subnet.has_host(address)) && address != own.address;
        let named = |machine: &KnownMachine| Some((machine.mac, machine.name.clone()?));
        Self {
            server: own.address,
            leases: Leases::new(&config.known, kept, usable),
            scopes,
            lease_time: full.lease_time,
            dns: full.dns.clone(),
            domain: full.domain.clone(),
            names: config.known.iter().filter_map(named).collect(),
            boot,
            waiting: HashMap::new(),
            changed: false,
        }
    }

    /// Returns the leases that must be on disk before the answers go out. `None` while nothing has changed.
    pub(crate) fn unsaved(&self, now: UnixTime) -> Option<Kept> {
        self.changed.then(|| self.leases.kept(now))
    }

    /// Records that the leases returned by [`Self::unsaved`] are on disk.
    pub(crate) fn set_saved(&mut self) {
        self.changed = false;
    }

    pub(crate) fn handle(&mut self, arrival: &Arrival, now: UnixTime) -> Vec<Action> {
        let client = Client::of(&arrival.packet);
        if arrival.to_pxe_port {
            return pxe_port(arrival, &client, self.server, &self.boot)
                .into_iter()
                .collect();
        }
        let mut actions: Vec<Action> = event_of(&client, &arrival.packet)
            .map(Action::Event)
            .into_iter()
            .collect();
        actions.extend(match arrival.packet.kind() {
            MessageType::Discover => self.discover(arrival, now),
            MessageType::Request => self.request(arrival, now),
            MessageType::Decline => self.decline(&arrival.packet, now),
            MessageType::Release => self.release(&arrival.packet, now),
            MessageType::Inform => self.inform(arrival),
            _ => Vec::new(),
        });
        actions
    }

    /// Takes an ARP result: the card that has the address, or `None` if no card answered.
    pub(crate) fn probed(&mut self, address: Ipv4Addr, owner: Option<MacAddr>, now: UnixTime) -> Vec<Action> {
        let Some(Waiting { arrival, grant }) = self.waiting.remove(&address) else {
            return Vec::new();
        };
        let mac = arrival.packet.mac();
        // The machine itself may still use the address and answer, for instance a system that restarted into
        // its ROM.
        if let Some(owner) = owner.filter(|owner| *owner != mac) {
            self.leases.quarantine(address, now);
            self.changed = true;
            let minutes = QUARANTINE.as_secs() / 60;
            let mut actions = vec![warning(format!(
                "{address} is used by {owner} without a lease: not given to anyone for {minutes} minutes"
            ))];
            actions.extend(match grant {
                MessageType::Offer => self.discover(&arrival, now),
                _ => vec![self.nak(&arrival.packet, "address in use")],
            });
            return actions;
        }
        if !self.leases.set_checked(mac, address) {
            return Vec::new();
        }
        match grant {
            MessageType::Offer => self
                .grant(&arrival, MessageType::Offer, address)
                .into_iter()
                .collect(),
            _ => self.ack(&arrival, address, now),
        }
    }

    fn discover(&mut self, arrival: &Arrival, now: UnixTime) -> Vec<Action> {
        let request = &arrival.packet;
        let mac = request.mac();
        let Some(scope) = self.scope(request).cloned() else {
            return no_scope(request);
        };
        let own = |address| scope.subnet.has_host(address);
        let Some(address) = self
            .leases
            .choose(mac, &scope.pool, own, request.requested(), now)
        else {
            return vec![self.exhausted(&scope.pool, mac, now)];
        };
        let mut actions = Vec::new();
        if let Some(fixed) = self
            .leases
            .fixed(mac)
            .filter(|fixed| own(*fixed) && *fixed != address)
        {
            actions.push(warning(format!(
                "{fixed}, the address of {mac} in the node list, is used by another machine: it gets {address} instead"
            )));
        }
        self.leases.offer(mac, address, now);
        actions.extend(self.after_check(&scope, arrival, MessageType::Offer, address, now));
        actions
    }

    /// Grants the address at once if no ARP check is needed or possible, else after the check.
    fn after_check(
        &mut self,
        scope: &Scope,
        arrival: &Arrival,
        grant: MessageType,
        address: Ipv4Addr,
        now: UnixTime,
    ) -> Vec<Action> {
        if scope.relayed || self.leases.is_checked(arrival.packet.mac(), address, now) {
            return match grant {
                MessageType::Offer => self.grant(arrival, grant, address).into_iter().collect(),
                _ => self.ack(arrival, address, now),
            };
        }
        let waiting = Waiting {
            arrival: arrival.clone(),
            grant,
        };
        // A repetition replaces the first request: the client now waits for the newer transaction.
        if let Some(former) = self.waiting.get_mut(&address) {
            *former = waiting;
            return Vec::new();
        }
        if self.waiting.len() >= MAX_WAITING {
            return Vec::new();
        }
        self.waiting.insert(address, waiting);
        vec![Action::Probe(address)]
    }

    /// Handles REQUEST in its four forms (RFC 2131 §4.3.2, table 4).
    fn request(&mut self, arrival: &Arrival, now: UnixTime) -> Vec<Action> {
        let request = &arrival.packet;
        match (request.server_id(), request.requested(), request.ciaddr()) {
            (Some(chosen), requested, own) if chosen == self.server => match requested.or(own) {
                Some(address) => self.selecting(arrival, address, now),
                None => vec![self.nak(request, "no address requested")],
            },
            (Some(other), ..) => self.selected_other(request, other),
            (None, _, Some(own)) => self.renewing_or_rebinding(arrival, own, now),
            (None, Some(requested), None) => self.init_reboot(arrival, requested, now),
            (None, None, None) => Vec::new(),
        }
    }

    /// The client accepts this server's offer.
    fn selecting(&mut self, arrival: &Arrival, address: Ipv4Addr, now: UnixTime) -> Vec<Action> {
        let (request, mac) = (&arrival.packet, arrival.packet.mac());
        let Some(scope) = self.scope(request).cloned() else {
            return no_scope(request);
        };
        // The client repeats its REQUEST because the ACK was lost.
        if self.leases.is_active(mac, address, now) && self.leases.offered(mac, now) != Some(address) {
            return self.ack(arrival, address, now);
        }
        if !self.can_have(&scope, mac, address, now) {
            return vec![self.nak(request, "not the address that was offered")];
        }
        if self.leases.offered(mac, now) != Some(address) {
            // The offer was made before a restart of the server, or too long ago. The address is still free.
            self.leases.offer(mac, address, now);
        }
        self.after_check(&scope, arrival, MessageType::Ack, address, now)
    }

    /// The client accepts another server's offer. In `full` mode there should be no other server.
    fn selected_other(&mut self, request: &Packet, other: Ipv4Addr) -> Vec<Action> {
        let mac = request.mac();
        self.leases.withdraw(mac);
        self.waiting
            .retain(|_, waiting| waiting.arrival.packet.mac() != mac);
        vec![warning(format!(
            "another DHCP server, {other}, gives addresses on this wire ({mac} takes one): stop it, or use --dhcp proxy"
        ))]
    }

    /// The client remembers an address. Without a record of the client the server is silent, unless the
    /// address is of another network.
    fn init_reboot(&mut self, arrival: &Arrival, address: Ipv4Addr, now: UnixTime) -> Vec<Action> {
        let (request, mac) = (&arrival.packet, arrival.packet.mac());
        let Some(scope) = self.scope(request).cloned() else {
            return Vec::new();
        };
        if !scope.subnet.contains(address) {
            return vec![self.nak(request, "address of another network")];
        }
        match self.leases.fixed(mac).or(self.leases.last_of(mac)) {
            Some(_) => self.prolong(&scope, arrival, address, now),
            None => Vec::new(),
        }
    }

    /// The client wants to keep an address that it uses. A RENEWING client asks this server alone, a
    /// REBINDING client asks all servers.
    fn renewing_or_rebinding(&mut self, arrival: &Arrival, address: Ipv4Addr, now: UnixTime) -> Vec<Action> {
        let (request, mac) = (&arrival.packet, arrival.packet.mac());
        let Some(scope) = self.scope(request).cloned() else {
            return Vec::new();
        };
        let known = self.leases.fixed(mac).or(self.leases.last_of(mac)).is_some();
        if known || arrival.unicast {
            return self.prolong(&scope, arrival, address, now);
        }
        Vec::new()
    }

    /// Extends the lease if the address belongs to the machine or to no other. Answers NAK otherwise.
    fn prolong(&mut self, scope: &Scope, arrival: &Arrival, address: Ipv4Addr, now: UnixTime) -> Vec<Action> {
        let (request, mac) = (&arrival.packet, arrival.packet.mac());
        let fixed = self
            .leases
            .fixed(mac)
            .filter(|fixed| scope.subnet.has_host(*fixed));
        let moved = match fixed.filter(|fixed| self.leases.is_free_for(mac, *fixed, now)) {
            Some(fixed) => fixed != address,
            None => self.leases.last_of(mac).is_some_and(|last| last != address),
        };
        if moved || !self.can_have(scope, mac, address, now) {
            return vec![self.nak(request, "not your address")];
        }
        if self.leases.is_active(mac, address, now) {
            return self.ack(arrival, address, now);
        }
        self.leases.offer(mac, address, now);
        self.after_check(scope, arrival, MessageType::Ack, address, now)
    }

    /// The client found that another machine uses its address. Only the holder of an address may decline it,
    /// since otherwise any machine could empty the pool.
    fn decline(&mut self, request: &Packet, now: UnixTime) -> Vec<Action> {
        let mac = request.mac();
        let (Some(address), true) = (request.requested(), self.is_meant(request)) else {
            return Vec::new();
        };
        let has = self.leases.offered(mac, now) == Some(address) || self.leases.is_active(mac, address, now);
        if !has {
            return Vec::new();
        }
        self.leases.quarantine(address, now);
        self.changed = true;
        let minutes = QUARANTINE.as_secs() / 60;
        vec![warning(format!(
            "{mac} found {address} used by another machine: not given to anyone for {minutes} minutes"
        ))]
    }

    fn release(&mut self, request: &Packet, now: UnixTime) -> Vec<Action> {
        if let (Some(address), true) = (request.ciaddr(), self.is_meant(request)) {
            self.changed |= self.leases.release(request.mac(), address, now);
        }
        Vec::new()
    }

    /// The client has an address from elsewhere and wants the other settings (RFC 2131 §4.3.5). The answer
    /// has no address and no lease time.
    fn inform(&mut self, arrival: &Arrival) -> Vec<Action> {
        let request = &arrival.packet;
        let own = request.ciaddr().unwrap_or(*arrival.from.ip());
        let scope = self.scopes.iter().find(|scope| scope.subnet.has_host(own));
        let Some(scope) = scope else {
            return Vec::new();
        };
        let mut ack = Outgoing::answer(request, MessageType::Ack, self.server);
        ack.set_ciaddr(own);
        self.add_network(&mut ack, request, scope);
        let to = std::net::SocketAddrV4::new(own, CLIENT_PORT);
        vec![Action::Send(ack, Destination::Address(to))]
    }

    fn ack(&mut self, arrival: &Arrival, address: Ipv4Addr, now: UnixTime) -> Vec<Action> {
        let mac = arrival.packet.mac();
        let is_new = !self.leases.is_active(mac, address, now);
        let Some(ack) = self.grant(arrival, MessageType::Ack, address) else {
            return Vec::new();
        };
        self.leases.commit(mac, address, now.after(self.lease_time));
        self.changed = true;
        let event = is_new.then_some(Action::Event(DhcpEvent::Leased { mac, address }));
        [ack].into_iter().chain(event).collect()
    }

    fn grant(&self, arrival: &Arrival, kind: MessageType, address: Ipv4Addr) -> Option<Action> {
        let request = &arrival.packet;
        let scope = self.scopes.iter().find(|scope| scope.subnet.contains(address))?;
        let mut grant = Outgoing::answer(request, kind, self.server);
        grant.set_yiaddr(address);
        if let (MessageType::Ack, Some(own)) = (kind, request.ciaddr()) {
            grant.set_ciaddr(own);
        }
        let lease = u32::try_from(self.lease_time.as_secs()).unwrap_or(u32::MAX);
        grant.push(&DhcpOption::AddressLeaseTime(lease));
        // Default times of RFC 2131 §4.4.5: one half, and seven eighths.
        grant.push(&DhcpOption::Renewal(lease / 2));
        grant.push(&DhcpOption::Rebinding(lease - lease / 8));
        self.add_network(&mut grant, request, scope);
        Some(Action::Send(grant, Destination::of_grant(request, address)))
    }

    fn add_network(&self, answer: &mut Outgoing, request: &Packet, scope: &Scope) {
        answer.push(&DhcpOption::SubnetMask(scope.subnet.mask()));
        answer.push(&DhcpOption::BroadcastAddr(scope.subnet.broadcast()));
        // The relay of a relayed subnet is a router.
        let relay = scope.relayed.then(|| request.giaddr()).flatten();
        if let Some(router) = scope.router.or(relay) {
            answer.push(&DhcpOption::Router(vec![router]));
        }
        if let Client::Boot(machine) = Client::of(request)
            && let Some(file) = (self.boot)(&machine)
        {
            add_boot(answer, request, &machine, &file, self.server);
            if machine.ipxe {
                answer.push_raw(IPXE_OPTIONS, &IPXE_NO_PROXY);
            }
        }
        if let Some(name) = self.names.get(&request.mac()) {
            answer.push_host_name(name);
        }
        if !self.dns.is_empty() {
            answer.push(&DhcpOption::DomainNameServer(self.dns.clone()));
        }
        if let Some(domain) = &self.domain {
            answer.push(&DhcpOption::DomainName(domain.clone()));
        }
    }

    fn nak(&self, request: &Packet, why: &str) -> Action {
        let mut nak = Outgoing::answer(request, MessageType::Nak, self.server);
        nak.push(&DhcpOption::Message(why.to_owned()));
        // The client's address is wrong, so the relay must broadcast the answer (RFC 2131 §4.3.2).
        nak.set_broadcast();
        Action::Send(nak, Destination::of_refusal(request))
    }

    fn is_meant(&self, request: &Packet) -> bool {
        request.server_id().is_none_or(|meant| meant == self.server)
    }

    fn can_have(&self, scope: &Scope, mac: MacAddr, address: Ipv4Addr, now: UnixTime) -> bool {
        let ours = scope.pool.contains(address) || self.leases.fixed(mac) == Some(address);
        ours && scope.subnet.has_host(address) && self.leases.is_free_for(mac, address, now)
    }

    /// Finds the client's subnet: by the relay's link or address, else by the client's address, else the
    /// server's own.
    fn scope(&self, request: &Packet) -> Option<&Scope> {
        let scope_of = |address: Ipv4Addr| self.scopes.iter().find(|scope| scope.subnet.contains(address));
        match request
            .link()
            .filter(|_| request.giaddr().is_some())
            .or(request.giaddr())
        {
            Some(link) => scope_of(link),
            None => request.ciaddr().and_then(scope_of).or(self.scopes.first()),
        }
    }

    fn exhausted(&self, pool: &Pool, mac: MacAddr, now: UnixTime) -> Action {
        let (leased, quarantined) = self.leases.taken(pool, now);
        warning(format!(
            "pool {pool} is used up ({leased} leased, {quarantined} used by others): no address for {mac}; give more with \
             --dhcp full:FIRST-LAST"
        ))
    }
}

fn scopes(own: Subnet, full: &FullConfig) -> Vec<Scope> {
    let mut scopes = vec![Scope {
        subnet: own,
        pool: full.pool,
        router: full.router,
        relayed: false,
    }];
    scopes.extend(full.relayed.iter().map(|relayed| Scope {
        subnet: relayed.subnet(),
        pool: relayed.pool,
        router: relayed.router,
        relayed: true,
    }));
    scopes
}

fn no_scope(request: &Packet) -> Vec<Action> {
    let relay = request.giaddr().unwrap_or(Ipv4Addr::UNSPECIFIED);
    vec![warning(format!(
        "no pool for machines behind the relay {relay} ({}): add FIRST-LAST/PREFIX to --dhcp full:",
        request.mac()
    ))]
}

fn warning(text: String) -> Action {
    Action::Event(DhcpEvent::Warning(text))
}
